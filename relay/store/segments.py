"""Segment files: large bodies, appended one after the other under `data_dir/bodies/`, 64 MB a file.

Only the writer appends, and it flushes (fdatasync) before the rows that name the octets commit, so a row never points at octets that a power cut took. A new
file's directory entry is flushed too. What a rolled-back or torn append leaves is dead space that no row names; retention drops whole files and copies the
survivors of nearly empty ones. Each body carries a CRC-32 in its row, checked when it is read.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from relay.errors import StoreError
from relay.store import faults

LENGTH = 64_000_000  # bytes of a segment before the next one is begun
HEAD = 1_048_576  # octets in which the end of a header is looked for; the door takes a quarter
PIECE = 262_144  # bytes read at a time (B11)


class Segments:
    """The files of one data directory; `append`, `flush` and `rewind` belong to the writer's thread, the rest to anyone."""

    __slots__ = ("_dirty", "_file", "_mark", "directory", "number", "position")

    def __init__(self, directory: Path):
        self.directory = directory
        self.number, self.position = 0, 0
        self._file, self._dirty, self._mark = -1, False, (0, 0)

    def numbers(self) -> list[int]:
        """The segments there are, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(int(name) for name in os.listdir(self.directory) if name.isdigit())

    def path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"

    def append(self, *pieces: bytes) -> tuple[int, int, int]:
        """Segment, offset and CRC-32 of the appended octets; not durable before `flush`. Raises OSError when the disk does not take them."""
        if self._file < 0 or self.position >= LENGTH:
            self._begin()
        offset, position, crc = self.position, self.position, 0
        for piece in pieces:
            left, crc = memoryview(piece), zlib.crc32(piece, crc)
            while left:
                written = os.pwrite(self._file, left, position)
                left, position = left[written:], position + written
        self.position = position
        self._dirty = True
        faults.point("body.appended")
        return self.number, offset, crc

    def flush(self) -> None:
        """Make what was appended durable, and the point to which `rewind` goes."""
        if self._dirty:
            os.fdatasync(self._file)
            self._dirty = False
            faults.point("body.flushed")
        self._mark = (self.number, self.position)

    def rewind(self) -> None:
        """Forget what was appended since the last flush: the transaction that names it was rolled back."""
        if self._dirty and self._mark[0] == self.number:
            self.position = self._mark[1]
        self._dirty = False

    def read(self, number: int, offset: int, size: int, crc: int) -> bytes:
        """The octets; raises StoreError when they are not those that were written, FileNotFoundError when the segment is gone."""
        file = os.open(self.path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = _exactly(file, offset, size)
        finally:
            os.close(file)
        if len(data) != size or zlib.crc32(data) != crc:
            raise StoreError(f"the body at {self.path(number)}:{offset} is damaged")
        return data

    def parted(self, number: int, offset: int, size: int, crc: int) -> tuple[bytes, bytes]:
        """The octets as header with its empty line, and body, each read to where it stays: a large message is in memory once. Raises as `read` does."""
        file = os.open(self.path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            end = os.pread(file, min(size, HEAD), offset).find(b"\r\n\r\n") + 4
            split = end if end > 3 else min(size, HEAD)
            head, body = _exactly(file, offset, split), _exactly(file, offset + split, size - split)
        finally:
            os.close(file)
        if len(head) + len(body) != size or zlib.crc32(body, zlib.crc32(head)) != crc:
            raise StoreError(f"the body at {self.path(number)}:{offset} is damaged")
        return (head, body) if end > 3 else (head + body, b"")

    def pieces(self, number: int, offset: int, size: int, crc: int) -> Iterator[bytes]:
        """The octets in pieces of 256 kB; raises as `read` does, StoreError only after the last piece."""
        file = os.open(self.path(number), os.O_RDONLY | os.O_CLOEXEC)
        seen, end = 0, offset + size
        try:
            while offset < end and (piece := os.pread(file, min(PIECE, end - offset), offset)):
                seen, offset = zlib.crc32(piece, seen), offset + len(piece)
                yield piece
        finally:
            os.close(file)
        if offset != end or seen != crc:
            raise StoreError(f"the body in {self.path(number)} that ends at {end} is damaged")

    def drop(self, number: int) -> int:
        """Unlink a segment that no row names any more; the bytes that frees."""
        path = self.path(number)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self.path(number).stat().st_size for number in self.numbers())

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        """Open the last segment at its end, or begin the next; a file that is being read elsewhere never shrinks."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if self._dirty:  # the old segment must be durable before its rows are, and only one file is flushed at a commit
            os.fdatasync(self._file)
        known = self.numbers()
        number = known[-1] if known else 1
        if self._file >= 0 or (known and self.path(number).stat().st_size >= LENGTH):
            number += 1
        self.close()
        self._file = os.open(self.path(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.number, self.position = number, os.fstat(self._file).st_size
        self._mark = (number, self.position)
        _flush_directory(self.directory)


def _exactly(file: int, offset: int, size: int) -> bytes:
    data = os.pread(file, size, offset)
    while len(data) < size and (more := os.pread(file, size - len(data), offset + len(data))):
        data += more
    return data


def _flush_directory(directory: Path) -> None:
    for each in (directory, directory.parent):
        descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
