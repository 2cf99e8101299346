"""Files of imports on their way to the disk, where they are before an import is known.

They are flushed in steps as they come: a hundred megabytes at once would hold up each commit of mail that wants the disk meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from relay.errors import Defer
from relay.mail.reply import Reply

STEP = 1 << 20  # octets between two flushes

FULL = Reply(452, "4.3.1", "the file could not be kept on disk, try again later")


class Upload:
    """A new file; each act may wait for the disk, and raises Defer when it takes nothing."""

    def __init__(self, file: Path):
        self._file = file
        with _defers():
            self._kept = file.open("xb")

    def put(self, octets: bytes) -> None:
        with _defers():
            self._kept.write(octets)
            self._kept.flush()
            os.fdatasync(self._kept.fileno())

    def close(self) -> None:
        """The file has its name, also after a power cut."""
        with _defers():
            self._kept.close()
            directory = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def copied(given: IO[bytes], file: Path) -> int:
    """Keep what is left of a file; how many lines it has."""
    upload, lines = Upload(file), 0
    try:
        while piece := given.read(STEP):
            lines += piece.count(b"\n")
            upload.put(piece)
    finally:
        upload.close()
    return lines


async def received(stream: AsyncIterator[bytes], file: Path) -> None:
    """Keep the body of a request."""
    upload = await asyncio.to_thread(Upload, file)
    try:
        waiting = bytearray()
        async for piece in stream:
            waiting += piece
            if len(waiting) >= STEP:
                await asyncio.to_thread(upload.put, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(upload.put, bytes(waiting))
    finally:
        await asyncio.to_thread(upload.close)


@contextlib.contextmanager
def _defers() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise Defer(FULL, 60.0) from None
