"""What happened in a project as one list, newest first: events, runs that began, runs that came to their end.

The three are read apart, each in the order of its index, and merged by time. A cursor says where a page ended in each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import merge
from math import isfinite
from typing import Any

from relay.api.compat.plunk.errors import Bad
from relay.store import events
from relay.store.events import Event
from relay.store.workflows import runs, workflows
from relay.store.workflows.runs import Run


@dataclass(frozen=True, slots=True)
class Place:
    """The last that was shown of each list: ids, and of runs that ended the time, UTC seconds, too; 0 = none yet."""

    event: int = 0
    began: int = 0
    ended: int = 0
    ended_at: float = 0.0

    def __str__(self) -> str:
        return f"{self.event},{self.began},{self.ended},{self.ended_at!r}"

    @classmethod
    def read(cls, text: str) -> Place:
        """Raises Bad."""
        try:
            *numbers, at = text.split(",")
            event, began, ended = (int(number) for number in numbers)
            place = cls(event, began, ended, float(at))
        except ValueError:
            raise Bad("cursor", "cursor is not one that a page gave") from None
        if not (0 <= min(event, began, ended) <= max(event, began, ended) < 1 << 63 and isfinite(place.ended_at)):
            raise Bad("cursor", "cursor is not one that a page gave")
        return place


@dataclass(frozen=True, slots=True)
class Wanted:
    """`types` of events, () for all and None for none; whether runs that `began` and that `ended`; `since` UTC seconds, of a `contact` alone."""

    types: Sequence[str] | None
    began: bool
    ended: bool
    since: float | None
    contact: int | None


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that happened: an event, or a run that began or (`over`) came to its end."""

    at: float
    what: Event | Run
    over: bool = False

    def after(self, place: Place) -> Place:
        """The place when this has been shown."""
        if isinstance(self.what, Event):
            return replace(place, event=self.what.id)
        return replace(place, ended=self.what.id, ended_at=self.at) if self.over else replace(place, began=self.what.id)


def newest(conn: Any, project: int, wanted: Wanted, place: Place, limit: int) -> tuple[list[Happened], dict[int, str]]:
    """Up to `limit`, newest first, after a place; and the names of the workflows among them."""
    mine = {each.id: each.name for each in workflows.every(conn, project)} if wanted.began or wanted.ended else {}
    lists: list[list[Happened]] = []
    if wanted.types is not None:
        found = events.newest(conn, project, types=wanted.types, contact_id=wanted.contact, before=place.event or None, after=wanted.since, limit=limit)
        lists.append([Happened(each.at, each) for each in found])
    if wanted.began:
        began = runs.newest(conn, list(mine), wanted.contact, place.began or None, wanted.since, limit)
        lists.append([Happened(each.started_at, each) for each in began])
    if wanted.ended:
        ended = runs.completed(conn, project, wanted.contact, (place.ended_at, place.ended) if place.ended else None, wanted.since, limit)
        lists.append([Happened(each.ended_at or 0.0, each, True) for each in ended if each.workflow_id in mine])
    return list(merge(*lists, key=lambda each: -each.at))[:limit], mine
