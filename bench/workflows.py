"""Workflows: runs begun, steps and emails a second, and what runs that wait cost.

    python -m bench.workflows [CONTACTS] [WAITING]

    begun    an event of the project's own for each contact; every run stands at its first wait
    steps    that wait is over: a contact is changed, a condition asked, the run ends; with their lines in the history
    emails   another event for each contact, and a copy of a kilobyte through the door into the queue; delivery stands still
    waiting  so many runs at a wait of a year: memory that is the process's own (RssAnon), and a look at what is due, without and with them

CPU is the whole relay's, microseconds for each of them; what follows the event log for segments runs beside it, as it does in a relay that serves.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.broadcasts import LINE, Everywhere, _still, memory, people, spent

CONTACTS, WAITING = 10_000, 100_000
LOOKS = 200
DAY = 86_400.0
PAUSE = 0.002  # seconds between two looks at whether the log was followed
SLICE = 1_000  # rows of one write while things are made ready


async def all_done(engine: Any, done: Callable[[], Awaitable[int]], count: int) -> tuple[float, float]:
    """Seconds and CPU seconds until `done` counts so many."""
    begun, cpu = time.perf_counter(), spent()
    while await done() < count:
        if not await engine.turn():
            await asyncio.sleep(PAUSE)
    return time.perf_counter() - begun, spent() - cpu


async def told(store: Any, project: int, name: str, contacts: Sequence[int], now: float) -> None:
    """An event of this name for each of these."""
    from relay.store import events
    from relay.store.events import Event

    for start in range(0, len(contacts), SLICE):
        some = [Event(project, name, now, contact_id=each, data={"data": {"plan": "pro"}}) for each in contacts[start:start + SLICE]]
        await store.write(events.append, some)


async def measured(relay: Any, calendar: Any, project: int, onboarding: int, receipt: int, count: int) -> None:
    """Print what beginning, going on and writing cost."""
    from relay.store.workflows import counts

    store = relay.store
    await people(store, relay.maker, project, count, 1_000, relay.clock.now())
    contacts = await store.read(lambda conn: [row.id for row in conn.exec_driver_sql(f"SELECT id FROM contacts WHERE project_id = {project} ORDER BY id")])
    engine = _engine(relay)

    def outcomes(flow: int, node: str, name: str) -> Callable[[], Awaitable[int]]:
        async def done() -> int:
            return (await store.read(counts.of_nodes, flow)).get(node, {}).get(name, 0)

        return done

    await told(store, project, "signed_up", contacts, relay.clock.now())
    _said("runs begun", count, *await all_done(engine, outcomes(onboarding, "rest", "waiting"), count))
    calendar.pass_(DAY + 1)
    _said("steps", 4 * count, *await all_done(engine, outcomes(onboarding, "end", "exit"), count))
    await told(store, project, "bought", contacts, relay.clock.now())
    _said("emails", count, *await all_done(engine, outcomes(receipt, "mail", "sent"), count))


def _engine(relay: Any) -> Any:
    """One beside the relay's own, to be turned by hand."""
    from relay.workflows.engine import Engine

    secrets = tuple(relay.tools.services.tokens.secrets)
    return Engine(relay.store, relay.news, lambda: relay.door, Everywhere(), relay.calls, relay.clock, relay.maker, secrets, lambda: None)


def _said(what: str, count: int, took: float, cpu: float) -> None:
    print(f"{what:12} {count / took:8.0f}/s   CPU each {cpu / count * 1e6:.0f} us", flush=True)


async def waiting(relay: Any, project: int, flow: int, count: int) -> None:
    """Print what runs that wait for a year cost while they wait."""
    from relay.store.workflows.runs import Run

    store, now = relay.store, relay.clock.now()
    await people(store, relay.maker, project, count, 1_000, now)
    engine = _engine(relay)
    before = await _look(engine)
    contacts = await store.read(lambda conn: [row.id for row in conn.exec_driver_sql(f"SELECT id FROM contacts WHERE project_id = {project} ORDER BY id")])
    one = Run(0, flow, project, 0, 2, "", {"type": "signed_up", "at": now, "data": {}}, "rest", now, now, due=now + 365 * DAY, visited=2,
              reason="until next year")
    for start in range(0, count, SLICE):
        await store.write(_put, [replace(one, id=relay.maker.next(), contact_id=each, cause=f"event:{each}") for each in contacts[start:start + SLICE]])
    after = await _look(engine)
    print(f"{count} waiting runs: a look {before[0]:.2f} ms without and {after[0]:.2f} ms with them, CPU {before[1]:.2f} and {after[1]:.2f} ms; "
          f"memory {before[2]:.0f} and {after[2]:.0f} MB", flush=True)


def _put(conn: Any, given: Sequence[Any]) -> None:
    from sqlalchemy import insert

    from relay.store.workflows.schema import runs

    conn.execute(insert(runs), [{name: getattr(run, name) for name in run.__slots__} for run in given])


async def _look(engine: Any) -> tuple[float, float, float]:
    """Milliseconds of a turn with nothing to do, the median and of CPU, and megabytes."""
    while await engine.turn():
        pass
    took, cpu = [], spent()
    for _ in range(LOOKS):
        begun = time.perf_counter()
        await engine.turn()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e3, (spent() - cpu) / LOOKS * 1e3, memory()


def figures(count: int, many: int) -> None:
    from relay import heap
    from relay.clock import Clock
    from relay.mail import ids
    from tests.support.served import Served
    from tests.workflows.flowing import Calendar, Flows, letter, line, node

    def numbered(flow: str) -> int:
        return ids.internal(flow, "wf") or 0

    calendar = Calendar()
    with tempfile.TemporaryDirectory() as directory, Served(Path(directory), "", Clock(now=calendar.now), RELAY_LOG__LEVEL="error") as served:
        owner = Flows(served.tenant())
        served.call(_still(served.relay), 30)
        pro = {"rules": [{"field": "plan", "operator": "equals", "value": "pro"}]}
        onboarding = owner.active("custom", [
            node("rest", "wait", delay="1d"), node("change", "update_contact", set={"properties": {"stage": "{{ event.data.plan }}"}}),
            node("ask", "condition", **pro), node("end", "exit", reason="done")],
            [*line("rest", "change", "ask"), *line("ask:match", "end"), *line("ask:no_match", "end")], {"event": "signed_up"})
        mail = letter("mail", "Hello {{ first_name }}", "News <news@bench.example>", html="<p>Dear {{ first_name }}</p>" + LINE * 20)
        receipt = owner.active("custom", [mail], config={"event": "bought"})
        heap.settle()  # as a relay does when it serves
        served.call(measured(served.relay, calendar, owner.number, numbered(onboarding), numbered(receipt), count), 3_600)
    with tempfile.TemporaryDirectory() as directory, Served(Path(directory), "", RELAY_LOG__LEVEL="error") as served:
        owner = Flows(served.tenant())
        served.call(_still(served.relay), 30)
        flow = owner.active("custom", [node("rest", "wait", delay="365d")], config={"event": "signed_up"})
        heap.settle()
        served.call(waiting(served.relay, owner.number, numbered(flow), many), 3_600)


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    figures(*given, *(CONTACTS, WAITING)[len(given):])
