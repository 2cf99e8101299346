"""Acts of a process that has the store to itself, or shares a PostgreSQL with relays that run."""

from __future__ import annotations

import asyncio

import pytest

from relay.control import alone
from relay.errors import StoreError
from relay.store import lock
from relay.store.engine import Store
from tests.control.conftest import made


async def test_a_store_is_made_on_the_way(settings):
    async with alone.control(settings) as own:
        assert [p["name"] for p in await own.act("project_list", {})] == ["default"]
        status = await own.act("status", {})
    assert (status["running"], status["pid"], status["waiting"], status["held"]) == (False, None, 0, False)


async def test_two_commands_at_once_do_not_write_one_sqlite(settings):
    if alone.shared(settings):
        async with alone.control(settings), alone.control(settings) as second:
            assert await second.act("project_list", {})
        return
    async with alone.control(settings):
        with pytest.raises(StoreError, match="in use by the relay with pid"):
            async with alone.control(settings):
                pytest.fail("two writers on one file")
    assert lock.holder(settings.data_dir) is None


async def test_nodes_hear_of_a_change_in_the_queue(tmp_path, postgres_url, dns):
    settings = made(tmp_path, postgres_url, dns)
    async with alone.control(settings):
        node = await Store.open(settings.store.url, settings.data_dir)
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        for channel in ("queue", "site"):
            node.listen(channel, lambda what, channel=channel: heard.put_nowait((channel, what)))
        try:
            await _until_listening(node, heard)
            async with alone.control(settings) as own:
                await own.act("queue_release", {"everything": True})
                await own.act("site_suspend", {"site": "google"})
            assert {await heard.get(), await heard.get()} == {("queue", "rescan"), ("site", "google")}
        finally:
            await node.close()


async def _until_listening(node: Store, heard: asyncio.Queue) -> None:
    """LISTEN has no answer: speak until it is heard, then let what was said end."""
    while heard.empty():
        node.notify("queue", "hello")
        await asyncio.sleep(0.05)
    node.notify("queue", "last")
    while (await heard.get())[1] != "last":
        pass
