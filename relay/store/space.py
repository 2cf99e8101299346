"""Room on the disk: below `min_free` no new mail is taken, below `reserve` none is sent, because what leaves must be recorded (A4).

Free space is asked for at most once a second; the answers between are the last ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from relay.clock import Clock
from relay.mail.reply import Reply
from relay.store import gauges

INTERVAL = 1.0  # seconds between looks at the disk
FULL = Reply(452, "4.3.1", "not enough disk space, try again later")


class Space:
    """Free bytes of the file system that holds `path`."""

    __slots__ = ("_free", "_gauges", "_next", "_path", "clock", "min_free", "reserve")

    def __init__(self, path: Path, clock: Clock, min_free: int, reserve: int):
        self.clock, self.min_free, self.reserve = clock, min_free, reserve  # bytes
        self._path, self._next, self._free = path, float("-inf"), 0
        self._gauges = [gauge.labels(str(path)) for gauge in (gauges.FREE_BYTES, gauges.FREE_RATIO, gauges.FREE_INODES)]

    @property
    def free(self) -> int:
        """Bytes that we may still use, at most a second old; 0 when the file system does not answer."""
        now = self.clock.elapsed()
        if now >= self._next:
            self._next = now + INTERVAL
            found = _free(self._path)
            self._free = found[0]
            for gauge, number in zip(self._gauges, found, strict=True):
                gauge.set(number)
            gauges.SHED.labels("disk").set(self._free < self.min_free)
        return self._free

    def intake(self) -> Reply | None:
        """The refusal of new mail, or None while there is room."""
        return FULL if self.free < self.min_free else None

    def departures(self) -> bool:
        """Whether there is room to record what a delivery brings."""
        return self.free >= self.reserve


def _free(path: Path) -> tuple[int, float, int]:
    """Bytes that we may still use, their part of all, and files that we may still make; none when the file system does not answer."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0, 0.0, 0
    return found.f_bavail * found.f_frsize, found.f_bavail / max(1, found.f_blocks), found.f_favail
