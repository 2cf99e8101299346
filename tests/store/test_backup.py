"""Backup and restore: complete as of one moment, and held until somebody has looked."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from relay.errors import Conflict, StoreError
from relay.store import backup, messages, queue, segments
from relay.store.engine import Store
from tests.store.conftest import NOW, made


async def test_a_backup_under_load_has_every_message_that_it_names(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "LENGTH", 200_000)
    (sqlite.data_dir / "secret_key").write_text("k" * 32)
    before = [made(body=bytes([n]) * 30_000) for n in range(20)]
    for message in before:
        await sqlite.write_many(messages.add_many, message)
    stop = asyncio.Event()

    async def load():
        while not stop.is_set():
            await sqlite.write_many(messages.add_many, made(body=b"z" * 30_000))

    async with asyncio.TaskGroup() as group:
        group.create_task(load())
        made_backup = await backup.make(sqlite, tmp_path / "copy")
        stop.set()
    assert made_backup.bytes > 600_000
    restored = await Store.open("", tmp_path / "copy")
    numbers = list(await restored.read(lambda conn: conn.exec_driver_sql("SELECT id FROM messages").scalars().all()))
    assert {m.id for m in before} <= set(numbers)
    assert len(await restored.read(messages.load_many, numbers)) == len(numbers)
    assert (await restored.read(messages.load, before[7].id)).body == before[7].body
    assert (tmp_path / "copy" / "secret_key").read_text() == "k" * 32
    await restored.close()


async def test_a_restored_store_is_known_until_it_is_accepted(tmp_path):
    data = tmp_path / "data"
    store = await Store.open("", data)
    await store.write(lambda conn: conn.exec_driver_sql("INSERT INTO projects VALUES (1, 'default', '{}', 1.0)") and None)
    await store.write_many(messages.add_many, made())
    assert not store.restored
    await backup.make(store, tmp_path / "copy")
    await store.close()
    again = await Store.open("", data)
    assert not again.restored
    await again.close()
    shutil.copytree(tmp_path / "copy", data, dirs_exist_ok=True)  # over what is there
    for _ in range(2):
        restored = await Store.open("", data)
        assert restored.restored
        await restored.close()
    restored = await Store.open("", data)
    await restored.accept()
    assert not restored.restored
    assert len(await restored.read(queue.due, NOW)) == 1
    await restored.close()
    final = await Store.open("", data)
    assert not final.restored
    await final.close()


async def test_a_restored_store_without_waiting_mail_needs_nobody(sqlite, tmp_path):
    await backup.make(sqlite, tmp_path / "copy")
    restored = await Store.open("", tmp_path / "copy")
    assert not restored.restored
    await restored.close()


async def test_a_backup_never_overwrites(sqlite, tmp_path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(Conflict, match="exists"):
        await backup.make(sqlite, tmp_path / "copy")


async def test_a_reader_is_whole_again_after_a_backup(sqlite, tmp_path):
    for n in range(8):  # every thread of the pool may have made one
        await backup.make(sqlite, tmp_path / f"copy{n}")
        with pytest.raises(StoreError):
            await sqlite.read(lambda conn: conn.exec_driver_sql("DELETE FROM meta"))


async def test_on_postgresql_its_own_tool_is_named(store, tmp_path):
    if store.dialect == "postgresql":
        with pytest.raises(StoreError, match="pg_dump"):
            await backup.make(store, tmp_path / "copy")
