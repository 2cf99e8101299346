"""The fixtures themselves: databases that are really there and really apart, loops, limits, missing peers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import asyncpg
import pytest

from relay.store import projects
from relay.store.engine import Store
from tests.support.thread import apart

ROOT = Path(__file__).parents[2]


def run_pytest(directory: Path, source: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a test file under our conftest, in a process of its own."""
    (directory / "test_it.py").write_text(textwrap.dedent(source))
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(directory), *arguments]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, "-m", "pytest", *options, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=directory, check=False)


async def test_a_store_is_empty_and_ours(store_url, tmp_path):
    store = await Store.open(store_url, tmp_path / "data", min_free=0, reserve=0, accept_old_sqlite=True)
    assert await store.read(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM projects").scalar()) == 0
    await store.write(projects.add, projects.Project(1, "mine", {}, 1.0))
    await store.close()


@pytest.mark.parametrize(("change", "kept"), [
    ("INSERT INTO projects (id, name, settings, created_at) VALUES (1, 'mine', '{}', 1)", True),
    ("SELECT nextval('changes_id_seq')", True),
    ("CREATE TABLE mine (n int)", False),
    ("ALTER TABLE projects ADD COLUMN mine int", False),
    ("DROP INDEX domains_by_name", False),
    ("ANALYZE", False),
    ("UPDATE alembic_version SET version_num = '0000'", False),
    ("INSERT INTO projects (id, name, settings, created_at) SELECT n, n::text, '{}', 1 FROM generate_series(1, 3000) n", False),
], ids=["a row", "a sequence", "a table", "a column", "an index", "statistics", "a version", "much"])
def test_a_database_is_given_on_only_as_it_was(databases, change, kept):
    url = apart(databases.take())
    apart(execute(url, change))
    apart(databases.give_back(url))
    assert (url in databases.free) == kept
    if kept:
        assert apart(execute(url, "SELECT count(*) + (nextval('changes_id_seq') - 1) FROM projects")) == 0


def test_who_is_still_connected_is_cut_off(databases):
    async def leave():
        url = await databases.take()
        left = await asyncpg.connect(url)
        await left.execute("BEGIN; LOCK TABLE projects")
        await databases.give_back(url)
        return url, left.is_closed()

    url, closed = apart(leave())
    assert (url in databases.free, closed) == (True, True)


async def execute(url, statement):
    """The first value of a statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@pytest.mark.both_loops
async def test_loops_are_both_there(request):
    assert ("uvloop" in type(asyncio.get_running_loop()).__module__) == ("uvloop" in request.node.name)


def test_a_hanging_test_fails_and_the_next_one_runs(tmp_path):
    done = run_pytest(tmp_path, """
        import asyncio, pytest
        @pytest.mark.limit(0.3)
        async def test_waits_for_ever():
            await asyncio.Event().wait()
        @pytest.mark.limit(0.3)
        def test_blocks_for_ever():
            import threading
            threading.Event().wait()
        def test_goes_on():
            pass
    """)
    assert "2 failed, 1 passed" in done.stdout
    assert "took more than 0.3 seconds" in done.stdout


@pytest.mark.parametrize(("environ", "outcome"), [({}, "1 skipped"), ({"CI": "true"}, "1 failed")], ids=["at home", "under CI"])
def test_a_missing_peer_is_named(tmp_path, environ, outcome):
    done = run_pytest(tmp_path, "def test_it(need): need('no-such-program')", **environ)
    assert outcome in done.stdout
    assert "no-such-program: 1 tests not run" in done.stdout
