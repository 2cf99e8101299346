"""Bodies: the octets of messages, header and body as admitted, each stored once however many recipients it has.

Up to INLINE they are in the row, above in a segment file (relay.store.segments). On PostgreSQL, which nodes share, they are in the row (bytea) up to
pieces.LARGE, above in rows of their own (relay.store.pieces).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import Connection, LargeBinary, func, select

from relay.errors import NotFound
from relay.store import bulk
from relay.store import pieces as cut
from relay.store.schema import bodies
from relay.store.segments import PIECE, Segments

INLINE = 16_000  # bytes; above, a second flush costs less than writing the octets twice, to the WAL and to the database

_PLACE = select(bodies.c.size, bodies.c.segment, bodies.c.offset, bodies.c.crc)
_WHOLE = _PLACE.add_columns(bodies.c.data)


def put(conn: Connection, number: int, octets: bytes, now: float) -> None:
    """Store one body under this id."""
    put_many(conn, [(number, octets, now)])


def put_many(conn: Connection, given: Sequence[tuple[int, bytes | Sequence[bytes], float]]) -> None:
    """Store bodies: id, octets whole or in pieces, UTC seconds. Segments are flushed by whoever commits."""
    segments: Segments | None = conn.info.get("segments")
    rows, large = [], []
    for number, octets, now in given:
        pieces = (octets,) if isinstance(octets, bytes) else octets
        size = sum([len(piece) for piece in pieces])
        if size <= INLINE or (segments is None and size < cut.LARGE):
            rows.append((number, size, b"".join(pieces), None, None, None, now))
        elif segments is None:
            rows.append((number, size, None, None, None, None, now))
            large.append((number, pieces))
        else:
            rows.append((number, size, None, *segments.append(*pieces), now))
    bulk.insert(conn, bodies, rows)
    for number, pieces in large:
        cut.put(conn, number, pieces)


def get(conn: Connection, number: int) -> bytes:
    """The octets; raises NotFound when retention has dropped them, StoreError when the disk damaged them."""
    row = _row(conn, number, _WHOLE)
    if row.data is not None:
        return bytes(row.data)
    if row.segment is None:
        return cut.read(conn, number, row.size)
    segments: Segments = conn.info["segments"]
    try:
        return segments.read(row.segment, row.offset, row.size, row.crc)
    except FileNotFoundError:  # its segment was compacted after we read the row
        row = _row(conn, number, _PLACE)
        return segments.read(row.segment, row.offset, row.size, row.crc)


def parted(conn: Connection, number: int) -> tuple[bytes, bytes]:
    """The octets as header with its empty line, and body, or whole with b"" behind them where they are small; raises as `get` does."""
    row = _row(conn, number, _WHOLE)
    if row.data is not None:
        return bytes(row.data), b""
    if row.segment is None:
        return cut.parted(conn, number, row.size)
    segments: Segments = conn.info["segments"]
    try:
        return segments.parted(row.segment, row.offset, row.size, row.crc)
    except FileNotFoundError:  # its segment was compacted after we read the row
        row = _row(conn, number, _PLACE)
        return segments.parted(row.segment, row.offset, row.size, row.crc)


def pieces(conn: Connection, number: int) -> Iterator[bytes]:
    """The octets in pieces of 256 kB, for bodies that should not be in memory at once; raises as get does.

    The row is read at once and the file as the pieces are asked for, so no transaction stays open; from PostgreSQL the octets come whole.
    """
    row = _row(conn, number, _PLACE)
    if row.segment is not None:
        segments: Segments = conn.info["segments"]
        return segments.pieces(row.segment, row.offset, row.size, row.crc)
    octets = get(conn, number)
    return (octets[start:start + PIECE] for start in range(0, len(octets), PIECE))


def beginning(conn: Connection, number: int, most: int) -> bytes:
    """The first octets, at most `most` and what the last piece has beyond; all of a smaller body, then as `get` gives it. Raises as `get` does."""
    row = _row(conn, number, _PLACE)
    if row.size <= most:
        return get(conn, number)
    if row.segment is None:
        inline = conn.scalar(select(func.substr(bodies.c.data, 1, most, type_=LargeBinary)).where(bodies.c.id == number))
        return cut.beginning(conn, number, most) if inline is None else bytes(inline)
    try:
        return b"".join(islice(pieces(conn, number), -(-most // PIECE)))
    except FileNotFoundError:  # its segment was compacted after we read the row
        return b"".join(islice(pieces(conn, number), -(-most // PIECE)))


def drop(conn: Connection, numbers: Iterable[int]) -> None:
    """Forget these bodies; octets in segments go when their segment does."""
    bulk.delete(conn, bodies, "id", numbers)


def _row(conn: Connection, number: int, statement):
    row = conn.execute(statement.where(bodies.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("the message is no longer kept")
    return row
