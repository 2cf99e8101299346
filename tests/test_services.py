"""The living side of what policies may use, on a real store."""

import asyncio

import pytest

from relay.clock import Clock
from relay.policy import Sender
from relay.services import BLOCK, FRESH, OFTEN, WIDE, StoredCounters, StoredSenders
from relay.store import counters, projects
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.engine import Store


@pytest.fixture
async def store(sqlite_url, tmp_path):
    opened = await Store.open(sqlite_url, tmp_path / "data", min_free=0, reserve=0)
    await opened.write(projects.add, projects.Project(1, "default", {}, 0.0))
    await opened.write(projects.add, projects.Project(2, "other", {"title": "Other"}, 0.0))
    yield opened
    await opened.close()


async def test_what_a_project_says_of_itself_counts_within_a_second(store):
    now = [0.0]
    senders = StoredSenders(store, Clock(elapsed=lambda: now[0]))
    assert await senders.of(1) == Sender("", "en", "")
    await store.write(projects.configure, 1, {"title": "Müller", "language": "de", "postal_address": "Straße 1\n12345 Berlin"})
    assert await senders.of(2) == Sender("Other", "en", "")
    now[0] = FRESH
    assert await senders.of(1) == Sender("Müller", "de", "Straße 1\n12345 Berlin")


async def test_a_change_that_is_told_counts_at_once(store):
    senders = StoredSenders(store, Clock(elapsed=lambda: 0.0))
    await senders.of(1)
    await store.write(projects.configure, 1, {"title": "Müller"})
    senders.changed()
    assert (await senders.of(1)).title == "Müller"


@pytest.mark.parametrize(("locale", "language"), [("de", "de"), ("fr_CA", "fr-CA"), ("DA", "DA"), ("pt-BR", "es"), ("", "es"), (7, "es"), (None, "es")])
async def test_a_contact_s_own_language_goes_before_the_project_s_and_stays_in_its_project(store, locale, language):
    await store.write(projects.configure, 1, {"language": "es"})
    ann = Contact(5, 1, "ann@example.com", "ann@example.com", None, None, {"locale": locale}, [], False, None, None, 0.0, 0.0)
    await store.write(contacts.add, ann)
    senders = StoredSenders(store, Clock(elapsed=lambda: 0.0))
    assert (await senders.of(1, "ann@example.com")).language == language
    assert (await senders.of(1, "bob@example.com")).language == "es"
    assert (await senders.of(2, "ann@example.com")).language == "en"


@pytest.mark.parametrize("limit", [30, WIDE], ids=["exact", "by blocks"])
async def test_a_counter_that_is_asked_often_gives_its_limit_and_no_more(store, limit):
    taking = StoredCounters(store, Clock(elapsed=lambda: 5.0))
    given = [await taking.take("limit:key:1:day", limit, 86_400.0) for _ in range(limit + 20)]
    assert given[:limit] == [0.0] * limit
    assert min(given[limit:]) > 0
    assert await store.read(counters.used, "limit:key:1:day", 86_400.0, Clock().now()) == limit
    await taking.give_back("limit:key:1:day", 2)
    assert await taking.take("limit:key:1:day", limit, 86_400.0, 2) == 0.0


async def test_what_is_left_of_a_block_is_given_back(store):
    """Ten askings take ten places; then sixty are counted, and a second later those that were used."""
    taking, other = StoredCounters(store, Clock(elapsed=lambda: 5.0)), StoredCounters(store, Clock())

    async def used():
        return await store.read(counters.used, "limit:project:1:day", 86_400.0, Clock().now())

    for _ in range(OFTEN + 1):
        assert await taking.take("limit:project:1:day", WIDE, 86_400.0) == 0.0
    assert await used() == OFTEN + 1 + BLOCK
    assert await other.take("limit:project:1:day", WIDE, 86_400.0, WIDE - OFTEN - 1) > 0, "they are this process's for the moment"
    while await used() != OFTEN + 1:
        await asyncio.sleep(0.05)
    assert await other.take("limit:project:1:day", WIDE, 86_400.0, WIDE - OFTEN - 1) == 0.0
