"""Reads of the hot path, made ready once.

`Hot` is for point reads that every message needs: compiled once for each database and run on the driver itself, since SQLAlchemy's own way costs 60 to 80 us
a statement, several times what SQLite takes for an indexed row. Its rows are plain tuples as the driver gives them: JSON may be text, which `value` reads.

`Packed` is for hundreds of rows: writing a statement of many clauses anew costs up to 2 ms, more than its rows do, and SQLite's driver lets go of the
interpreter at every row, for which a busy event loop is then waited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import JSON, Boolean, Connection, Select, func, select

from relay.errors import StoreError


class Hot:
    """`Hot(select)(conn, name=value, ...)` gives the rows; the names are those of the statement's bindparams.

    Values that the statement or the dialect brings itself, as SQLite the OFFSET of a LIMIT, need no caller.
    """

    __slots__ = ("_compiled", "_statement")

    def __init__(self, statement: Select[Any]):
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def __call__(self, conn: Connection, **values: Any) -> list[tuple[Any, ...]]:
        name = conn.dialect.name
        if name not in self._compiled:
            compiled = self._statement.compile(dialect=conn.dialect)
            order = tuple(compiled.positiontup or ())
            self._compiled[name] = str(compiled), order, {each: compiled.params[each] for each in order if compiled.binds[each].value is not None}
        sql, order, own = self._compiled[name]
        arguments = tuple(values[each] if each in values else own[each] for each in order)
        if name != "sqlite":
            return [tuple(row) for row in conn.exec_driver_sql(sql, arguments)]
        try:
            return conn.connection.driver_connection.execute(sql, arguments).fetchall()
        except conn.dialect.dbapi.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error


class Packed:
    """`Packed(select)(conn, name=value, ...)` gives the rows, a few hundred at a time; on SQLite they come as one JSON text.

    Columns are numbers, texts, booleans or JSON, or null. Rows are in the statement's order where it has a limit.
    """

    __slots__ = ("_one", "_readers", "_statement")

    def __init__(self, statement: Select[Any]):
        columns = statement.subquery().c
        self._statement, self._one = statement, select(func.json_group_array(func.json_array(*columns)))
        readers = [(n, orjson.loads if isinstance(c.type, JSON) else bool if isinstance(c.type, Boolean) else None) for n, c in enumerate(columns)]
        self._readers = [(n, read) for n, read in readers if read is not None]

    def __call__(self, conn: Connection, **values: Any) -> list[Sequence[Any]]:
        if conn.dialect.name != "sqlite":
            return list(conn.execute(self._statement, values).all())
        rows = orjson.loads(conn.scalar(self._one, values) or "[]")
        for position, read in self._readers:
            for row in rows:
                if row[position] is not None:
                    row[position] = read(row[position])
        return rows


def value(json: Any) -> Any:
    """What a JSON column holds."""
    return orjson.loads(json) if isinstance(json, (str, bytes)) else json
