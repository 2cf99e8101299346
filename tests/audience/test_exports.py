"""The lines of an export are those that a CSV writer makes of its defused cells, whichever way they were written."""

from __future__ import annotations

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.audience import exports
from relay.audience.cells import defused
from relay.store.audience import exports as rows
from tests.audience.conftest import PROJECT

CELLS = st.text(st.sampled_from("ab,;\"'=+-@ \t\r\n\u00a0\u2028é1"), max_size=6)


def _cells(first: str, last: str, properties: dict[str, object], names: list[str]) -> list[str]:
    row = (1, "ann@example.com", first or None, last or None, 0, '["news", "vip"]', 0.0, 0.0, None, None, orjson.dumps(properties).decode())
    [found] = csv.reader(io.StringIO(exports._rows(names)([row]).decode(), newline=""))
    return found


@given(CELLS, CELLS, CELLS)
def test_a_line_reads_back_as_its_defused_cells(first, last, value):
    found = _cells(first, last, {"plan": value, "seats": 3} if value else {"seats": 3}, ["plan", "seats"])
    assert found[:3] == ["ann@example.com", defused(first), defused(last)]
    assert found[3:9] == ["false", "news,vip", "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z", "", ""]
    assert found[9:] == [defused(value), "3", '{"seats":3}']


@pytest.mark.parametrize(("tags", "cell"), [
    pytest.param("[]", "", id="none"),
    pytest.param('["a"]', "a", id="one"),
    pytest.param('["a", "b"]', "a,b", id="two"),
    pytest.param('["a;b"]', '["a;b"]', id="a-separator-in-one"),
    pytest.param('["=1+1"]', "'=1+1", id="a-formula"),
])
def test_tags_in_one_cell(tags, cell):
    row = (1, "ann@example.com", None, None, 1, tags, 0.0, 0.0, None, None, "{}")
    [found] = csv.reader(io.StringIO(exports._rows([])([row]).decode()))
    assert found == ["ann@example.com", "", "", "true", cell, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z", "", "", ""]


def test_a_page_of_contacts_is_read_in_the_order_of_the_index(stored):
    """Also where nothing is known of the table yet, as after an import: PostgreSQL would sort all contacts that are left, for each page."""
    if stored.store.dialect == "sqlite":
        pytest.skip("the plan of SQLite does not depend on it")
    wanted = "EXPLAIN SELECT id, email FROM contacts WHERE project_id = 1 AND id > 0 ORDER BY id LIMIT 1000"

    def plan(conn):
        rows.people(conn, PROJECT, 0, None)
        return "\n".join(conn.exec_driver_sql(wanted).scalars())

    told = stored.read(plan)
    assert "Index Scan" in told
    assert "Sort" not in told
