"""The sieve of suppressed addresses: it may let a look-up happen for nothing, and never leaves out one that would find something."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from relay.store import projects, suppressions
from relay.store.engine import Store
from relay.store.sieve import Sieve
from relay.store.suppressions import Suppression

PEOPLE = [f"person{number}@example.com" for number in range(2_000)]


def entry(number: int, key: str, project: int = 1, scope: str = "all") -> Suppression:
    return Suppression(number, project, key, key, "manual", scope, {}, 1_700_000_000.0)


def _project(conn: Connection) -> None:
    if not projects.every(conn):
        projects.add(conn, projects.Project(1, "default", {}, 0.0))


async def opened(folder, **how) -> Store:
    store = await Store.open("", folder, accept_old_sqlite=True, **how)
    if not how:
        await store.write(_project)
    if store._backend._filling is not None:
        await store._backend._filling
    return store


@settings(max_examples=50)
@given(st.sets(st.tuples(st.integers(1, 2**62), st.text(max_size=40)), max_size=40), st.tuples(st.integers(1, 2**62), st.text(max_size=40)))
def test_whoever_is_marked_is_never_passed(tmp_path_factory, marked, other):
    sieve = Sieve.make(tmp_path_factory.mktemp("sieve") / "relay.db", 0)
    for each in marked:
        sieve.mark(*each)
    assert not sieve.passes(*other), "it knows nothing before it is complete"
    sieve.complete()
    assert not any(sieve.passes(*each) for each in marked)
    assert sieve.passes(*other) or other in marked or len(marked) > 30


async def test_most_others_need_no_look(tmp_path):
    sieve = Sieve.make(tmp_path / "relay.db", 0)
    sieve.complete()
    for key in PEOPLE:
        sieve.mark(1, key)
    assert sum(sieve.passes(2, key) for key in PEOPLE) > 1_990
    assert sum(sieve.passes(1, f"x{key}") for key in PEOPLE) > 1_990


async def test_an_entry_is_known_when_its_write_returns_here_and_in_a_worker(tmp_path):
    """With what was there before the start, by whatever function it is written, and to its own project alone."""
    store = await opened(tmp_path)
    await store.write(suppressions.add_many, [entry(number, key) for number, key in enumerate(PEOPLE, 1)])
    assert not any(store.unsuppressed(1, key) for key in PEOPLE)
    await store.close()
    store, worker = await opened(tmp_path), await opened(tmp_path, read_only=True)
    try:
        for each in (store, worker):
            assert not any(each.unsuppressed(1, key) for key in PEOPLE)
            assert each.unsuppressed(2, PEOPLE[0])
            assert each.unsuppressed(1, "new@example.com")
        await store.write(suppressions.add, entry(9_001, "new@example.com", scope="marketing"))
        for each in (store, worker):
            assert not each.unsuppressed(1, "new@example.com")
            found = await each.point(suppressions.find, 1, "new@example.com", "marketing", "")
            assert found.scope == "marketing"
    finally:
        await worker.close()
        await store.close()


async def test_it_marks_on_after_the_database_was_opened_anew(tmp_path):
    """As after a failed commit."""
    store = await opened(tmp_path)
    try:
        assert store._backend._reopened(store._backend._batch)
        await store.write(suppressions.add, entry(1, PEOPLE[0]))
        assert not store.unsuppressed(1, PEOPLE[0])
        assert store.unsuppressed(1, PEOPLE[1])
    finally:
        await store.close()


async def test_without_one_everything_is_looked_up(tmp_path):
    """Such as where something else stands in its place."""
    (tmp_path / "relay.db-sieve").mkdir()
    (tmp_path / "relay.db-sieve" / "x").touch()
    store = await opened(tmp_path)
    try:
        await store.write(suppressions.add, entry(1, PEOPLE[0]))
        assert not store.unsuppressed(1, PEOPLE[1])
    finally:
        await store.close()
