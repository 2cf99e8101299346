"""Lists of runs: what a page of activity reads of all workflows of a project."""

from __future__ import annotations

import pytest

from relay.mail.ids import Maker
from relay.store.workflows import runs
from tests.workflows.flowing import node
from tests.workflows.test_durable import NOW, begun, flow, people, store

__all__ = ["store"]

END = [node("end", "exit")]
EDGES = [{"from": "t", "to": "end"}]


@pytest.mark.parametrize("together", [1, 2, 50])
async def test_the_newest_runs_of_many_workflows(store, monkeypatch, together):
    """Whatever number of workflows is asked for at once; others are not among them."""
    monkeypatch.setattr(runs, "TOGETHER", together)
    maker = Maker(1001)
    flows = [await flow(store, maker, END, EDGES) for _ in range(4)]
    who = await people(store, maker, flows[0].project_id, 3)
    made = [number for round_ in range(2) for each in flows[:3] for number in await begun(store, each, who[round_:round_ + 2], NOW + round_)]
    other = await begun(store, flows[3], who, NOW)

    async def newest(contact=None, before=None, since=None, limit=100):
        return [run.id for run in await store.read(runs.newest, [each.id for each in flows[:3]], contact, before, since, limit)]

    found = await newest()
    assert found == sorted(made, reverse=True)
    assert not set(found) & set(other)
    assert await newest(limit=4) == found[:4]
    assert await newest(before=found[3], limit=4) == found[4:8]
    assert set(await newest(since=NOW + 1)) <= set(found[:6])
    assert len(await newest(contact=who[0])) == 3
    assert await store.read(runs.newest, [], None, None, None, 5) == []
