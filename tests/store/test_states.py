"""Any interleaving of accept, settle, cancel, hold, release, retry and prune leaves every recipient in exactly one state."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.clock import Clock
from relay.mail.reply import Reply
from relay.store import messages, projects, queue, retention
from relay.store.engine import OUTCOMES, Store
from relay.store.messages import ENDS
from relay.store.queue import Filter, Settlement
from relay.store.schema import events, recipients
from relay.store.schema import queue as rows
from tests.store.conftest import NOW, PROJECT, made

act = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["delivered", "bounced", "failed", "suppressed", "deferred"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["cancel", "hold", "release", "retry", "suppress"]), st.integers(0, 9)),
    st.tuples(st.just("prune"), st.just(0)),
)


@dataclass
class Model:
    """What must be true: the first end that was recorded for a recipient is its state."""

    people: list[tuple[int, int]] = field(default_factory=list)  # recipient, message
    states: dict[int, str] = field(default_factory=dict)


async def play(store: Store, model: Model, together: list[tuple[str, int]]) -> None:
    """Run these acts at the same time; ends of one recipient in one round are settled by what the store answered."""
    await asyncio.gather(*(one(store, model, name, number) for name, number in together))


async def one(store: Store, model: Model, name: str, number: int) -> None:
    if name == "add":
        message = made(*(f"u{n}@example.net" for n in range(number)))
        await store.write_many(messages.add_many, message)
        for r in message.recipients:
            model.people.append((r.id, message.id))
            model.states.setdefault(r.id, "queued")
        return
    if name == "prune":
        await retention.sweep(store, retention.Keep(0, 0, 1e9, 1e9), NOW)
        return
    if not model.people:
        return
    recipient, message = model.people[number % len(model.people)]
    wanted = Filter(recipient=recipient)
    if name in ("hold", "release", "retry"):
        await (store.write(queue.hold, wanted) if name == "hold" else store.write(getattr(queue, name), wanted, NOW))
    elif name in ("cancel", "suppress"):
        state = {"cancel": "cancelled", "suppress": "suppressed"}[name]
        if await store.write(queue.end, wanted, state, Reply(250, "", name), NOW):
            model.states[recipient] = state
    else:
        step = Settlement(recipient, message, PROJECT, name, Reply(250), NOW, due=NOW + 5, attempts=1, events=((f"email.{name}", {}),))
        if await store.write_many(queue.settle_many, step, lane=OUTCOMES) and model.states[recipient] not in ENDS:
            model.states[recipient] = name


def check(conn, model: Model) -> None:
    waiting = set(conn.scalars(rows.select().with_only_columns(rows.c.recipient_id)))
    found = {r.id: r for r in conn.execute(recipients.select())}
    ends: dict[int, int] = {}
    for event in conn.execute(events.select()):
        if event.type.removeprefix("email.") in ENDS:
            ends[event.recipient_id] = ends.get(event.recipient_id, 0) + 1
    for number, state in model.states.items():
        assert found[number].state == state
        assert (number in waiting) == (state not in ENDS)
        assert ends.get(number, 0) == (state in ENDS)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(st.lists(act, min_size=1, max_size=5), max_size=8))
def test_on_sqlite(rounds):
    directory = Path(tempfile.mkdtemp(prefix="relay-states-"))
    try:
        asyncio.run(scenario("", directory, rounds))
    finally:
        shutil.rmtree(directory)


async def scenario(url: str, directory: Path, rounds) -> None:
    store = await Store.open(url, directory, clock=Clock(now=lambda: NOW), min_free=0, reserve=0)
    try:
        await store.write(projects.ensure, projects.Project(PROJECT, "default", {}, NOW))
        model = Model()
        for together in rounds:
            await play(store, model, together)
        await store.read(check, model)
    finally:
        await store.close()




@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(st.lists(act, min_size=1, max_size=5), max_size=8))
def test_on_postgresql(postgres_url, tmp_path, rounds):
    asyncio.run(scenario(postgres_url, tmp_path, rounds))
