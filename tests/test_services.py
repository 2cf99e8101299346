"""The living side of what policies may use, on a real store."""

import pytest

from relay.clock import Clock
from relay.policy import Sender
from relay.services import FRESH, StoredSenders
from relay.store import projects
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
