"""Many rows in few statements, for the tables that every message passes through.

SQLite gets rows as `VALUES (...), (...)`, because its driver lets go of the interpreter at every step of a statement: with a busy event loop in the same
process each row of an executemany waits for the loop (measured: 1.7 ms instead of 9 us), and a statement of 32 rows waits once. PostgreSQL gets executemany,
which asyncpg sends as one pipelined batch. Both go around SQLAlchemy's compiler: its rows cost twice what the database's do.

Rows are tuples in the order of the columns; JSON is text already (`json`), booleans are bool.
"""

from __future__ import annotations

import json as stdlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import ARRAY, BigInteger, ColumnElement, Connection, Table, Text, any_, bindparam, cast, func, select

CHUNK = 32  # rows of a statement; SQLite's statement cache (relay.store.sqlite_file.STATEMENTS) holds the shapes of each table
WIDE = 96  # rows of an INSERT where there are so many: a batch over the API is a hundred
KEYS = 500  # ids of one IN (...)


def json(value: Any) -> str:
    """The value as JSON text that both databases take: no NUL, no lone surrogate."""
    if not value and isinstance(value, (dict, tuple, list)):
        return "{}" if isinstance(value, dict) else "[]"
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, or a type that is none of JSON's
        text = stdlib.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace").decode()
    return text.replace("\\u0000", "\\ufffd") if "\\u0000" in text else text


def plain(value: Any) -> Any:
    """The value as JSON has it: what a JSON column takes, wherever its texts come from."""
    return orjson.loads(json(value))


def clean(text: str, limit: int) -> str:
    """The text as a column of `limit` characters takes it; a remote's words must never wedge the queue."""
    if len(text) <= limit and text.isascii() and "\0" not in text:
        return text
    return text[:limit].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def raw(conn: Connection) -> Any:
    """The driver's own connection, on SQLite: its errors are the driver's, which relay.store.writes tells apart as well."""
    return conn.connection.dbapi_connection


def run(conn: Connection, sql: str, values: tuple[Any, ...] = ()) -> None:
    """One statement of the hot path, in the driver's own words."""
    if conn.dialect.name == "sqlite":
        raw(conn).execute(sql, values)
    else:
        conn.exec_driver_sql(sql, values)


def insert(conn: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows that have every column of the table but those that the database fills (events.xid)."""
    _insert(conn, table, rows, "")


def insert_new(conn: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """As insert; rows whose primary key is there already are left out, so that a repeated write does no harm."""
    _insert(conn, table, rows, " ON CONFLICT DO NOTHING")


def _insert(conn: Connection, table: Table, rows: Sequence[tuple[Any, ...]], tail: str) -> None:
    if conn.dialect.name != "sqlite":
        if rows:
            conn.exec_driver_sql(_insert_sql(table, 0, tail), list(rows))
        return
    execute = raw(conn).execute
    for part in _spans(rows):
        execute(_insert_sql(table, len(part), tail), tuple(chain.from_iterable(part)))


def update(conn: Connection, table: Table, key: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Set `columns` of the rows found by `key`; each tuple is the key and then the new values."""
    if conn.dialect.name != "sqlite":
        if rows:
            conn.exec_driver_sql(_update_sql(table, key, columns, 0), list(rows))
        return
    execute = raw(conn).execute
    for part in chunks(rows):
        execute(_update_sql(table, key, columns, len(part)), tuple(chain.from_iterable(part)))


def delete(conn: Connection, table: Table, key: str, keys: Iterable[int]) -> None:
    """Delete the rows whose `key` is one of `keys`."""
    for part in _slices(keys):
        run(conn, f"DELETE FROM {table.name} WHERE {key} {_in(conn, part)}", _args(conn, part))  # noqa: S608


def present(conn: Connection, table: Table, key: str, keys: Iterable[int]) -> set[int]:
    """Which of `keys` the table has; on PostgreSQL their rows are locked until the end of the transaction."""
    found: set[int] = set()
    for part in _slices(keys):
        where = f"FROM {table.name} WHERE {key} {_in(conn, part)}"
        if conn.dialect.name == "sqlite":
            found.update(orjson.loads(raw(conn).execute(f"SELECT json_group_array({key}) {where}", _args(conn, part)).fetchone()[0]))
        else:
            found.update(conn.exec_driver_sql(f"SELECT {key} {where} ORDER BY {key} FOR UPDATE", _args(conn, part)).scalars())
    return found


def take(conn: Connection, table: Table, key: str, keys: Mapping[int, bool]) -> set[int]:
    """Which of `keys` the table has; those marked true are deleted. On PostgreSQL all of them are locked in one order first, as `present` does."""
    if conn.dialect.name != "sqlite":
        found = present(conn, table, key, keys)
        delete(conn, table, key, [number for number in found if keys[number]])
        return found
    found = present(conn, table, key, [number for number, goes in keys.items() if not goes])
    for part in _slices([number for number, goes in keys.items() if goes]):
        rows = raw(conn).execute(f"DELETE FROM {table.name} WHERE {key} {_in(conn, part)} RETURNING {key}", _args(conn, part))  # noqa: S608
        found.update([number for number, in rows])
    return found


def among(conn: Connection, column: ColumnElement[int], numbers: Iterable[int]) -> ColumnElement[bool]:
    """Whether a column is one of these numbers, which are one parameter: a statement with hundreds costs more to write than to run."""
    listed = list(map(int, numbers))
    if conn.dialect.name == "sqlite":
        return column.in_(select(func.json_each(json(listed)).table_valued("value").c.value))
    return column == any_(cast(listed, ARRAY(BigInteger)))


def named(embedded: bool, column: ColumnElement[int], name: str) -> ColumnElement[bool]:
    """As `among`, of numbers that are bound to this name when the statement runs, as `listed` gives them; `embedded` on SQLite."""
    if embedded:
        return column.in_(select(func.json_each(bindparam(name, type_=Text)).table_valued("value").c.value))
    return column == any_(bindparam(name, type_=ARRAY(BigInteger)))


def listed(embedded: bool, numbers: Iterable[int]) -> str | list[int]:
    """The numbers as `named` takes them."""
    whole = list(map(int, numbers))
    return json(whole) if embedded else whole


def chunks(rows: Sequence[tuple[Any, ...]]) -> Iterable[Sequence[tuple[Any, ...]]]:
    """Pieces of CHUNK rows, and the rest."""
    return (rows[start:start + CHUNK] for start in range(0, len(rows), CHUNK))


def _spans(rows: Sequence[tuple[Any, ...]]) -> Iterable[Sequence[tuple[Any, ...]]]:
    """As chunks, but as many pieces of WIDE rows as there are first: two lengths and the rest are few shapes."""
    whole = len(rows) - len(rows) % WIDE
    yield from (rows[start:start + WIDE] for start in range(0, whole, WIDE))
    yield from chunks(rows[whole:])


def _slices(keys: Iterable[int]) -> Iterable[list[int]]:
    listed = sorted(keys)  # one order for everybody, so that two nodes never wait for each other
    for start in range(0, len(listed), KEYS):
        yield listed[start:start + KEYS]


def _in(conn: Connection, part: list[int]) -> str:
    """`IN (...)`: of few ids a statement that is prepared once, of many with the ids written out; one parameter where the server caches statements."""
    if conn.dialect.name != "sqlite":
        return "= ANY($1::bigint[])"
    return f"IN ({','.join('?' * len(part) if len(part) <= CHUNK else map(str, map(int, part)))})"


def _args(conn: Connection, part: list[int]) -> tuple[Any, ...]:
    if conn.dialect.name != "sqlite":
        return (part,)
    return tuple(part) if len(part) <= CHUNK else ()


@cache
def columns_of(table: Table) -> tuple[str, ...]:
    return tuple(c.name for c in table.columns if c.server_default is None)


@cache
def _insert_sql(table: Table, rows: int, tail: str) -> str:
    names = columns_of(table)
    head = f"INSERT INTO {table.name} ({', '.join(map(_quoted, names))}) VALUES "  # noqa: S608  names of our own tables
    if not rows:
        return f"{head}({', '.join(f'${n}' for n in range(1, len(names) + 1))}){tail}"
    return head + ", ".join([f"({', '.join('?' * len(names))})"] * rows) + tail


@cache
def _update_sql(table: Table, key: str, columns: tuple[str, ...], rows: int) -> str:
    if not rows:
        settings = ", ".join(f"{_quoted(name)} = ${n}" for n, name in enumerate(columns, 2))
        return f"UPDATE {table.name} SET {settings} WHERE {key} = $1"  # noqa: S608
    settings = ", ".join(f"{_quoted(name)} = v.column{n}" for n, name in enumerate(columns, 2))
    given = ", ".join([f"({', '.join('?' * (len(columns) + 1))})"] * rows)
    return f"UPDATE {table.name} SET {settings} FROM (VALUES {given}) AS v WHERE {table.name}.{key} = v.column1"  # noqa: S608


def _quoted(name: str) -> str:
    return f'"{name}"'


