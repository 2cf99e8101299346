"""The submission workers of `relay serve --workers N`: started, watched, replaced and stopped by the main process.

Each worker inherits its listening sockets, which the main process keeps open; one that dies is started again with a growing pause, and what it had
handed over is delivered all the same. PID 1 in a container reaps what it is given, so every child is awaited.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping, Sequence

import orjson

from relay import log

PAUSES = (0.1, 0.5, 1.0, 5.0, 10.0)  # seconds before a dead worker is started again, by how many died in a row
STEADY = 60.0  # seconds after which a worker counts as healthy again

LOG = log.get("fleet")


class Fleet:
    """`places` are the listening sockets of each worker by listener name; `base` the number of the main process among the makers of ids."""

    def __init__(self, config: str | None, places: Sequence[Mapping[str, socket.socket]], base: int = 0):
        self._config = config
        self._base = base
        self._places = places
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children.values()]

    def start(self) -> None:
        self._keepers = [asyncio.create_task(self._keep(number, place)) for number, place in enumerate(self._places)]

    async def replace(self, stop: Callable[[int], None], timeout: float) -> None:
        """Workers with the new configuration, one by one: each finishes its transactions first (SIGHUP).

        stop  tells the worker with this process id to stop; a worker that is not gone after `timeout` seconds is killed
        """
        for child in list(self._children.values()):
            stop(child.pid)
            try:
                await asyncio.wait_for(child.wait(), timeout)
            except TimeoutError:
                child.kill()

    async def stop(self, timeout: float) -> None:
        """Refuse new clients, wait until the workers, told to stop over their links, have ended; kill what is left after `timeout` seconds."""
        self._stopping = True
        for sock in {id(sock): sock for place in self._places for sock in place.values()}.values():
            sock.close()
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=timeout)
            for child in self._children.values() if late else ():
                LOG.warning("worker killed", pid=child.pid)
                child.kill()
            await asyncio.gather(*self._keepers)

    async def _keep(self, number: int, place: Mapping[str, socket.socket]) -> None:
        died = 0
        while not self._stopping:
            child = await self._spawn(number, place)
            started = asyncio.get_running_loop().time()
            code = await child.wait()
            if self._stopping:
                return
            if code == 0:  # it was told to go, or outlived a main process
                continue
            died = 0 if asyncio.get_running_loop().time() - started > STEADY else died + 1
            LOG.error("worker ended", number=number, pid=child.pid, code=code, died=died)
            await asyncio.sleep(PAUSES[min(died, len(PAUSES)) - 1])

    async def _spawn(self, number: int, place: Mapping[str, socket.socket]) -> asyncio.subprocess.Process:
        files = {name: sock.fileno() for name, sock in place.items()}
        told = orjson.dumps({"config": self._config, "number": self._base + number + 1, "processes": len(self._places), "files": files}).decode()
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", "relay.worker", told, pass_fds=tuple(files.values()))
        self._children[number] = child
        return child
