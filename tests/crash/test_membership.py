"""Membership over deaths: a relay is killed around its commits while contacts change, and each entry and exit has still been told exactly once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx2 as httpx
import pytest

from relay.mail import ids
from relay.store import events
from relay.store.audience import changes
from relay.store.engine import Store
from tests.crash.test_kills import SEED
from tests.support.running import Running

DEATHS = ("store.before-commit", "store.committed")
PEOPLE = 6
RULES = [{"field": "tags", "operator": "contains", "value": "in"}]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    server = request.getfixturevalue("postgres_server")
    made = asyncio.run(server.create())
    yield made
    asyncio.run(server.drop(made))


def client(relay: Running, key: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{relay.http}", headers={"Authorization": f"Bearer {key}"}, timeout=60)


def until_death(http: httpx.Client, people: list[str], segment: str, chance: random.Random) -> None:
    """Change people by every way there is, until nobody answers."""
    with pytest.raises(httpx.TransportError):  # noqa: PT012
        while True:
            some, inside = chance.sample(people, 3), chance.random() < 0.5
            http.post("/contacts/bulk", json={"action": "tag" if inside else "untag", "contact_ids": some, "tags": ["in"]})
            http.patch(f"/contacts/{chance.choice(people)}", json={"add_tags" if chance.random() < 0.5 else "remove_tags": ["in"]})
            http.post(f"/segments/{segment}/contacts", json={"contact_ids": some})
            http.delete(f"/segments/{segment}/contacts/{some[0]}")


async def told(relay: Running) -> list[events.Event]:
    """All events of segments."""
    store = await Store.open(relay.store_url, relay.data, read_only=True)
    try:
        assert not await store.read(changes.waiting)
        found, cursor = [], events.START
        while True:
            some, cursor = await store.read(events.since, cursor)
            found += [event for event in some if event.type.startswith("segment.")]
            if not some:
                return found
    finally:
        await store.close()


def settled(relay: Running) -> bool:
    async def look() -> bool:
        store = await Store.open(relay.store_url, relay.data, read_only=True)
        try:
            return not await store.read(changes.waiting)
        finally:
            await store.close()

    return asyncio.run(look())


@pytest.mark.limit(400)
def test_each_entry_and_exit_is_told_once(tmp_path: Path, url: str) -> None:
    chance = random.Random(SEED)
    relay = Running(tmp_path, {"RELAY_STORE__URL": url, "RELAY_SECRET_KEY": "membership " * 4})
    key = relay.key()
    for number, death in enumerate(DEATHS):
        relay.start(RELAY_FAULT=f"{death}:{chance.randrange(30, 60)}")
        with client(relay, key) as http:
            if not number:
                people = [http.post("/contacts", json={"email": f"p{n}@example.com"}).json()["id"] for n in range(PEOPLE)]
                made = [http.post("/segments", json={"name": name, "rules": rules, "track_membership": True}).json()["id"]
                        for name, rules in (("dynamic", RULES), ("static", None))]
            until_death(http, people, made[1], chance)
        relay.process.wait(150)
    relay.start()
    try:
        while not settled(relay):
            pass
        with client(relay, key) as http:
            inside = {number: {each["id"] for each in http.get(f"/segments/{number}/members").json()["contacts"]} for number in made}
    finally:
        relay.stop()
    happened = asyncio.run(told(relay))
    assert len(happened) > len(DEATHS), "hardly anything happened"
    for number in made:
        for person in people:
            line = [event.type.rpartition(".")[2] for event in happened
                    if event.data["segment_id"] == number and event.contact_id == ids.internal(person, "ct")]
            assert all(one != other for one, other in pairwise(line)), f"{SEED}: {person} in {number}: {line}"
            assert (line[-1:] == ["entry"]) is (person in inside[number]), f"{SEED}: {person} in {number}: {line}"
            assert line[:1] in ([], ["entry"])
