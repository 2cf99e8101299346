"""Imports of contacts: a file or a request, in small slices, so that mail never waits for one, and from where it was after a crash.

    file in data_dir/imports ──► relay.audience.reader: rows, checked, their domains looked up ──► relay.store.audience.taking: one transaction a slice

The file is on the disk before the import is known, and how far it is, is written with each slice; so a restart, or whoever opens this store next, goes on
with the row after. What cannot go on ends as failed and says the way on. Nobody is subscribed again, no suppression is lifted, and no event tells of single
contacts unless that was asked for: one `import.completed` ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relay import log, metrics
from relay.audience import contacts as acts
from relay.audience import reader
from relay.audience.contacts import By
from relay.audience.reading import FILE, SHOWN, SLICE, Ground
from relay.audience.slices import Slice
from relay.audience.table import NOTHING
from relay.clock import Clock
from relay.delivery.dns import Resolver
from relay.errors import Conflict, Defer, Invalid, Malformed, StoreError
from relay.mail.ids import Maker
from relay.mail.reply import Reply
from relay.store import events
from relay.store.audience import contacts, imports, properties, taking
from relay.store.audience.imports import Fault, Import
from relay.store.audience.properties import Property
from relay.store.audience.taking import Part, Plan, added
from relay.store.engine import ASIDE, JOBS, Store
from relay.store.events import Event
from relay.store.workflows import hearing

AT_ONCE = 4  # imports at work; more hear "later"
TOLD = 100  # errors of an answer
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, *(10.0,) * 30)  # seconds between tries while the store takes nothing: five minutes, then the next start goes on
FOREIGN = 86_400.0  # seconds after which an import whose file no node has counts as lost
UNDONE = 200  # contacts of one transaction of an undo
BESIDE = 1_000  # rows of a slice where mail does not wait for its transaction, so that each statement has more to do

BUSY = Reply(451, "4.3.2", "too many imports are running, try again later")
LOST = "its file is no longer there; import the file again: what is in already is updated, not made twice"

LOG = log.get("import")
ROWS = metrics.counter("import_rows_total", "Rows of imports, by what became of them", "result")
RUNNING = metrics.gauge("imports_running", "Imports at work")


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be imported: `file` is a name in the directory of imports, `name` what its owner calls it, `form` FILE or JSON.

    mapping  what columns mean where their names do not say it, as relay.audience.columns has it
    rows     of the file as its preview counted them, 0 if nobody did
    """

    project: int
    file: str
    name: str
    form: str = FILE
    plan: Plan = field(default_factory=Plan)
    tags: tuple[str, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)  # who asked: client, key
    look: bool = True  # domains up; what another relay exported has been looked at
    mapping: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0

    def job(self) -> dict[str, Any]:
        plan = self.plan
        return {"file": self.file, "name": self.name, "form": self.form, "update": plan.update, "audience": plan.audience, "segment": plan.segment,
                "tell": plan.tell, "tags": list(self.tags), "source": self.source, "look": self.look, "mapping": dict(self.mapping), "rows": self.rows}


@dataclass(slots=True)
class Work:
    """An import at work; `faults` are the first errors, for the answer; `over` when it has ended."""

    job: Import
    faults: list[Fault] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Imports:
    """The imports of this process. `occurred` is called after a commit with an event."""

    def __init__(self, store: Store, resolver: Resolver, clock: Clock, maker: Maker, secrets: Sequence[str], occurred: Callable[[], None] = lambda: None):
        self.store, self.occurred = store, occurred
        self.directory = store.data_dir / "imports"
        self.at_work: dict[int, Work] = {}
        self._resolver, self._clock, self._maker = resolver, clock, maker
        self._secrets = acts.forgetful(secrets)

    @property
    def _beside(self) -> bool:
        """Whether slices have transactions of their own, beside those of mail."""
        return self.store.dialect == "postgresql"

    def place(self) -> Path:
        """The directory in which files wait; made with the first."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        return self.directory

    def file(self, order: Order) -> Path:
        return self.directory / order.file

    @contextlib.asynccontextmanager
    async def opened(self, order: Order) -> AsyncIterator[reader.Source]:
        """The rows of an order, read as far as their head; raises Invalid for what is no list of contacts."""
        async with reader.opened(self.file(order), order.name, order.form, order.mapping, self._resolver) as source:
            yield source

    async def start(self, order: Order) -> Work:
        """The import at work; raises Defer when too many are."""
        if len(self.at_work) >= AT_ONCE:
            raise Defer(BUSY)
        now, number = self._clock.now(), self._maker.next()
        figures = dict.fromkeys(("total", "imported", "updated", "skipped", "errors", "duplicates", "suppressed", "invalid", "no_mx"), 0)
        job = Import(number, order.project, imports.RUNNING, figures, now, job=order.job())
        await self.store.write(imports.add, job)
        return self._go(job)

    async def preview(self, order: Order, typed: Mapping[str, Property] = NOTHING) -> dict[str, Any]:
        """What `start` would do; nothing is written. Raises Defer when too many are at work.

        typed  properties that are to be defined before the start
        """
        if len(self.at_work) >= AT_ONCE:
            raise Defer(BUSY)
        mark = -self._maker.next()
        self.at_work[mark] = Work(Import(mark, order.project, imports.RUNNING, {}, 0.0))
        try:
            return await self._preview(order, typed)
        finally:
            del self.at_work[mark]

    async def _preview(self, order: Order, typed: Mapping[str, Property]) -> dict[str, Any]:
        told: dict[str, int] = dict.fromkeys(("total", "duplicates", "invalid", "no_mx"), 0)
        rows: list[dict[str, Any]] = []
        faults: list[Fault] = []
        existing = suppressed = 0
        async with self.opened(order) as source, contextlib.aclosing(
                self._parts(source, order.project, order.tags, 0, self._clock.now(), order.look, typed)) as parts:
            async for part, shown in parts:
                faults += part.faults[:SHOWN - len(faults)]
                told, rows = added(told, part.figures), rows + shown
                there, stopped = await self.store.read(taking.looked, order.project, part)
                existing, suppressed = existing + there, suppressed + stopped
            mapping = source.mapping
        valid = told["total"] - told["duplicates"] - told["invalid"] - told["no_mx"] - suppressed
        return {"total": told["total"], "valid": valid, "new": valid - existing, "existing": existing, "duplicates": told["duplicates"],
                "invalid": told["invalid"], "suppressed": suppressed, "no_mx": told["no_mx"], "mapping": mapping, "rows": rows,
                "faults": [{"row": each.row, "email": each.email, "error": each.error} for each in faults]}

    async def resume(self) -> int:
        """Go on with what a crash or a stop left; how many. What cannot go on ends as failed."""
        left = [each for each in await self.store.read(imports.running) if each.id not in self.at_work]
        known = {each.job.get("file") for each in left} | {work.job.job.get("file") for work in self.at_work.values()}
        went_on = 0
        for job in left:
            if job.job and (self.directory / job.job["file"]).exists():
                if len(self.at_work) < AT_ONCE:
                    LOG.info("import goes on", id=job.public_id, row=job.reached)
                    self._go(job)
                    went_on += 1
            elif self.store.dialect == "sqlite" or job.created_at < self._clock.now() - FOREIGN:
                await self._end(job, imports.FAILED, LOST)
        self._sweep(known)
        return went_on

    def _sweep(self, known: set[Any]) -> None:
        """Files of uploads that never became an import; a new one is younger than an hour."""
        for path in self.directory.glob("*") if self.directory.exists() else ():
            with contextlib.suppress(FileNotFoundError):
                if path.name not in known and path.stat().st_mtime < self._clock.now() - 3_600:
                    path.unlink()

    async def close(self) -> None:
        """Stop; the next start goes on."""
        tasks = [work.task for work in self.at_work.values() if work.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _go(self, job: Import) -> Work:
        work = self.at_work[job.id] = Work(job)
        RUNNING.set(len(self.at_work))
        work.task = asyncio.create_task(self._run(work), name="import")
        return work

    async def _run(self, work: Work) -> None:
        state, reason = imports.FAILED, "the relay failed at this; its log says more"
        try:
            await self._take(work)
            state, reason = imports.COMPLETED, ""
        except asyncio.CancelledError:
            state = imports.RUNNING
            raise
        except (StoreError, Defer) as error:
            state = imports.RUNNING
            LOG.warning("import waits for the next start", id=work.job.public_id, error=error.text)
        except (Invalid, Malformed) as error:
            reason = error.text
        except FileNotFoundError:
            reason = LOST
        except Exception as error:  # nobody waits for this task any more: whatever it is, the import ends and says so
            LOG.exception("import failed", id=work.job.public_id, error=type(error).__name__)
        finally:
            if state != imports.RUNNING:
                await self._end(work.job, state, reason)
            self.at_work.pop(work.job.id, None)
            RUNNING.set(len(self.at_work))

    async def _take(self, work: Work) -> None:
        job, told = work.job, work.job.job
        order = Order(job.project_id, told["file"], told["name"], told["form"], mapping=told.get("mapping", {}))
        plan = Plan(told["update"], told["audience"], told["segment"], told["tell"])
        async with self.opened(order) as source, contextlib.aclosing(
                self._parts(source, job.project_id, told["tags"], job.reached, job.created_at, told["look"], lines=self._beside)) as parts:
            async for part, _ in parts:
                await self._put(work, plan, part)
        LOG.info("import done", id=job.public_id, **work.job.figures)

    async def _put(self, work: Work, plan: Plan, part: Part) -> None:
        """One slice; tried again while the store takes nothing."""
        work.faults += part.faults[:TOLD - len(work.faults)]
        figures = await self._sent(work, plan, part)
        if figures is None:  # it is in, though nobody was told, or the import was ended elsewhere
            found = await self.store.read(imports.get, work.job.project_id, work.job.id)
            if found.state != imports.RUNNING or found.reached < part.through:
                raise Conflict("the import was ended while it ran")
            work.job = found
            return
        for name in ("imported", "updated", "skipped", "errors"):
            ROWS.labels(name).inc(figures[name] - work.job.figures.get(name, 0))
        work.job = replace(work.job, figures=figures, reached=part.through)
        if plan.tell:
            self.occurred()

    async def _sent(self, work: Work, plan: Plan, part: Part) -> dict[str, Any] | None:
        """What take_in gives."""
        rows = 0 if plan.tell or part.told or part.cleaned else part.count  # whoever leaves or is told of costs more than a row
        for pause in (*PAUSES, None):
            try:
                return await self.store.write(taking.take_in, work.job, plan, part, self._maker, lane=ASIDE, rows=rows)
            except (StoreError, Defer):
                if pause is None:
                    raise
            await asyncio.sleep(pause)
        return None

    async def _parts(self, source: reader.Source, project: int, tags: Sequence[str], skip: int, now: float, look: bool,
                     more: Mapping[str, Property] = NOTHING, lines: bool = False) -> AsyncIterator[Slice]:
        """The slices after row `skip`, their rows as `lines` if that is asked; the next are read while some are written."""
        typed = {**more, **await self.store.read(properties.of, project)}
        await source.begin(Ground(typed, list(tags), skip, self._secrets, now, BESIDE if self._beside else SLICE, lines, look))
        ahead = asyncio.create_task(source.next())
        try:
            while some := await ahead:
                ahead = asyncio.create_task(source.next())
                for each in some:
                    yield each
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _end(self, job: Import, state: str, reason: str) -> None:
        """Write down that the import is over, then forget its file."""
        if state == imports.FAILED:
            LOG.error("import failed", id=job.public_id, reason=reason)
        await self.store.write(_ended, job, state, reason, self._clock.now(), lane=JOBS)
        if job.job:
            with contextlib.suppress(OSError):
                os.unlink(self.directory / job.job["file"])
        self.occurred()

    async def undo(self, project: int, number: int, by: By) -> dict[str, int]:
        """What went: contacts that the import made, what it changed of others, whom it put where, whom it suppressed. Raises NotFound, Conflict."""
        found = await self.store.read(imports.get, project, number)
        if found.state == imports.RUNNING:
            raise Conflict("the import is still running")
        deleted = restored = 0
        while some := await self.store.read(imports.made, project, number, UNDONE):
            deleted += await self.store.write(acts.erase, some, by, lane=JOBS)
        while await self.store.read(imports.changed, number, 1):
            restored += await self.store.write(_restore, project, number, by.act.at, lane=JOBS)
        for act in (imports.leave_targets, imports.lift):
            while await self.store.write(act, found, UNDONE, lane=JOBS):
                pass
        await self.store.write(imports.undone, number, self._clock.now())
        self.occurred()
        return {"deleted": deleted, "restored": restored}


def _ended(conn: Any, job: Import, state: str, reason: str, now: float) -> None:
    if imports.end(conn, job.id, state, now, reason):
        found = imports.get(conn, job.project_id, job.id)
        told = {"import_id": found.public_id, "status": state, **found.figures, **({"reason": reason} if reason else {})}
        events.append(conn, [Event(job.project_id, "import.completed", now, data=told)])


def _restore(conn: Any, project: int, number: int, now: float) -> int:
    """Give some contacts back what they had before the import, but for those that somebody changed since; gives how many."""
    some, done = imports.changed(conn, number, UNDONE), 0
    old = {contact.id: contact for contact in contacts.by_ids(conn, project, [each for each, _, _ in some])}
    for each, before, untouched in some:
        if untouched and each in old:
            contacts.save(conn, replace(old[each], **{**before, "updated_at": now}))
            done += 1
    hearing.look_again(conn, [each for each, _, _ in some], now)
    imports.settle(conn, number, [each for each, _, _ in some])
    return done
