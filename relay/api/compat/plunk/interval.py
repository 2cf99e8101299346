"""`startDate` and `endDate` of a request: the last 30 days unless it says otherwise, and 90 at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from relay.api.compat.plunk.errors import Bad
from relay.api.core import Core
from relay.api.draft import Moment
from relay.store.audience.rules import DAY

USUAL, LONGEST = 30 * DAY, 90 * DAY  # seconds


@dataclass(frozen=True, slots=True)
class Interval:
    """From `start`, before `end`; UTC seconds."""

    start: float
    end: float

    @property
    def before(self) -> Interval:
        """The interval of the same length before this one."""
        return Interval(2 * self.start - self.end, self.start)


def _interval(
    here: Core, start: Annotated[Moment | None, Query(alias="startDate", description="ISO 8601; 30 days ago")] = None,
    end: Annotated[Moment | None, Query(alias="endDate", description="ISO 8601; now")] = None,
) -> Interval:
    until = min(end, here.clock.now() + 1) if end is not None else here.clock.now() + 1
    since = until - USUAL if start is None else max(start, until - LONGEST)
    if not 0 <= since < until:
        raise Bad("startDate", "startDate is before endDate, and both lie after 1970")
    return Interval(since, until)


During = Annotated[Interval, Depends(_interval)]
