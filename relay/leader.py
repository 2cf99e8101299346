"""Who delivers: on SQLite this process, on PostgreSQL the one node that holds the lease `delivery`; the others accept mail and wake it.

One delivering node keeps every per-site limit true across the cluster without another component. A node that could not renew its lease for DOUBT seconds
stops: its supervisor starts it again, as one of those that wait. Nodes speak by NOTIFY: `queue` wakes the one that delivers, `forget` names recipients that
were cancelled or held elsewhere, `site` a site that was suspended or resumed.

What is written of leases goes in the lane of outcomes, which is never refused: a node that has too much to do still delivers.

Each node also takes one of SLOTS numbers, so that the ids made by its processes never meet those of another (relay.mail.ids).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

from relay import log
from relay.delivery.route import Router
from relay.errors import ConfigError, StoreError
from relay.mail import ids
from relay.mail.message import Message
from relay.queue import withholding
from relay.queue.runner import Runner
from relay.queue.waiting import Place, Waiting
from relay.queue.withholding import Withholding
from relay.store import leases, lock, sites
from relay.store.engine import JOBS, OUTCOMES, Store
from relay.store.leases import DOUBT, RENEW

SLOTS = 64  # nodes that may share a database
PROCESSES = 1024 // SLOTS  # processes of a node: the main one and its workers
WAKE = 0.05  # seconds between two wake-ups of the node that delivers
NAMES = 200  # recipients named in one NOTIFY, whose payload is under 8,000 octets

LOG = log.get("leader")


class Leader:
    """`accepted` is what the intake tells; `run` delivers, now or when it is this node's turn."""

    def __init__(self, store: Store, runner: Runner):
        self._store, self._runner, self._withholding = store, runner, Withholding(store, runner)
        self._node = ""
        self._woken = False
        self.leading = store.dialect == "sqlite"
        self.slot = 0

    async def join(self) -> None:
        """Take a number among the nodes of this database; raises ConfigError when all are taken."""
        if self._store.dialect == "sqlite":
            return
        self._node = lock.node(self._store.data_dir)
        for slot in range(SLOTS):
            if await self._store.write(leases.take, f"node:{slot}", self._node, lane=OUTCOMES):
                self.slot = slot
                return
        raise ConfigError("store.url", f"{SLOTS} relays use this database already")

    def maker(self, process: int = 0) -> ids.Maker:
        """The maker of ids of a process of this node; 0 is the main one."""
        return ids.Maker(self.slot * PROCESSES + process)

    def accepted(self, message: Message) -> None:
        """A message has just been committed here."""
        if self.leading:
            self._runner.accepted(message)
        elif not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_later(WAKE, self._wake)

    def _wake(self) -> None:
        self._woken = False
        self._store.notify("queue")

    def forget(self, recipient_ids: Iterable[int]) -> None:
        """These are cancelled or held: whoever delivers leaves them out."""
        if self.leading:
            self._runner.forget(recipient_ids)
            return
        named = list(recipient_ids)
        for start in range(0, len(named), NAMES):
            self._store.notify("forget", ",".join(map(str, named[start:start + NAMES])))

    @contextlib.asynccontextmanager
    async def withheld(self, waiting: Sequence[Waiting]) -> AsyncIterator[bool]:
        """Whether the node that delivers has not begun with any of these; within the block it does not. Raises Defer when it does not answer."""
        if self.leading:
            with withholding.here(self._runner, waiting) as free:
                yield free
        else:
            async with self._withholding.elsewhere(waiting) as free:
                yield free

    def wake(self) -> None:
        """Rows were made due."""
        if self.leading:
            self._runner.wake()
        else:
            self._store.notify("queue")

    def sooner(self, at: float) -> None:
        """A message was scheduled or moved to this time (UTC seconds)."""
        if self.leading:
            self._runner.loader.sooner(at)
        else:
            self._store.notify("queue")

    @property
    def held(self) -> bool:
        return self._runner.held

    @property
    def known(self) -> Mapping[int, Waiting]:
        """Recipients in memory here, by id."""
        return self._runner.known

    @property
    def places(self) -> Mapping[str, Place]:
        """Domains in memory here, with the sites that their mail goes to."""
        return self._runner.places

    def full(self, ahead: int) -> list[str]:
        """Domains that have no room for bulk mail; on the node that delivers."""
        return self._runner.memory.full(ahead)

    def pace(self, site: str) -> tuple[float, float]:
        """Messages a second that the site may get at most as things are, and the seconds until the first; by its table where another node delivers."""
        return self._runner.pace(site)

    @property
    def router(self) -> Router:
        return self._runner.router

    def rescan(self) -> None:
        """Rows have become free."""
        if self.leading:
            self._runner.rescan()
        else:
            self._store.notify("queue", "rescan")

    def suspend(self, name: str, until: float | None = None, reason: str = "by hand") -> None:
        """The site gets no mail until then (UTC seconds, None = until `resume`)."""
        if self.leading:
            self._runner.suspend(name, until, reason)
        else:
            self._store.notify("site", name)

    def resume(self, name: str) -> None:
        if self.leading:
            self._runner.resume(name)
        else:
            self._store.notify("site", name)

    def limit(self, recipient_id: int, domain: str, due: float) -> tuple[str, float | None]:
        """What holds this recipient back, and until when; the node that delivers knows."""
        return self._runner.limit(recipient_id, domain, due) if self.leading else ("another node delivers", None)

    async def _told_of(self, name: str) -> None:
        """This site was suspended or resumed elsewhere; "" stands for all, since notices are lost while the line to the database is."""
        now, asked = self._store.clock.now(), [name] if name else self._runner.suspended()
        if name:
            found = [await self._store.read(sites.get, name)]
        else:
            await asyncio.sleep(0)  # our own suspensions are on their way to the store by then, and this look comes after them
            found = await self._store.write(sites.remembered, now, lane=JOBS)
        suspended = {site.name: site for site in found if site is not None and site.suspended(now)}
        for site in suspended.values():
            self._runner.suspend(site.name, site.suspended_until, site.reason)
        for gone in asked:
            if gone not in suspended:
                self._runner.resume(gone)

    async def run(self, deliver: Callable[[], Awaitable[None]]) -> None:
        """Deliver for ever, as soon as it is this node's turn; raises StoreError when the lease is lost."""
        if self._store.dialect == "sqlite":
            await deliver()
            return
        while not await self._take():
            await asyncio.sleep(RENEW / 4)
        LOG.info("this node delivers", node=self._node)
        self.leading = True
        async with asyncio.TaskGroup() as group:
            self._store.listen("queue", lambda what: self._runner.rescan() if what == "rescan" else self._runner.wake())
            self._store.listen("forget", lambda names: self._runner.forget(int(name) for name in names.split(",") if name))
            self._withholding.serve()
            self._store.listen("site", lambda name: self._runner.spawn(self._told_of(name)) and None)
            group.create_task(deliver())
            group.create_task(self._renew())

    async def _take(self) -> bool:
        try:
            return await self._store.write(leases.take, "delivery", self._node, lane=OUTCOMES)
        except StoreError:
            return False

    async def _renew(self) -> None:
        """Renew the lease for ever; raises StoreError once that has not worked for DOUBT seconds, whether the database refuses or keeps silent."""
        loop = asyncio.get_running_loop()
        renewed, pause = loop.time(), RENEW
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout_at(renewed + DOUBT):
                    await asyncio.sleep(pause)
                    asked = loop.time()  # the term begins when the database hears of it, not when its answer comes
                    taken = await self._take()
                renewed, pause = (asked, RENEW) if taken else (renewed, RENEW / 4)
        self._runner.stopping = True
        raise StoreError("the lease to deliver could not be renewed; another relay delivers now")

    async def keep_slot(self) -> None:
        """Renew this node's number, for ever; raises StoreError when another node has it, since both would make the same ids."""
        while self._store.dialect != "sqlite":
            await asyncio.sleep(RENEW)
            try:
                kept = await self._store.write(leases.take, f"node:{self.slot}", self._node, lane=OUTCOMES)
            except StoreError as error:
                LOG.warning("node number not renewed", error=error.text)
                continue
            if not kept:
                raise StoreError(f"this relay was away for so long that another has its number {self.slot}; started again it takes one that is free")

    async def leave(self) -> None:
        """Give the leases back, so that another node takes over at once."""
        if self._store.dialect != "sqlite":
            await self._store.write(leases.release_all, self._node, lane=OUTCOMES)
