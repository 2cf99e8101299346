"""SQLite's own promises: what is durable, who checkpoints, what a failing commit leaves. Faults are real: a full file system, a file that may not grow."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from relay.errors import StoreError
from relay.store import bulk, messages
from relay.store import sqlite as backend
from relay.store.engine import Store
from relay.store.sqlite_file import CHECKPOINT
from tests.store.conftest import made
from tests.store.test_engine import keys, put

pragma = pytest.mark.parametrize(("name", "value"), [
    ("journal_mode", "wal"), ("synchronous", 2), ("auto_vacuum", 2), ("foreign_keys", 1), ("wal_autocheckpoint", CHECKPOINT)])


@pragma
async def test_the_writer_is_durable(sqlite, name, value):
    assert await sqlite.write(lambda conn: conn.exec_driver_sql(f"PRAGMA {name}").scalar()) == value


@pytest.mark.parametrize(("value", "kind"), [
    (None, "null"), (True, "integer"), (False, "integer"), (b"\x00\xff", "blob"), (b"", "blob"), (1.5, "real"), ("x", "text"), (1 << 62, "integer")])
async def test_a_value_is_bound_as_what_it_is(sqlite, value, kind):
    found = await sqlite.write(lambda conn: bulk.raw(conn).execute("SELECT typeof(?1), ?1", (value,)).fetchone())
    assert found == (kind, value)


async def test_readers_neither_write_nor_checkpoint(sqlite):
    for read in (sqlite.read, sqlite.point):
        assert await read(lambda conn: conn.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar()) == 0
        with pytest.raises(StoreError):
            await read(put, "no")
    assert await sqlite.read(keys) == set()


async def test_a_point_read_does_not_suspend(sqlite):
    await sqlite.write(put, "here")
    reading = sqlite.point(keys)
    with pytest.raises(StopIteration) as answer:
        reading.send(None)
    assert answer.value.value == {"here"}


async def test_a_read_is_one_snapshot(sqlite):
    loop = asyncio.get_running_loop()

    def twice(conn):
        before = keys(conn)
        asyncio.run_coroutine_threadsafe(sqlite.write(put, "meanwhile"), loop).result(10)
        return before, keys(conn)

    assert await sqlite.read(twice) == (set(), set())
    assert await sqlite.read(keys) == {"meanwhile"}


async def test_the_wal_is_emptied_when_it_is_quiet(sqlite, monkeypatch):
    monkeypatch.setattr(backend, "QUIET", 0.05)
    await sqlite.write_many(messages.add_many, made(body=b"x" * 10_000))
    wal = Path(f"{sqlite.path}-wal")
    async with asyncio.timeout(60):
        while wal.stat().st_size:
            await asyncio.sleep(0.02)


async def test_event_ids_go_on_above_those_in_the_database(sqlite_url, tmp_path):
    future = (1 << 62) | 5
    one = await Store.open(sqlite_url, tmp_path / "data")
    ahead = await one.write(lambda conn: conn.exec_driver_sql("INSERT INTO projects VALUES (1, 'p', '{}', 1.0)") and conn.exec_driver_sql(
        f"INSERT INTO events (id, project_id, type, at, data) VALUES ({future}, 1, 't', 1.0, '{{}}')") and future)
    await one.close()
    two = await Store.open(sqlite_url, tmp_path / "data")
    assert await two.write(lambda conn: conn.info["ids"].next()) > ahead
    await two.close()


SCRIPT = """
import asyncio, resource, signal, sys
from relay.errors import StoreError
from relay.store import messages, projects
from relay.store.engine import Store
from tests.store.conftest import made
from tests.store.test_engine import keys, put

async def main(data):
    store = await Store.open("", data, min_free=0, reserve=0)
    await store.write(projects.add, projects.Project(1, "default", {{}}, 1.0))
{body}
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


def run(directory: Path, body: str, check: bool = True) -> list[str]:
    """What a process of its own prints, with `body` run on a store in the directory."""
    script = SCRIPT.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    done = subprocess.run([sys.executable, "-c", script, str(directory)], capture_output=True, text=True, timeout=150, check=False,
                          cwd=Path(__file__).parents[2])
    if check:
        assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MB."""
    mount = shutil.which("mount")
    directory = tmp_path / "small"
    directory.mkdir()
    if os.geteuid() or not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(directory)], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_is_451_and_loses_nothing_that_was_acknowledged(small_disk):
    printed = run(small_disk, """
        kept, refused = [], 0
        while refused < 3:
            try:
                kept.append(await store.write_many(messages.add_many, made(body=b"x" * 15_000)))
            except StoreError as error:
                assert error.reply.code == 451, error.reply
                refused += 1
        assert not store.healthy and not store.failed.is_set()
        (store.data_dir / "ballast").unlink(missing_ok=True)
        print("kept", len(kept), await store.read(messages.count))
    """)
    assert printed[0] == "kept"
    assert printed[1] == printed[2]
    assert int(printed[1]) > 20


def test_a_store_goes_on_when_the_disk_has_room_again(small_disk):
    printed = run(small_disk, """
        ballast = store.data_dir / "ballast"
        ballast.write_bytes(b"x" * 1_000_000)
        try:
            while True:
                await store.write_many(messages.add_many, made(body=b"x" * 15_000))
        except StoreError:
            ballast.unlink()
        await store.write(put, "again")
        print(store.healthy, sorted(await store.read(keys)))
    """)
    assert printed == ["True", "['again']"]


def test_large_bodies_on_a_full_disk_are_451_too(small_disk):
    printed = run(small_disk, """
        kept = 0
        try:
            while True:
                await store.write_many(messages.add_many, made(body=b"x" * 200_000))
                kept += 1
        except StoreError as error:
            print(error.reply.code, kept, await store.read(messages.count))
    """)
    assert printed[0] == "451"
    assert printed[1] == printed[2]


def test_a_disk_that_fails_twice_stops_the_store(tmp_path):
    """No file may grow (RLIMIT_FSIZE), which SQLite sees as an I/O error at commit."""
    printed = run(tmp_path, """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        await store.write(put, "good")
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        for _ in range(3):
            try:
                await store.write_many(messages.add_many, made(body=b"x" * 15_000))
            except StoreError as error:
                print(error.reply.code)
        await asyncio.wait_for(store.failed.wait(), 10)
        print("failed", store.healthy)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    """)
    assert printed == ["451", "451", "451", "failed", "False"]


def test_a_disk_that_fails_once_is_reopened(tmp_path):
    printed = run(tmp_path, """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        await store.write(put, "good")
        room = 300_000 + max(file.stat().st_size for file in store.path.parent.glob("relay.db*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        try:
            await store.write(messages.add_many, [made(body=b"x" * 15_000) for _ in range(30)])
        except StoreError as error:
            print(error.reply.code)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.write(put, "after")
        print(store.healthy, store.failed.is_set(), await store.read(messages.count), *sorted(await store.read(keys)))
    """)
    assert printed == ["451", "True", "False", "0", "after", "good"]


async def test_a_close_does_not_wait_for_what_was_withdrawn(tmp_path):
    opened = await Store.open("", tmp_path, min_free=0, reserve=0)
    write = opened.begin(lambda _conn: None, (), many=False)
    assert opened.withdraw(write)
    async with asyncio.timeout(60):
        await opened.close()
