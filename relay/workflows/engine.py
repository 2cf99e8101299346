"""The engine: hears the event log, begins scheduled runs, takes on those that are due; on the node that delivers, behind the mail.

    event log ── cursor ──► runs begin, waiting runs go on ──► due runs ──┬─► steps of our own          one transaction for many (relay.workflows.advance)
    schedules ──► contacts, a slice at a time ──► runs begin ─────────────┴─► emails: through the door    and requests, in tasks of their own

Memory holds what is under way now, nothing of what waits. Turns are shared between workflows, so one with a million due runs leaves the others theirs. When
the queue is crowded, or the disk has no room for mail, no emails are made and the runs that stand before one wait; a queue that is held holds all of them. A
run that cannot be taken on for a fault of ours fails alone, and the log says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from relay import log
from relay.clock import Clock
from relay.errors import RelayError, StoreError
from relay.fetch import Fetch
from relay.mail.ids import Maker
from relay.mail.message import Message
from relay.metrics import gauge
from relay.news import News, Sight
from relay.store import events, faults
from relay.store.audience import contacts
from relay.store.engine import JOBS, Store
from relay.store.events import START
from relay.store.workflows import counts, hearing, runs, workflows
from relay.store.workflows.runs import ELSEWHERE, MAIL, OWN, RUNNING, Run
from relay.workflows import advance, begin, calls, letters
from relay.workflows.advance import Done, Taken, Tools, Turn
from relay.workflows.letters import Work
from relay.workflows.plan import Plans
from relay.workflows.steps import Call, Email

if TYPE_CHECKING:
    from relay.submission import Door

BATCH = 200  # runs of one transaction
LANES = 20  # emails at the door at once
CALLS = 20  # requests under way at once
CROWD = 10_000  # recipients in memory beyond which no email is made
MINUTE = 60.0
FIGURES = 5.0  # seconds between two looks at the figures
FAULT = 5.0  # seconds of rest after a fault of ours

LOG = log.get("workflows")
RUNS = gauge("workflow_runs", "Runs of workflows by state", "state")
LATE = gauge("workflow_due_age_seconds", "For how long the run that is due longest has been due; it grows when the engine does not keep up")


class Room(Protocol):
    """What the engine asks of the queue: relay.leader.Leader."""

    held: bool
    known: Any

    def accepted(self, message: Message) -> None: ...
    def forget(self, recipient_ids: Any) -> None: ...


class Engine:
    """`run` for ever, whenever the news have something for it. One event loop owns it."""

    def __init__(
        self, store: Store, news: News, door: Callable[[], Door], room: Room, fetch: Fetch, clock: Clock, maker: Maker, secrets: tuple[str, ...],
        occurred: Callable[[], None],
    ):
        self._store, self._news, self._door, self._room, self._fetch, self._clock, self._maker = store, news, door, room, fetch, clock, maker
        self._occurred = occurred
        self._tools = Tools(Plans(), maker, secrets)
        self._seen = ""  # the newest cursor of the log that has been looked at
        self._skipped = self._counted = -MINUTE
        self._asking: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Hear, begin and go on, for ever; a store that is away is asked again."""
        self._store.listen("workflows", lambda _: self._news.tell())
        try:
            while True:
                await self._look()
        finally:
            for task in self._asking.values():
                task.cancel()

    async def _look(self) -> None:
        try:
            if self._wanted(await self._news.look()):
                while await self.turn():
                    pass
        except RelayError as error:
            LOG.warning("workflows postponed", error=error.text)
            await asyncio.sleep(FAULT)
        except Exception:
            LOG.exception("workflows could not go on")
            await asyncio.sleep(FAULT)

    def _wanted(self, sight: Sight) -> bool:
        """Whether a turn may find something to do."""
        if time.monotonic() - self._counted >= FIGURES:
            return True
        due = sight.due is not None and sight.due <= self._clock.now()
        return sight.workflows and (due or sight.told or sight.last != self._seen)

    async def turn(self) -> bool:
        """All there is to do at once; whether there may be more."""
        if self._room.held:  # a restored store: what it does not know may have been done
            return False
        await self._figures()
        if not await self._store.point(workflows.anything):
            if time.monotonic() - self._skipped >= MINUTE:
                await self._skip(await self._store.point(hearing.cursor), await self._store.point(events.last))
            return False
        more = await self._hear()
        now = self._clock.now()
        for flow in await self._store.read(workflows.scheduled, now):
            more |= await self._store.write(begin.by_schedule, flow.id, now, self._tools.plans, self._maker, lane=JOBS)
        more |= await self._go_on()
        await self._ask()
        return more or await self._sweep()

    async def _sweep(self) -> bool:
        """Take away some of what was deleted."""
        return await self._store.point(workflows.any_deleted) and await self._store.write(workflows.sweep, runs.SLICE, lane=JOBS) > 0

    async def _figures(self) -> None:
        if time.monotonic() - self._counted < FIGURES:
            return
        self._counted = time.monotonic()
        late, age = await self._store.read(runs.lateness, self._clock.now())
        whole = await self._store.read(counts.whole, runs.STATUSES)
        for status in runs.STATUSES:
            RUNS.labels(status).set(max(0, whole[status]))
        RUNS.labels("due").set(late)
        RUNS.labels("waiting").set(max(0, whole[RUNNING] - late))
        LATE.set(age)

    # The log.

    async def _hear(self) -> bool:
        """Take in the next page of the log; whether there may be more."""
        latest = await self._store.point(events.last)
        if latest == self._seen:
            return False
        before = await self._store.point(hearing.cursor)
        if not await self._store.point(workflows.any_begun):
            await self._skip(before, latest)
            return False
        types, segments = begin.names(begin.wanted(await self._store.read(workflows.active)))
        found, after, more = await self._store.read(hearing.heard, before or START, types, segments)
        if after == (before or START):
            self._seen = "" if more else latest
            return False
        await self._store.write(begin.by_events, found, before, after, self._clock.now(), self._tools.plans, lane=JOBS)
        return True

    async def _skip(self, before: str | None, latest: str) -> None:
        """There is no workflow that the log could be about; that is written down now and then, so that the first one does not begin with all of it."""
        self._seen = latest
        if time.monotonic() - self._skipped >= MINUTE:
            self._skipped = time.monotonic()
            await self._store.write(hearing.move, before, latest, lane=JOBS)

    # Runs that are due.

    async def _go_on(self) -> bool:
        """Take on a batch of those that need no request; whether there was any."""
        now, crowded = self._clock.now(), len(self._room.known) >= CROWD or self._store.intake_open() is not None
        due = await self._store.read(runs.due, OWN, now, BATCH)
        due += [] if crowded else await self._store.read(runs.due, MAIL, now, BATCH)
        if not due:
            return False
        turns = {run.id: Turn(run.id, run.visited) for run in due}
        if not crowded:  # else those that stand before an email without knowing it come to know it
            work = await self._store.read(gathered, due, self._tools.plans)
            mail = [each for each in work if isinstance(each.step, Email)]
            done = await self._letters(mail)
            turns |= {each.run.id: replace(turns[each.run.id], done=done.get(each.run.id)) for each in mail}
            turns = {number: turn for number, turn in turns.items() if turn.done is not None or number not in {each.run.id for each in mail}}
        if turns:
            await self._take(list(turns.values()))
        return bool(turns)

    async def _letters(self, mail: Sequence[Work]) -> dict[int, Done]:
        """What became of the copies of these, a few at a time."""
        found: dict[int, Done] = {}
        for first in range(0, len(mail), LANES):
            some = mail[first:first + LANES]
            door, now = self._door(), self._clock.now()
            answers = await asyncio.gather(*(letters.prepared(door, each, self._maker.next(), now) for each in some), return_exceptions=True)
            for each, answer in zip(some, answers, strict=True):
                if isinstance(answer, Done):
                    found[each.run.id] = answer
                elif not isinstance(answer, StoreError):
                    LOG.error("workflow email fault", run=each.run.public_id, error=repr(answer))
                    found[each.run.id] = Done("failed", {"reason": "something went wrong here; the log says more"}, ends=True)
        return found

    async def _take(self, turns: Sequence[Turn]) -> None:
        """One transaction of these; where it fails for a fault of ours, each alone, so that the others go on."""
        made = [turn.done.message for turn in turns if turn.done is not None and turn.done.message is not None]
        kept: set[int] = set()
        try:
            size = sum(message.size for message in made)
            taken = await self._store.write(advance.take, turns, self._clock.now(), self._tools, lane=JOBS, size=size)
            faults.point("workflow.committed")
            kept = {message.id for message in taken.accepted}
            self._tell(taken)
        except RelayError:
            raise
        except Exception as error:
            if len(turns) > 1:
                kept = {message.id for message in made}  # each of them is let go alone
                for turn in turns:
                    await self._take([turn])
                return
            LOG.error("workflow run fault", run=turns[0].run, error=repr(error))
            await self._store.write(runs.fail, turns[0].run, "something went wrong here; the log says more", self._clock.now(), lane=JOBS)
        finally:
            await self._door().let_go([message for message in made if message.id not in kept])

    def _tell(self, taken: Taken) -> None:
        """The queue hears of new mail and of copies that no longer wait, webhooks of new events."""
        door = self._door()
        taken.count()
        for message in taken.accepted:
            door.told(message)
            self._room.accepted(message)
        if taken.stopped:
            self._room.forget(taken.stopped)
        if taken.steps:
            self._occurred()

    # Requests.

    async def _ask(self) -> None:
        """Begin as many requests as may be under way."""
        free = CALLS - len(self._asking)
        if free <= 0:
            return
        due = await self._store.read(runs.due, ELSEWHERE, self._clock.now(), free, list(self._asking))
        for each in await self._store.read(gathered, due, self._tools.plans) if due else ():
            self._asking[each.run.id] = asyncio.create_task(self._asked(each))

    async def _asked(self, work: Work) -> None:
        try:
            done = await calls.called(self._fetch, work, self._clock.now()) if isinstance(work.step, Call) else None
            faults.point("workflow.called")
            await self._take([Turn(work.run.id, work.run.visited, done)])
        except RelayError as error:
            LOG.warning("workflow request postponed", run=work.run.public_id, error=error.text)
        except Exception:
            LOG.exception("workflow request fault", run=work.run.public_id)
        finally:
            del self._asking[work.run.id]
            self._news.tell()


def gathered(conn: Any, due: Sequence[Run], plans: Plans) -> list[Work]:
    """These runs with what their steps need."""
    flows = workflows.among(conn, {run.workflow_id for run in due})
    people: dict[int, Any] = {}
    for project in {run.project_id for run in due}:
        people |= {each.id: each for each in contacts.by_ids(conn, project, {run.contact_id for run in due if run.project_id == project})}
    known: dict[tuple[int, int, str | None], Any] = {}
    found = []
    for run in due:
        if run.contact_id not in people or run.workflow_id not in flows:
            continue
        place = (run.workflow_id, run.version, run.node)
        if place not in known:
            step = plans.get(conn, run.workflow_id, run.version).steps.get(run.node or "")
            known[place] = (step, *letters.template(conn, run.project_id, step))
        found.append(Work(run, flows[run.workflow_id], known[place][0], people[run.contact_id], *known[place][1:]))
    return found
