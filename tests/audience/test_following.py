"""The task behind the mail: what time changes is told within a minute, whatever else there is to look at."""

from __future__ import annotations

import asyncio

import pytest

from relay.audience import contacts as acts
from relay.audience.following import MINUTE, pause
from relay.store.audience import changes, contacts, memberships
from relay.store.audience.rules import DAY
from tests.audience.conftest import Stored
from tests.audience.town import PRO, Town
from tests.support.databases import DATABASES


@pytest.mark.parametrize("took", [0.0, 0.1, 1.0, 10.0, 19.0, 25.0, 29.0])
def test_a_pass_meets_within_a_minute_what_came_behind_the_one_before(took):
    assert took + pause(took) <= MINUTE
    assert pause(took) >= took, "the readers are left alone for half of the time"


@pytest.fixture(params=DATABASES)
def town(request, tmp_path, empty_store):
    """In a store of its own: the task looks at whatever other tests have left in theirs."""
    with empty_store(request.param, tmp_path) as url, Stored(url, tmp_path) as stored:
        yield Town(stored)


def test_time_is_told_at_once_after_a_start_and_beside_what_waits(town, monkeypatch):
    monkeypatch.setattr(memberships, "SLICE", 1)
    town.segment([{"field": "created_at", "operator": "in_last_days", "value": 1}])
    town.segment(PRO, "pro")
    ann, bob = town.join("ann"), town.join("bob", plan="free")
    town.now += 2 * DAY

    def backlog(conn):
        for _ in range(60):
            changes.note(conn, [ann])
        contacts.save(conn, acts.replace(contacts.get(conn, town.project, bob), properties={"plan": "pro"}))

    town.stored.write(backlog)

    async def run():
        tasks = [asyncio.create_task(each.run()) for each in (town.news, town.following)]
        try:
            while await town.stored.store.read(changes.waiting):
                assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    town.stored.call(run(), 60)
    assert sorted(town.said[:2]) == [("entry", "ann"), ("entry", "bob")]
    assert sorted(town.said[2:4]) == [("exit", "ann"), ("exit", "bob")], "before the last of those that waited"
    assert town.said[4:] == [("entry", "bob")]
