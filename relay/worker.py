"""A submission worker: accepts, parses, runs the admit chain, and hands what passed to the main process; it never writes the store.

Forked by the nursery, which gives it words of relay.fleet (config file, worker number, how many workers there are, names of listeners) and the listening file
descriptors of those names. It says 250 only when the main process has committed. When that one is gone the worker stops accepting, settles what it owes
(relay.handover) and exits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from relay import entrance, heap, log, metrics, nursery, settings
from relay.clock import Clock
from relay.handover import Link
from relay.mail.ids import Maker
from relay.settings import Settings
from relay.smtp.auth import Guard
from relay.store.engine import Store
from relay.store.secrets import ensure

REPORT = 1.0  # seconds between two reports of metrics


class LinkCounters:
    """Limits are counted by the main process, so that they hold across workers."""

    def __init__(self, link: Link):
        self._link = link

    async def take(self, name: str, limit: int, period: float, amount: int = 1) -> float:
        return await self._link.count("take", name, limit, period, amount)

    async def give_back(self, name: str, amount: int = 1) -> None:
        await self._link.count("give_back", name, amount)


async def work(config: Settings, number: int, processes: int, files: dict[str, int]) -> None:
    """Serve, as one of `processes`, until told to stop or orphaned."""
    stopping = asyncio.Event()
    clock = Clock()
    store = await Store.open(config.store.url, config.data_dir, clock=clock, read_only=True)
    changed: list[Any] = []
    link = Link(config.data_dir / "handover.sock", lambda kind: [drop(kind) for drop in changed] and None, stopping.set)
    await link.connect()
    tools = entrance.tools(config, store, ensure(config.data_dir, config.secret_key), clock, LinkCounters(link))
    changed.append(tools.changed)
    maker = Maker(number)
    door = entrance.door(config, tools, link.commit, maker)
    guard = Guard(clock, link.guard)
    link.heard = guard.hear
    listeners = entrance.listeners(config, await entrance.desk(door, tools.keeper, store, link.large), maker, guard, processes)
    for name, listener in listeners.items():
        await listener.start(socket.socket(fileno=files[name]))
    heap.settle()
    heap.watch(forked=True)
    for signum in (signal.SIGTERM, signal.SIGINT):  # a terminal's ^C reaches us too; only the main process decides
        asyncio.get_running_loop().add_signal_handler(signum, lambda: None)
    reporter = asyncio.create_task(_report(link))
    await stopping.wait()
    for listener in listeners.values():
        listener.close()
    orphaned = asyncio.create_task(link.settle())
    await asyncio.gather(*(listener.drain(config.shutdown_timeout) for listener in listeners.values()))
    await orphaned
    reporter.cancel()
    link.metrics(metrics.drain())
    await store.close()


async def _report(link: Link) -> None:
    while True:
        await asyncio.sleep(REPORT)
        if link.transport is not None:
            link.metrics(metrics.drain())


def begin(words: dict[str, Any], files: Sequence[int]) -> int:
    """Work in this process, which was just forked, until that is over; gives the exit code."""
    config = settings.load(words["config"], os.environ)
    log.start(config.log.level, config.log.format)
    try:
        uvloop.run(work(config, words["number"], words["processes"], dict(zip(words["listeners"], files, strict=True))))
    except OSError as error:
        sys.stderr.write(f"relay: worker {words['number']} gives up: {error}\n")
        return 1
    finally:
        log.stop()
    return 0


def main() -> None:
    """A nursery in place of one that died: `python -m relay.worker FD`."""
    heap.fix()
    sys.exit(nursery.attend(socket.socket(fileno=int(sys.argv[1])), begin))


if __name__ == "__main__":
    main()
