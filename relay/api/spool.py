"""Large requests: spooled to disk while they are read, and unpacked by a process of their own, so that neither memory nor the event loop feels them.

A body of up to SMALL octets stays in memory and costs nothing here. READING larger ones may be on their way at a time, the next hears 503 and comes back;
AT_ONCE of them are unpacked, built and committed at a time, the others wait. Spool files go with the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

import orjson
from fastapi import Request

from relay.api.unpack import emails
from relay.errors import Defer, Invalid, Malformed
from relay.mail.mime import Spooled
from relay.mail.reply import Reply

SMALL = 1_000_000  # octets of a request that is handled in memory
READING = 16  # large requests that are being read
AT_ONCE = 2  # large requests that are unpacked, built and committed
PATIENCE = 240.0  # seconds that unpacking one may take; 350 MB take about 4 of the processor, and more than 60 where ten others want it

BUSY = Reply(452, "4.3.1", "too many large requests at once, try again in a moment")
UNREADABLE = Reply(451, "4.3.0", "a large request could not be read, try again later")
FULL = Reply(452, "4.3.1", "a large request could not be spooled to disk, try again later")


class Spool:
    """Where large requests wait; `directory` is made when it is first needed."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._reading = 0

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes | Any]:
        """The request's octets; of a large one its JSON, in which each file's content is a Spooled. Raises Malformed, Invalid or Defer."""
        octets = bytearray()
        stream = request.stream()
        async for chunk in stream:
            octets += chunk
            if len(octets) > SMALL:
                break
        else:
            yield bytes(octets)
            return
        async with self._large(octets, stream) as unpacked:
            yield unpacked

    @contextlib.asynccontextmanager
    async def _large(self, begun: bytearray, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        if self._reading >= READING:
            raise Defer(BUSY, 5.0)
        self._reading += 1
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            with self._file("request-") as spooled, self._file("files-") as files:
                await _write(spooled, begun, stream)
                async with self._turns:
                    yield _whole(await _unpacked(spooled.name, files.name), files)
        finally:
            self._reading -= 1

    def _file(self, prefix: str) -> Any:
        return tempfile.NamedTemporaryFile(dir=self._directory, prefix=prefix)


async def _write(spooled: IO[bytes], begun: bytearray, stream: AsyncIterator[bytes]) -> None:
    """All of the request, to disk; a piece is what a socket gives at once, which the page cache takes in microseconds."""
    try:
        spooled.write(begun)
        begun.clear()
        async for chunk in stream:
            spooled.write(chunk)
        spooled.flush()
    except OSError:
        raise Defer(FULL, 60.0) from None


async def _unpacked(request: str, files: str) -> dict[str, Any]:
    """What relay.api.unpack says of the spooled request."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.api.unpack", request, files, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise Defer(UNREADABLE, 30.0) from None
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    if process.returncode:
        raise Defer(UNREADABLE, 30.0)
    answer = orjson.loads(said)
    if "error" in answer:
        raise Invalid(answer["field"], answer["error"]) if answer["field"] else Malformed
    return answer


def _whole(answer: dict[str, Any], files: IO[bytes]) -> Any:
    """The request with a Spooled for each file's content."""
    request = answer["request"]
    found = emails(request)
    for number, place, offset, length, digest in answer["files"]:
        found[number]["attachments"][place]["content"] = Spooled(files.fileno(), offset, length, digest)
    return request
