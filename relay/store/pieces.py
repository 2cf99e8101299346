"""Large bodies on PostgreSQL: cut into rows of a megabyte, read and written one at a time.

A value of a row travels whole and is held several times over, by the driver, its socket and the server: one of 350 MB would cost more than a gigabyte on
either side. The rows are written in the transaction of the body's own row and go with it (ON DELETE CASCADE).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import count

from sqlalchemy import Connection, bindparam, select

from relay.errors import NotFound
from relay.store.schema import body_pieces as table

LARGE = 4_000_000  # octets of a body from which it is cut
PIECE = 1_000_000  # octets of a row; the header of a message, a quarter of that at most, stands whole in the first

_INSERT = "INSERT INTO body_pieces (body_id, number, data) VALUES ($1, $2, $3)"
_ONE = select(table.c.data).where(table.c.body_id == bindparam("body"), table.c.number == bindparam("piece"))


def put(conn: Connection, body_id: int, given: Sequence[bytes]) -> None:
    """Write the octets, which come in some pieces; the body's row is there already."""
    views = (memoryview(octets)[start:start + PIECE] for octets in given for start in range(0, len(octets), PIECE))
    for number, view in enumerate(views):
        conn.exec_driver_sql(_INSERT, (body_id, number, view))


def read(conn: Connection, body_id: int, size: int) -> bytes:
    """The octets, in memory once; raises NotFound when they are no longer all there."""
    return _joined(b"", _each(conn, body_id), size)


def parted(conn: Connection, body_id: int, size: int) -> tuple[bytes, bytes]:
    """The octets as header with its empty line, and body, or whole with b"" behind them; raises as `read` does."""
    each = _each(conn, body_id)
    first = next(each, b"")
    end = first.find(b"\r\n\r\n") + 4
    if end < 4:
        return _joined(first, each, size), b""
    return first[:end], _joined(first[end:], each, size - end)


def beginning(conn: Connection, body_id: int, most: int) -> bytes:
    """The first octets, at most `most`."""
    found = io.BytesIO()
    for piece in _each(conn, body_id):
        found.write(piece)
        if found.tell() >= most:
            break
    return found.getvalue()[:most]


def _each(conn: Connection, body_id: int) -> Iterator[bytes]:
    for number in count():
        piece = conn.scalar(_ONE, {"body": body_id, "piece": number})
        if piece is None:
            return
        yield piece


def _joined(first: bytes, following: Iterator[bytes], size: int) -> bytes:
    out = io.BytesIO()
    out.write(first)
    for piece in following:
        out.write(piece)
    if out.tell() != size:
        raise NotFound("the message is no longer kept")
    return out.getvalue()
