"""When what goes aside has its turn on SQLite, where mail waits for whoever has the writing connection: after a pause while mail flows, and every few slices
for a short checkpoint, because one of all that an import writes between two of the usual ones lasts 50 ms.
"""

from __future__ import annotations

COPIED = 3  # slices, of 35 pages each, after which the WAL is copied
LATELY = 1.0  # seconds after mail in which pauses are made
PAUSE = 0.1  # of the time that the last turn took: mail goes first anyway, and longer pauses only make an import longer
LONGEST = 0.1  # seconds as which a longer turn counts
TICK = 0.001  # seconds, as uvloop's timers count: a shorter pause would be asked for again and again


class Turns:
    """Of one writer; times are the event loop's."""

    __slots__ = ("_began", "_mailed", "_rested", "_slices")

    def __init__(self) -> None:
        self._slices = 0  # since the last copy
        self._began: float | None = None  # the turn that is under way
        self._mailed = self._rested = float("-inf")  # when mail was last written; until when the pause lasts

    def mailed(self, now: float) -> None:
        """Mail is being written."""
        self._mailed = now

    def pause(self, now: float) -> float:
        """Seconds until the next turn; what is less than the event loop's clock can wait for is none."""
        pause = self._rested - now
        return pause if pause >= TICK else 0.0

    def copies(self, now: float) -> bool:
        """A turn begins: whether it is the checkpoint's, and not a slice's."""
        self._began = now
        self._slices = (self._slices + 1) % (COPIED + 1)
        return self._slices == 0

    def over(self, now: float) -> None:
        """Whatever was under way is over."""
        if self._began is not None:
            self._rested = now + PAUSE * min(LONGEST, now - self._began) if now < self._mailed + LATELY else now
            self._began = None
