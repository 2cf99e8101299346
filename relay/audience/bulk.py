"""Acts on many contacts, behind the mail: a slice at a time, each slice one transaction with how far the act is, so that a crash neither loses nor repeats.

An act runs in the process that was asked. What is left of it after a crash or a stop, another goes on with once nobody has touched it for STALE seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay import log
from relay.audience import contacts as acts
from relay.audience.contacts import By
from relay.audience.grammars import read
from relay.clock import Clock
from relay.consent import Act
from relay.errors import Conflict, Defer, NotFound, RelayError
from relay.mail.ids import Maker
from relay.mail.reply import Reply
from relay.metrics import counter
from relay.store.audience import bulk_acts, contacts, properties
from relay.store.audience.bulk_acts import COMPLETED, FAILED, RUNNING, BulkAct
from relay.store.engine import JOBS, Store

SUBSCRIBE = "subscribe"
SLICE = 200  # contacts of one transaction
AT_ONCE = 8  # acts of this process
OF_ONE = 4  # of them of one project, so that another finds a place
STALE = 60.0  # seconds without a slice after which an act counts as left
KEPT = 7 * 86_400.0  # seconds that an ended act can still be asked about

BUSY = Reply(451, "4.3.2", "too many acts on many contacts are running, try again later")
LOG = log.get("bulk")
DONE = counter("bulk_contacts_total", "Contacts that acts on many contacts changed, by act", "act")

Told = Callable[[tuple[int, ...]], None]


class Bulk:
    """The acts on many contacts of this process.

    secrets  what the hashes of forgotten addresses are made with, or nothing where nobody acts
    told     hears of recipients whose copies no longer wait, after each slice
    size     contacts of a slice
    """

    def __init__(self, store: Store, clock: Clock, maker: Maker, secrets: Sequence[str], told: Told = lambda _stopped: None, size: int = SLICE):
        self._store, self._clock, self._maker, self._secrets, self._told, self._size = store, clock, maker, tuple(secrets), told, size
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._places: dict[int, int] = {}  # the project of each act that runs or begins

    async def begin(self, project: int, act: str, wanted: Mapping[str, Any], total: int, first: Callable[[Any], Any] | None = None) -> BulkAct:
        """The act, which runs from now on; `first` is done with a connection in the transaction that begins it. Raises Defer when too many run."""
        taken = list(self._places.values())
        if len(taken) >= AT_ONCE or taken.count(project) >= OF_ONE:
            raise Defer(BUSY)
        now = self._clock.now()
        made = BulkAct(self._maker.next(), project, act, RUNNING, dict(wanted), 0, total, 0, now, now)

        def begun(conn: Any) -> None:
            if first is not None:
                first(conn)
            bulk_acts.add(conn, made)

        self._places[made.id] = project
        try:
            await self._store.write(begun, lane=JOBS)
        except BaseException:
            del self._places[made.id]
            raise
        self._go(made)
        return made

    async def rest(self, act: BulkAct, patience: float | None = None) -> bool:
        """Whether this process does nothing more of the act, after at most `patience` seconds: it has ended, or waits for another turn."""
        if (task := self._tasks.get(act.id)) is None:
            return True
        ended, _ = await asyncio.wait({task}, timeout=patience)
        return bool(ended)

    async def resume(self) -> int:
        """Go on with what was left; how many acts. Old ones that ended are forgotten."""
        now = self._clock.now()
        await self._store.write(bulk_acts.prune, now - KEPT, lane=JOBS)
        found = [each for each in await self._store.read(bulk_acts.left, now - STALE) if each.id not in self._tasks]
        for each in found[:max(0, AT_ONCE - len(self._places))]:
            self._go(each)
        return len(found)

    async def close(self) -> None:
        """Stop between two slices; the acts stay running for whoever comes next."""
        for task in list(self._tasks.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _go(self, act: BulkAct) -> None:
        task = asyncio.get_running_loop().create_task(self._run(act), name=f"bulk {act.public_id}")
        self._tasks[act.id] = task
        self._places[act.id] = act.project_id
        task.add_done_callback(lambda _done: self._leave(act.id))

    def _leave(self, number: int) -> None:
        self._tasks.pop(number, None)
        self._places.pop(number, None)

    async def _run(self, act: BulkAct) -> None:
        try:
            if not act.total and ("segment" in act.wanted or "property" in act.wanted):
                await self._store.write(bulk_acts.counted, act.id, await self._store.read(bulk_acts.size, act, read), lane=JOBS)
            while (act := await self._store.read(bulk_acts.get, act.project_id, act.id)).state == RUNNING:
                numbers = await self._store.read(bulk_acts.following, act, self._size, read)
                if not numbers:
                    await self._store.write(bulk_acts.end, act.id, COMPLETED, self._clock.now(), lane=JOBS)
                    DONE.labels(act.act).inc(act.done)
                    LOG.info("act on many contacts ended", id=act.public_id, project=act.project_id, act=act.act, contacts=act.done)
                    return
                self._told(await self._store.write(_slice, act, numbers, self._by(act), lane=JOBS))
        except Conflict:
            return  # another node has gone on with it
        except NotFound as error:
            LOG.warning("act on many contacts ended early", id=act.public_id, error=error.text)
            await self._store.write(bulk_acts.end, act.id, FAILED, self._clock.now(), lane=JOBS)
        except RelayError as error:
            LOG.warning("act on many contacts waits", id=act.public_id, error=error.text)  # the chore takes it up again
        except Exception:
            LOG.exception("act on many contacts failed", id=act.public_id)
            await self._store.write(bulk_acts.end, act.id, FAILED, self._clock.now(), lane=JOBS)

    def _by(self, act: BulkAct) -> By:
        told = dict(act.wanted.get("evidence", {}))
        source, client, agent = (str(told.pop(name, "")) for name in ("source", "client", "agent"))
        return By(act.project_id, Act(source or "api", client, agent, self._clock.now(), told), self._maker, self._secrets)


def _slice(conn: Any, act: BulkAct, numbers: Sequence[int], by: By) -> tuple[int, ...]:
    """Do one slice; raises Conflict when somebody else has. The recipients whose copies no longer wait."""
    without = set(act.wanted.get("without", ()))
    wanted = [each for each in numbers if each not in without]
    done, stopped = _done(conn, act, wanted, by)
    if not bulk_acts.advance(conn, act, numbers[-1], done, by.act.at, len(numbers)):
        raise Conflict("somebody else has gone on with this act")
    return stopped


def _done(conn: Any, act: BulkAct, numbers: Sequence[int], by: By) -> tuple[int, tuple[int, ...]]:
    if act.act == properties.STRIP:
        return properties.strip(conn, numbers, act.wanted["property"], by.act.at), ()
    if act.act != SUBSCRIBE:
        return acts.many(conn, numbers, act.act, act.wanted.get("tags", ()), by)
    gone = [each.id for each in contacts.by_ids(conn, by.project, numbers) if each.unsubscribed]
    for number in gone:
        acts.change(conn, number, {"unsubscribed": False}, by)
    return len(gone), ()
