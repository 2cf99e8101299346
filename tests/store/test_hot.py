"""Point reads run on the driver itself: what the caller names and what the dialect adds both find their place."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Select, bindparam, literal_column, select

from relay.store.engine import Store
from relay.store.hot import Hot
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
