"""Point reads that every message needs: a statement compiled once for each database and run on the driver itself.

SQLAlchemy's own way costs 60 to 80 us a statement, several times what SQLite takes for an indexed row. Rows are plain tuples as the driver gives them: JSON
may be text, which `value` reads.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, Select

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


def value(json: Any) -> Any:
    """What a JSON column holds."""
    return orjson.loads(json) if isinstance(json, (str, bytes)) else json
