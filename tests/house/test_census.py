"""What is counted now and then: right over projects, slices and both databases; and the gauges show the last answer, no more than they may."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from relay import census
from relay.mail.ids import Maker
from relay.metrics import REGISTRY, Look
from relay.store import census as counting
from relay.store import domains, events, projects, suppressions, webhooks
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.domains import ACTIVE, RETIRED, DkimKey, Domain
from relay.store.engine import Store
from relay.store.events import Event
from relay.store.projects import Project
from relay.store.suppressions import Suppression
from relay.store.webhooks import Delivery, Webhook

NOW = 1_790_000_000.0
DAY = 86_400.0
IDS = Maker(5)


@pytest.fixture
async def store(store_url, tmp_path):
    opened = await Store.open(store_url, tmp_path / "data", min_free=1, reserve=1)
    for number, name in ((1, "one"), (2, "two")):
        await opened.write(projects.add, Project(number, name, {}, NOW))
    yield opened
    await opened.close()


def shown(name: str, label: str) -> Callable[[str], float | None]:
    return lambda value: REGISTRY.get_sample_value(f"relay_{name}", {label: value})


async def test_people_of_all_projects_are_counted_slice_by_slice(store, monkeypatch):
    monkeypatch.setattr(counting, "SLICE", 7)
    for project in (1, 2):
        people = [f"{number}@example.net" for number in range(14)]
        await store.write(contacts.add_many, [
            Contact(IDS.next(), project, who, who, None, None, {}, [], number < 4, None, None, NOW, NOW) for number, who in enumerate(people)])
        await store.write(suppressions.add_many, [
            Suppression(IDS.next(), project, who, who, "complaint" if number % 5 == 0 else "unsubscribe", created_at=NOW)
            for number, who in enumerate(people)])
    await census.people(store)
    status, reason = shown("contacts", "status"), shown("suppression_entries", "reason")
    assert (status("subscribed"), status("unsubscribed")) == (20, 8)
    assert (reason("complaint"), reason("unsubscribe"), reason("manual")) == (6, 22, None)
    for number in range(14):
        await store.write(suppressions.remove, 1, f"{number}@example.net")
        await store.write(suppressions.remove, 2, f"{number}@example.net")
    await census.people(store)
    assert reason("complaint") is None


async def test_nobody_is_counted_as_nobody(store):
    await census.people(store)
    assert shown("contacts", "status")("subscribed") == 0


@pytest.fixture
def hook(store):
    async def made(number: int, project: int) -> Webhook:
        return await store.write(webhooks.add, Webhook(
            number, project, "http://a.example", ["*"], "", True, "", "", None, None, "0.0", 0, None, None, None, None, None, NOW))

    return made


async def happened(store: Store, project: int, times: int) -> None:
    await store.write(events.append, [Event(project, "order.paid", NOW)] * times)


async def test_the_backlog_of_an_endpoint_is_what_it_has_not_been_given(store, hook, monkeypatch):
    monkeypatch.setattr(census, "MOST", 50)
    await happened(store, 1, 3)
    mine, other = await hook(11, 1), await hook(12, 2)
    off = await hook(13, 1)
    await store.write(webhooks.change, 1, 13, {"enabled": False})
    backlog = shown("event_backlog", "sink")
    await census.backlog(store)
    assert [backlog(each.public_id) for each in (mine, other, off)] == [0, 0, None]
    await happened(store, 1, 5)
    await happened(store, 2, 1)
    await census.backlog(store)
    assert [backlog(each.public_id) for each in (mine, other, off)] == [5, 1, None]
    waits = Delivery(IDS.next(), 11, IDS.next(), None, "order.paid", "{}", 500, "", 1, NOW, None, NOW)
    done = Delivery(IDS.next(), 11, IDS.next(), None, "order.paid", "{}", 200, "", 1, None, NOW, NOW)
    await store.write(webhooks.record, mine, [waits, done], {"cursor": await store.read(events.latest)})
    await census.backlog(store)
    assert backlog(mine.public_id) == 1
    await happened(store, 1, 90)
    await census.backlog(store)
    assert (backlog(mine.public_id), backlog(other.public_id)) == (51, 1)
    await store.write(webhooks.remove, 1, 11)
    await census.backlog(store)
    assert backlog(mine.public_id) is None


def key(domain: int, selector: str, state: str, days: float) -> DkimKey:
    return DkimKey(IDS.next(), domain, selector, "rsa-sha256", "", "", state, NOW - days * DAY)


async def test_the_age_is_that_of_the_oldest_key_that_signs(store):
    for number, project, name, keys in (
        (21, 1, "a.example", (key(21, "new", ACTIVE, 10), key(21, "old", RETIRED, 900))),
        (22, 1, "b.example", (key(22, "one", ACTIVE, 1),)),
        (23, 2, "b.example", (key(23, "two", ACTIVE, 400),)),
    ):
        await store.write(domains.add, Domain(number, project, name, "pending", {}, {}, NOW, keys=keys))
    await census.keys(store, NOW)
    age = shown("dkim_key_age_seconds", "domain")
    assert [age(name) for name in ("a.example", "b.example")] == [10 * DAY, 400 * DAY]


async def test_only_the_domains_with_the_oldest_keys_are_shown(store):
    for number in range(domains.OLDEST + 5):
        made = Domain(100 + number, 1, f"d{number}.example", "pending", {}, {}, NOW, keys=(key(100 + number, "one", ACTIVE, number),))
        await store.write(domains.add, made)
    await census.keys(store, NOW)
    age = shown("dkim_key_age_seconds", "domain")
    assert [age(f"d{number}.example") for number in (4, 5, domains.OLDEST + 4)] == [None, 5 * DAY, (domains.OLDEST + 4) * DAY]
    assert age("other") is None


def test_a_look_shows_the_largest_and_the_sum_of_the_rest():
    registry = CollectorRegistry()
    look = Look("wait", "t", "sink", most=2, registry=registry)

    def series() -> dict[str, float]:
        return {sample.labels["sink"]: sample.value for family in registry.collect() for sample in family.samples}

    assert series() == {}
    look.show({"a": 1, "b": 5, "c": 0, "d": 3, "e": 2})
    assert series() == {"b": 5, "d": 3, "other": 3}
    look.show({"a": 1, "b": 0})
    assert series() == {"a": 1, "b": 0}
    assert b"# TYPE relay_wait gauge" in generate_latest(registry)
