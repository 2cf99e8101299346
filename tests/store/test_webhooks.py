"""The rows of webhook deliveries on both databases: what is due, what is held back, what goes."""

import dataclasses

import pytest

from relay.mail.ids import Maker
from relay.store import projects, webhooks
from relay.store.engine import Store
from relay.store.pages import Page
from relay.store.projects import Project
from relay.store.webhooks import GIVEN_UP, KEPT, Delivery, Webhook

NOW = 1_790_000_000.0
IDS = Maker(3)


@pytest.fixture
async def store(store_url, tmp_path):
    opened = await Store.open(store_url, tmp_path / "data", min_free=1, reserve=1)
    yield opened
    await opened.close()


@pytest.fixture
async def hook(store):
    await store.write(projects.add, Project(1, "one", {}, NOW))
    return await store.write(webhooks.add, Webhook(
        2, 1, "http://a.example", ["*"], "", True, "", "", None, None, "0.0", 0, None, None, None, None, None, NOW))


def delivery(event, message, **given):
    row = Delivery(IDS.next(), 2, event, message, "email.sent", "{}", None, "", 0, NOW, None, NOW)
    return dataclasses.replace(row, **given)


async def test_of_each_email_only_the_first_is_due(store, hook):
    rows = [delivery(1, 10), delivery(2, 10), delivery(3, 20, next_at=NOW + 5), delivery(4, 20), delivery(5, None), delivery(6, 30, next_at=None)]
    await store.write(webhooks.record, hook, rows, {"failures": 3})
    assert [row.event_id for row in await store.read(webhooks.due, 2, NOW, 10)] == [1, 5]
    assert [row.event_id for row in await store.read(webhooks.due, 2, NOW + 5, 10)] == [1, 3, 5]
    assert await store.read(webhooks.held, 2, {10, 20, 30, 40}) == {10, 20}
    assert await store.read(webhooks.next_at, 2) == NOW
    await store.write(webhooks.record, hook, [dataclasses.replace(rows[0], next_at=None, delivered_at=NOW)], {})
    assert [row.event_id for row in await store.read(webhooks.due, 2, NOW, 10)] == [2, 5]
    assert (await store.read(webhooks.get, 1, 2)).failures == 3


async def test_old_rows_go(store, hook):
    old = [delivery(n, None, next_at=None, created_at=NOW - GIVEN_UP - 1) for n in range(3)]
    waiting = [delivery(9, None, created_at=NOW - GIVEN_UP - 1), delivery(10, None, next_at=None)]
    done = [delivery(100 + n, None, next_at=None, delivered_at=NOW) for n in range(KEPT + 7)]
    for start in range(0, len(done), 500):
        await store.write(webhooks.record, hook, done[start:start + 500], {})
    await store.write(webhooks.record, hook, [*old, *waiting], {})
    assert await store.write(webhooks.prune, 2, NOW) == 3 + 7
    assert (await store.read(webhooks.page, 2, Page())).total == 2 + KEPT


async def test_failed_ones_are_replayed_oldest_first(store, hook):
    failed = [delivery(n, None, next_at=None, type="email.sent" if n % 2 else "email.bounced") for n in range(6)]
    await store.write(webhooks.record, hook, failed, {})
    assert await store.write(webhooks.replay_failed, 2, NOW, NOW - 60, "email.sent", 2) == (2, 1)
    assert [row.event_id for row in await store.read(webhooks.due, 2, NOW, 10)] == [1, 3]
    assert await store.write(webhooks.replay_failed, 2, NOW, NOW - 60, None, 10) == (4, 0)


async def test_one_that_is_switched_on_again_starts_from_now(store, hook):
    await store.write(webhooks.record, hook, [], {"enabled": False, "disabled_at": NOW, "disabled_reason": "x", "failures": 20, "failing_since": NOW})
    again = await store.write(webhooks.change, 1, 2, {"enabled": True})
    assert (again.enabled, again.failures, again.disabled_at, again.disabled_reason) == (True, 0, None, None)
