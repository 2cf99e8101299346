"""Where the rows of an import are read: a small file in a thread, a larger one in a process of its own, so that mail has the interpreter to itself.

    async with reader.opened(path, name, form, mapping, resolver) as source:      raises Invalid for what cannot be read
        source.mapping, source.given
        await source.begin(ground)
        while some := await source.next():      slices, none at the end

The process is `python -m relay.audience.reader`: frames on its standard input and output, four octets of length and msgpack, one answer for each question. It
runs where nothing else wants a processor (SCHED_IDLE, sched(7)). When either end goes, the other ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from relay import priority
from relay.audience.reading import Ground, Reading
from relay.audience.slices import Slice, Slices
from relay.delivery.dns import Resolver
from relay.errors import Defer, Invalid, Malformed, RelayError
from relay.mail.reply import Reply

SMALL = 100_000  # octets of a file that is read in a thread: less than a process takes to start
NICE = 10  # on a busy machine
PATIENCE = 600.0  # seconds for one answer; the first has the whole file read once, to tell its encoding

GONE = Reply(451, "4.3.0", "the file could not be read, try again later")


class InThread:
    """A Reading whose work is done in a thread."""

    def __init__(self, reading: Reading, resolver: Resolver):
        self.mapping, self.given = reading.mapping, reading.given
        self._slices = Slices(reading, resolver, asyncio.to_thread)

    async def begin(self, ground: Ground) -> None:
        self._slices.begin(ground)

    async def next(self) -> list[Slice]:
        return await self._slices.next()


class InProcess:
    """A Reading in a process of its own, which asks the same nameservers."""

    def __init__(self, process: asyncio.subprocess.Process, resolver: Resolver, mapping: dict[str, str], given: dict[str, Any]):
        self._process, self._resolver, self.mapping, self.given = process, resolver, mapping, given

    async def begin(self, ground: Ground) -> None:
        await asked(self._process, ("begin", (ground, self._resolver.nameservers)), None)

    async def next(self) -> list[Slice]:
        return await asked(self._process, ("next", None), list[Slice])


Source = InThread | InProcess


@contextlib.asynccontextmanager
async def opened(path: Path, name: str, form: str, mapping: Mapping[str, str], resolver: Resolver) -> AsyncIterator[Source]:
    """The rows of a file; raises Invalid or Malformed for what is none, Defer when its reader ended."""
    if path.stat().st_size <= SMALL:
        yield InThread(await asyncio.to_thread(Reading, str(path), name, form, mapping), resolver)
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.audience.reader", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)})
    try:
        meant, given = await asked(process, ("open", (str(path), name, form, dict(mapping))), tuple[dict[str, str], dict[str, Any]])
        yield InProcess(process, resolver, meant, given)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def asked(process: asyncio.subprocess.Process, question: Any, kind: Any) -> Any:
    """The answer to a question, as `kind`; raises what it raised over there."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            process.stdin.write(_frame(question))
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(4), "big")
            answer = await process.stdout.readexactly(size)
    except (OSError, EOFError, TimeoutError):
        raise Defer(GONE) from None
    ok, rest = msgspec.msgpack.decode(answer, type=tuple[bool, msgspec.Raw])
    if ok:
        return msgspec.msgpack.decode(rest, type=kind)
    field, text = msgspec.msgpack.decode(rest, type=tuple[str, str])
    raise Invalid(field, text) if field else Malformed


def _frame(value: Any) -> bytes:
    octets = msgspec.msgpack.encode(value)
    return len(octets).to_bytes(4, "big") + octets


# The process.


def main() -> None:
    """Answer questions until standard input ends."""
    priority.idle(NICE)  # a long import must not slow mail down
    source, sink, desk = sys.stdin.buffer, sys.stdout.buffer, Desk()
    with asyncio.Runner() as runner:
        while (question := _question(source)) is not None:
            try:
                answer: tuple[bool, Any] = True, runner.run(desk.answer(*question))
            except RelayError as error:
                answer = False, (getattr(error, "field", ""), error.text)
            sink.write(_frame(answer))
            sink.flush()


class Desk:
    """The questions of one import."""

    async def answer(self, name: str, given: msgspec.Raw) -> Any:
        if name == "open":
            self._reading = Reading(*msgspec.msgpack.decode(given, type=tuple[str, str, str, dict[str, str]]))
            return self._reading.mapping, self._reading.given
        if name == "begin":
            ground, nameservers = msgspec.msgpack.decode(given, type=tuple[Ground, list[str]])
            self._slices = Slices(self._reading, Resolver(nameservers), _here)
            return self._slices.begin(ground)
        return await self._slices.next()


async def _here(fn: Callable[..., Any], *args: Any) -> Any:
    """Nobody waits for anything else in this process."""
    return fn(*args)


def _question(source: IO[bytes]) -> tuple[str, msgspec.Raw] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    return msgspec.msgpack.decode(source.read(int.from_bytes(head, "big")), type=tuple[str, msgspec.Raw])


if __name__ == "__main__":
    main()
