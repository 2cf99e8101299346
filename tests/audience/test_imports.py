"""Slices of an import in their order, whatever comes between."""

from __future__ import annotations

import asyncio
import re
import secrets

import asyncpg
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.util import await_only

from relay.audience import imports
from relay.audience.imports import Imports, Order
from relay.audience.reading import JSON
from relay.clock import Clock
from relay.delivery.dns import Resolver
from relay.mail.ids import Maker
from relay.store import bulk, projects
from relay.store.audience import contacts, merging
from relay.store.audience.contacts import Filter
from relay.store.audience.imports import Import
from relay.store.audience.taking import Plan
from relay.store.engine import ASIDE, JOBS, Store
from tests.audience.conftest import NOW

MAKER = Maker(78)
ROWS = 23
PEOPLE = orjson.dumps([{"email": f"u{n}@example.com", "unsubscribed": n % 7 == 0} for n in range(ROWS)] + [{"email": "none"}])
FIGURES = {"total": ROWS + 1, "imported": ROWS, "updated": 0, "skipped": 0, "errors": 1, "duplicates": 0, "suppressed": 0}

_WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO contacts%'"
_QUEUED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'SELECT 1 FROM imports%'"


@pytest.fixture
def town(stored, monkeypatch):
    """A new project with one beside it, and imports in slices of a few rows."""
    monkeypatch.setattr(imports, "BESIDE", 4)
    project, beside = MAKER.next(), MAKER.next()
    for number in (project, beside):
        stored.write(projects.add, projects.Project(number, f"town-{number}", {}, NOW))
    mine = stored.call(_imports(stored))
    yield stored, mine, project, beside
    stored.call(mine.close())


async def _imports(stored):
    return Imports(stored.store, Resolver(["127.0.0.1:9"]), Clock(), MAKER, ["secret"])


async def started(mine, project):
    file = mine.place() / secrets.token_hex(16)
    file.write_bytes(PEOPLE)
    return await mine.start(Order(project, file.name, "people.json", JSON, Plan(), look=False))


def taken(stored, project, work):
    """What the import says, what the store says of it, and who is there."""
    told = stored.read(imports.imports.get, project, work.job.id)
    return told.state, {name: told.figures[name] for name in FIGURES}, len(stored.read(contacts.after, project, 0, Filter(), 100))


def test_each_row_is_in_once(town):
    stored, mine, project, beside = town

    async def run():
        work = await started(mine, project)
        await work.task
        return work

    assert taken(stored, project, stored.call(run())) == ("completed", FIGURES, ROWS)
    assert not stored.read(contacts.after, beside, 0, Filter(), 1)


def test_a_slice_that_had_to_give_up_is_taken_again(town):
    """Another transaction has the contacts locked until the first slice has given up once."""
    stored, mine, project, _ = town
    if stored.store.dialect == "sqlite":
        pytest.skip("one transaction at a time")

    async def run():
        holder = await asyncpg.connect(stored.url)
        try:
            async with holder.transaction():
                await holder.execute("LOCK TABLE contacts IN SHARE MODE")
                work = await started(mine, project)
                while not (first := await waiting()):
                    assert not work.task.done()
                while await waiting() & first:
                    assert not work.task.done()
        finally:
            await holder.close()
        await work.task
        return work

    async def waiting():
        return set(await stored.store.read(lambda conn: conn.exec_driver_sql(_WAITING).scalars().all()))

    assert taken(stored, project, stored.call(run())) == ("completed", FIGURES, ROWS)


def test_a_slice_waits_for_the_one_before_it(town):
    """It would else be loaded for nothing, and once more when its turn comes."""
    stored, _, project, _ = town
    if stored.store.dialect == "sqlite":
        pytest.skip("one transaction at a time")
    job = Import(MAKER.next(), project, imports.imports.RUNNING, {}, NOW)

    async def run():
        began, goes_on = asyncio.Event(), asyncio.Event()

        def first(conn):
            found = reach(conn, 0, 4)
            began.set()
            await_only(goes_on.wait())
            return found

        await stored.store.write(imports.imports.add, job)
        before = asyncio.create_task(stored.store.write(first, lane=ASIDE))
        await began.wait()
        after = asyncio.create_task(stored.store.write(reach, 4, 8, lane=JOBS))
        try:
            while not await stored.store.read(lambda conn: conn.exec_driver_sql(_QUEUED).scalars().all()):
                assert not after.done()
        finally:
            goes_on.set()
        return await asyncio.gather(before, after)

    def reach(conn, before, through):
        return merging.reach(conn, {"project": project, "import": job.id, "before": before, "through": through})

    assert None not in stored.call(run())
    assert stored.read(imports.imports.get, project, job.id).reached == 8


@pytest.mark.parametrize("statement", ["STOPPED", "SUPPRESSED", "LEFT_BEFORE"])
async def test_suppressions_are_found_by_address_however_few_there_were_when_the_plan_was_made(postgres_url, tmp_path, statement):
    """Each connection keeps its plans, and there may be a hundred thousand a minute later."""
    store = await Store.open(postgres_url, tmp_path, min_free=0, reserve=0)

    def explain(conn):
        merging.load(conn, [])
        values = {"project": 1, "now": NOW}
        return "\n".join(merging.run(conn, f"EXPLAIN {getattr(merging, statement)}", values).scalars())

    try:
        plan = await store.write(explain, lane=JOBS)
    finally:
        await store.close()
    assert re.search(r"suppressions .*\n *Index Cond: \(\(project_id = '1'::bigint\) AND \(\(?key\b", plan), plan


TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8")) | st.sampled_from(["\\N", "\\.", "\t", "\r\n", "\\", "a\\tb", ""])
ROW = st.tuples(st.integers(0, 1 << 40), TEXTS, TEXTS, *[st.none() | TEXTS] * 2, TEXTS, *[st.none() | TEXTS.map(lambda text: bulk.json({"a": text}))] * 3,
                *[st.none() | st.floats(0, 1e12)] * 5, *[st.none() | TEXTS.map(lambda text: bulk.json([text]))] * 2)


@given(st.lists(ROW, max_size=5))
@settings(max_examples=30, deadline=None)
def test_what_a_row_says_reaches_the_database_whatever_it_is(stored, rows):
    def through(conn):
        given = merging.lines(rows) if conn.dialect.name == "postgresql" else rows
        merging.load(conn, [(n, n, n, row) if type(row) is bytes else (n, n, n, *row) for n, row in enumerate(given)])
        return [tuple(row) for row in conn.exec_driver_sql(f"SELECT {', '.join(merging.COLUMNS)} FROM import_rows ORDER BY id")]

    assert [plain(row) for row in stored.write(through)] == [plain(row) for row in rows]


def plain(row):
    """The row with its JSON read."""
    return [orjson.loads(each) if name in merging.JSON and isinstance(each, str) else each for name, each in zip(merging.COLUMNS, row, strict=True)]
