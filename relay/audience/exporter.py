"""Where an export is written: its first page here, so that a small one costs nothing, and the rest in a process that reads the store by itself.

    async for octets in exporter.written(store, url, export): ...

The process is `python -m relay.audience.exporter`: msgpack on its standard input says what to export from which place on, its standard output is the export.
The pipe holds it back while the client is slow, so neither process keeps more than a page; it has the lowest priority there is. Its store is opened to read
only, and no read lasts longer than a page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from relay import priority
from relay.audience.exports import JSON, Export, head, pieces, tail
from relay.errors import Defer, StoreError
from relay.mail.reply import Reply
from relay.store.engine import Store

AT_ONCE = 4  # exports in processes of their own
PIECE = 65_536  # octets that are passed on at once
NICE = 10

BUSY = Reply(451, "4.3.2", "too many exports are running, try again later")

_running: set[asyncio.subprocess.Process] = set()


class Rest(msgspec.Struct, frozen=True):
    """What the process is told: which store, which export, after which place, and what separates it from the rows before."""

    url: str
    data_dir: str
    export: Export
    start: tuple[int, int]


def check() -> None:
    """Raises Defer when too many exports are running."""
    if len(_running) >= AT_ONCE:
        raise Defer(BUSY)


async def written(opened: Store, url: str, export: Export) -> AsyncIterator[bytes]:
    """The octets of an export; raises StoreError when its process failed, and the answer then ends before its time."""
    yield await head(opened, export)
    async with contextlib.aclosing(pieces(opened, export)) as first:
        found = await anext(first, None)
    if found is None:
        yield tail(export)
        return
    place, octets = found
    yield octets
    if await _over(opened, export, place):
        yield tail(export)
        return
    async for octets in _rest(Rest(url, str(opened.data_dir), export, place)):
        yield octets
    yield tail(export)


async def _over(opened: Store, export: Export, place: tuple[int, int]) -> bool:
    """Whether nothing comes after a place."""
    async with contextlib.aclosing(pieces(opened, export, place)) as more:
        async for _ in more:
            return False
    return True


async def _rest(rest: Rest) -> AsyncIterator[bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.audience.exporter", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=PIECE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)})
    assert process.stdin is not None
    assert process.stdout is not None
    _running.add(process)
    try:
        process.stdin.write(msgspec.msgpack.encode(rest))
        process.stdin.close()
        while octets := await process.stdout.read(PIECE):
            yield octets
        if await process.wait():
            raise StoreError("the export failed, try again later")
    finally:
        _running.discard(process)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def every(opened: Store, export: Export) -> AsyncIterator[bytes]:
    """All octets of an export, written here: for a command, which is a process of its own."""
    yield await head(opened, export)
    separator = b""
    async for _, octets in pieces(opened, export):
        yield separator + octets
        separator = b"," if export.form == JSON else b""
    yield tail(export)


# The process.


async def _write(rest: Rest) -> None:
    opened = await Store.open(rest.url, Path(rest.data_dir), read_only=True, accept_old_sqlite=True)
    sink = sys.stdout.buffer
    try:
        async for _, octets in pieces(opened, rest.export, rest.start):
            if rest.export.form == JSON:
                sink.write(b",")
            sink.write(octets)
            sink.flush()
    finally:
        await opened.close()


def main() -> None:
    """Write what standard input asks for."""
    priority.give_way(NICE)
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_write(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Rest)))


if __name__ == "__main__":
    main()
