"""Point reads run on the driver itself: what the caller names and what the dialect adds both find their place. Packed rows are those of the database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, Column, Integer, MetaData, Select, Table, Text, bindparam, insert, literal_column, select

from relay.store import bulk
from relay.store.engine import Store
from relay.store.hot import Hot, Packed
from relay.store.schema import projects


@pytest.mark.parametrize(("statement", "values", "found"), [
    pytest.param(select(projects.c.name), {}, [("default",)], id="nothing to fill in"),
    pytest.param(select(projects.c.name).where(projects.c.name == bindparam("name")), {"name": "default"}, [("default",)], id="a value"),
    pytest.param(select(projects.c.name).where(projects.c.name == bindparam("name")), {"name": "other"}, [], id="a value that nothing has"),
    pytest.param(select(projects.c.name).where(projects.c.name == bindparam("name", None)), {"name": None}, [], id="no value"),
    pytest.param(select(projects.c.name).limit(literal_column("1")), {}, [("default",)], id="a limit, to which SQLite adds an offset"),
    pytest.param(select(projects.c.name).where(projects.c.name != "x").limit(1), {}, [("default",)], id="values of the statement"),
])
async def test_a_statement_gives_its_rows_every_time(store: Store, statement: Select[Any], values: dict[str, Any], found: list[Any]) -> None:
    hot = Hot(statement)
    for _ in range(2):
        assert await store.read(lambda conn: hot(conn, **values)) == found


async def test_a_value_that_was_forgotten_is_an_error(store: Store) -> None:
    hot = Hot(select(projects.c.name).where(projects.c.name == bindparam("name")))
    with pytest.raises(KeyError, match="name"):
        await store.read(hot)


THINGS = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("name", Text), Column("good", Boolean), Column("more", JSON))
ROWS = [(1, 'a "b" \\ \u00e9\U0001f600', True, {"n": 1.5, "s": ["x", None]}), (2, "", False, []),
        (3, None, None, {}), (4, "\r\n\t", True, {"deep": {"er": "\u2028"}})]


async def things(store: Store) -> None:
    def made(conn):
        THINGS.drop(conn, checkfirst=True)
        THINGS.create(conn)
        conn.execute(insert(THINGS), [dict(zip(("id", "name", "good", "more"), row, strict=True)) for row in ROWS])

    await store.write(made)


@pytest.mark.parametrize(("statement", "values", "found"), [
    pytest.param(select(THINGS).order_by(THINGS.c.id.desc()).limit(10), {}, ROWS[::-1], id="every type, in order"),
    pytest.param(select(THINGS.c.name, THINGS.c.id).where(THINGS.c.id > bindparam("after")).order_by(THINGS.c.id).limit(bindparam("limit")),
                 {"after": 1, "limit": 2}, [("", 2), (None, 3)], id="a page"),
    pytest.param(select(THINGS).where(THINGS.c.id > 9), {}, [], id="none"),
    pytest.param(select(THINGS.c.id).where(THINGS.c.name.in_(("", "x"))), {}, [(2,)], id="one column"),
])
async def test_packed_rows_are_as_the_database_has_them(store: Store, statement: Select[Any], values: dict[str, Any], found: list[Any]) -> None:
    await things(store)
    packed = Packed(statement)
    for _ in range(2):
        assert [tuple(row) for row in await store.read(lambda conn: packed(conn, **values))] == found


async def test_numbers_are_bound_when_the_statement_runs(store: Store) -> None:
    await things(store)
    embedded = store.dialect == "sqlite"
    packed = Packed(select(THINGS.c.id).where(bulk.named(embedded, THINGS.c.id, "numbers")).order_by(THINGS.c.id).limit(10))
    for wanted, found in (((3, 1, 7), [1, 3]), ((), []), ((2, 2**62), [2])):
        assert [row[0] for row in await store.read(lambda conn, these=wanted: packed(conn, numbers=bulk.listed(embedded, these)))] == found
