"""What is counted now and then, since nobody could count it at every scrape: suppressions, contacts, the age of keys, the events that endpoints wait for.

Every count is made by readers of the store, in short reads; a scrape shows the last one. Nodes on one database each show the same, so a board takes the
largest and not the sum.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from relay.metrics import Look
from relay.store import census, domains, events, webhooks
from relay.store.engine import Store

MOST = 10_000  # events of an endpoint that are counted, beside those that wait for a further attempt

SUPPRESSED = Look("suppression_entries", "Suppressions of all projects, by reason; counted every five minutes", "reason")
CONTACTS = Look("contacts", "Contacts of all projects: subscribed or unsubscribed; counted every five minutes", "status")
KEYS = Look("dkim_key_age_seconds", "Time since the oldest key that signs for a domain was made; the domains whose keys are oldest", "domain", domains.OLDEST)
BACKLOG = Look("event_backlog", f"Events that a webhook endpoint has not been given, of each up to {MOST:,} in the log; counted every minute", "sink")


async def people(store: Store) -> None:
    """Count suppressions and contacts."""
    SUPPRESSED.show(await _walked(store, census.REASONS))
    found = await _walked(store, census.UNSUBSCRIBED)
    CONTACTS.show({"subscribed": found[False], "unsubscribed": found[True]})


async def _walked(store: Store, column: Any) -> Counter[Any]:
    total: Counter[Any] = Counter()
    last: int | None = 0
    while last is not None:
        found, last = await store.read(census.counted, column, last)
        total.update(found)
    return total


async def keys(store: Store, now: float) -> None:
    """Look how old the keys are; `now` UTC seconds."""
    KEYS.show({name: now - made_at for name, made_at in await store.read(domains.oldest)})


async def backlog(store: Store) -> None:
    """Count what each endpoint that is switched on has not been given: what waits for a further attempt, and the events after its place in the log."""
    waiting = await store.read(webhooks.waiting)
    found = {}
    for hook in await store.read(webhooks.enabled):
        behind = await store.read(events.behind, hook.cursor, hook.project_id, MOST)
        found[hook.public_id] = waiting.get(hook.id, 0) + behind
    BACKLOG.show(found)
