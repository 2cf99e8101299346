"""The fixtures themselves: databases that are really there and really apart, loops, limits, missing peers."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import asyncpg
import pytest

ROOT = Path(__file__).parents[2]


def run_pytest(directory: Path, source: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a test file under our conftest, in a process of its own."""
    (directory / "test_it.py").write_text(textwrap.dedent(source))
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(directory), *arguments]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, "-m", "pytest", *options, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=directory, check=False)


async def test_a_store_is_empty_and_ours(store_url):
    if store_url.startswith("sqlite"):
        assert sqlite3.connect(store_url.removeprefix("sqlite:///")).execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        return
    connection = await asyncpg.connect(store_url)
    assert await connection.fetchval("SELECT count(*) FROM projects") == 0
    assert await connection.fetchval("SHOW fsync") == "on"
    await connection.execute("CREATE TABLE mine (n int)")
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
