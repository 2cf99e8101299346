"""Time, as a value that is handed in: the wall clock for due times, the monotonic clock for waits.

`Clock()` is the machine's. Tests hand in `Clock(now=...)` with a function of their own; nothing in Relay calls `time.time()` itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

STEP = 60.0  # seconds by which the wall clock must have moved against the other one to be told of; NTP slews what is less


@dataclass(frozen=True, slots=True)
class Clock:
    """`now()` gives UTC seconds since 1970, `elapsed()` seconds on a clock that never steps."""

    now: Callable[[], float] = time.time
    elapsed: Callable[[], float] = time.monotonic


def iso(seconds: float | None) -> str | None:
    """ISO 8601 in UTC with milliseconds and Z: 2026-03-23T10:00:00.000Z; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(seconds * 1000) % 1000:03d}Z"


class Steps:
    """Finds out when somebody sets the machine's clock. Each look begins anew, so that slewing adds up to nothing."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._apart = clock.now() - clock.elapsed()

    def look(self) -> float:
        """Seconds that the wall clock was set forward (back, if negative) since the last look; 0.0 for less than STEP."""
        before, self._apart = self._apart, self._clock.now() - self._clock.elapsed()
        step = self._apart - before
        return step if abs(step) >= STEP else 0.0
