"""Where the rows of an import are read: a small file in a thread, a larger one in a process of its own, so that mail has the interpreter to itself.

    async with reader.opened(path, name, form, mapping) as source:      raises Invalid for what cannot be read
        source.mapping, source.given
        await source.begin(ground)
        while (domains := await source.domains()) is not None:
            part, shown = await source.part(wrong)

The process is `python -m relay.audience.reader`: frames on its standard input and output, four octets of length and msgpack, one answer for each question. It
has the lowest priority there is. When either end goes, the other ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from relay.audience.reading import Ground, Reading
from relay.errors import Defer, Invalid, Malformed, RelayError
from relay.mail.reply import Reply
from relay.store.audience.taking import Part

SMALL = 100_000  # octets of a file that is read in a thread: less than a process takes to start
NICE = 10  # a long import must not slow mail down
PATIENCE = 600.0  # seconds for one answer; the first has the whole file read once, to tell its encoding

GONE = Reply(451, "4.3.0", "the file could not be read, try again later")

Slice = tuple[Part, list[dict[str, Any]]]


class InThread:
    """A Reading whose work is done in a thread."""

    def __init__(self, reading: Reading):
        self._reading, self.mapping, self.given = reading, reading.mapping, reading.given

    async def begin(self, ground: Ground) -> None:
        self._reading.begin(ground)

    async def domains(self) -> list[str] | None:
        return await asyncio.to_thread(self._reading.domains)

    async def part(self, wrong: Mapping[str, str]) -> Slice:
        return await asyncio.to_thread(self._reading.part, wrong)


class InProcess:
    """A Reading in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, mapping: dict[str, str], given: dict[str, Any]):
        self._process, self.mapping, self.given = process, mapping, given

    async def begin(self, ground: Ground) -> None:
        await asked(self._process, ("begin", ground), None)

    async def domains(self) -> list[str] | None:
        return await asked(self._process, ("domains", None), list[str] | None)

    async def part(self, wrong: Mapping[str, str]) -> Slice:
        return await asked(self._process, ("part", wrong), Slice)


@contextlib.asynccontextmanager
async def opened(path: Path, name: str, form: str, mapping: Mapping[str, str]) -> AsyncIterator[InThread | InProcess]:
    """The rows of a file; raises Invalid or Malformed for what is none, Defer when its reader ended."""
    if path.stat().st_size <= SMALL:
        yield InThread(await asyncio.to_thread(Reading, str(path), name, form, mapping))
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.audience.reader", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)})
    try:
        meant, given = await asked(process, ("open", (str(path), name, form, dict(mapping))), tuple[dict[str, str], dict[str, Any]])
        yield InProcess(process, meant, given)
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
    os.nice(NICE)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    reading: list[Reading] = []
    while (question := _question(source)) is not None:
        try:
            answer: tuple[bool, Any] = True, _answer(reading, *question)
        except RelayError as error:
            answer = False, (getattr(error, "field", ""), error.text)
        sink.write(_frame(answer))
        sink.flush()


def _question(source: IO[bytes]) -> tuple[str, msgspec.Raw] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    return msgspec.msgpack.decode(source.read(int.from_bytes(head, "big")), type=tuple[str, msgspec.Raw])


def _answer(reading: list[Reading], name: str, given: msgspec.Raw) -> Any:
    if name == "open":
        reading.append(Reading(*msgspec.msgpack.decode(given, type=tuple[str, str, str, dict[str, str]])))
        return reading[0].mapping, reading[0].given
    if name == "begin":
        return reading[0].begin(msgspec.msgpack.decode(given, type=Ground))
    if name == "domains":
        return reading[0].domains()
    return reading[0].part(msgspec.msgpack.decode(given, type=dict[str, str]))


if __name__ == "__main__":
    main()
