"""What the event log says to workflows: whom it begins a run of, and which run it takes on; each once.

`heard` reads the next page of the log after a cursor and gives what may concern a workflow; `record` begins runs, takes waiting ones on and moves the cursor,
in one transaction. It stays behind the reader of activities (relay.store.audience.activity): a condition about an event finds it counted already.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from relay.store import bulk, plans
from relay.store.audience import activity
from relay.store.audience.schema import followers
from relay.store.events import START, latest
from relay.store.schema import events
from relay.store.upsert import insert
from relay.store.workflows import workflows
from relay.store.workflows.runs import RUNNING, small
from relay.store.workflows.schema import runs

NAME = "workflows"  # among the followers
CHANGED = "contact.updated"  # what a run awaits that waits for a date


@dataclass(frozen=True, slots=True)
class Heard:
    """An event about a contact; `place` in the log, as a cursor is compared; `run` that waits for it, None for one that may begin runs."""

    id: int
    place: tuple[int, int]
    project_id: int
    type: str
    at: float
    data: dict[str, Any]
    contact_id: int
    run: int | None = None

    @property
    def told(self) -> dict[str, Any]:
        """The event as a run keeps it."""
        return {"id": self.id, "type": self.type, "at": self.at, "data": self.data}


def cursor(conn: Connection) -> str | None:
    """Up to where the log has been read; None before the first time."""
    return conn.scalar(select(followers.c.cursor).where(followers.c.name == NAME))


def place(at: str) -> tuple[int, int]:
    """A cursor as events are compared with it."""
    transaction, number = at.split(".")
    return int(transaction), int(number)


def begin(conn: Connection) -> None:
    """Listen from here on, if nobody has before."""
    if cursor(conn) is None:
        move(conn, None, latest(conn))


def heard(conn: Connection, after: str, types: Collection[str], segments: bool) -> tuple[list[Heard], str, bool]:
    """What the next events say to workflows, in their order, the cursor after them, which is the same when there is nothing to hear now, and whether
    there is something that the reader of activities has not come to.

    types     names of events that begin runs
    segments  entries to and exits from segments do, too
    """
    last = activity.last_of_page(conn, after)
    reached = activity.cursor(conn) or START
    if last is None or place(reached) <= place(after):
        return [], after, last is not None
    last = min(last, reached, key=place)
    plans.by_index(conn)
    here, span = activity.within(conn.dialect.name == "sqlite"), activity.span(after, last)
    found: list[Heard] = []
    for said in (activity.said(activity.OWN, *here), activity.said(activity.OF_MAIL, *here, events.c.contact_id.is_(None))):
        wanted: list[ColumnElement[bool]] = [said.c.type.in_(sorted(types))]
        if segments:
            wanted.append(said.c.type.like("segment.%"))
        begins = select(said).where(said.c.contact.is_not(None), or_(*wanted))
        awaited = and_(runs.c.contact_id == said.c.contact, runs.c.awaits == said.c.type, runs.c.status == RUNNING)
        found += [_heard(row) for row in conn.execute(begins, span)] if types or segments else []
        found += [_heard(row, row.run) for row in conn.execute(select(said, runs.c.id.label("run")).join(runs, awaited), span)]
    return sorted((each for each in found if not each.data.get("machine")), key=lambda each: (each.place, each.run or 0)), last, True


def _heard(row: Any, run: int | None = None) -> Heard:
    return Heard(row.id, (row.xid, row.id), row.project_id, row.type, row.at, row.data, row.contact, run)


def move(conn: Connection, before: str | None, after: str) -> bool:
    """Whether the cursor was moved on by this; not when somebody else has."""
    if before is None:
        row = insert(conn, followers).values(name=NAME, cursor=after).on_conflict_do_nothing(index_elements=["name"])
        return conn.execute(row).rowcount == 1
    return conn.execute(update(followers).where(followers.c.name == NAME, followers.c.cursor == before).values(cursor=after)).rowcount == 1


def look_again(conn: Connection, contact_ids: Sequence[int], now: float) -> None:
    """Runs of these contacts that wait for a date look at it again: it may have changed, and the log says nothing of it."""
    if not workflows.anything(conn):
        return
    for start in range(0, len(contact_ids), bulk.KEYS):
        waits = (runs.c.contact_id.in_(list(contact_ids[start:start + bulk.KEYS])), runs.c.awaits == CHANGED, runs.c.status == RUNNING)
        some = select(runs.c.id).where(*waits).order_by(runs.c.id)  # in this order, as the engine takes them
        here = list(conn.scalars(some.with_for_update() if conn.dialect.name == "postgresql" else some))
        if here:
            conn.execute(update(runs).where(runs.c.id.in_(here)).values(due=now))


def take_on(conn: Connection, found: Sequence[Heard], now: float) -> int:
    """How many waiting runs go on by these; one that waits for a date looks at it again."""
    done = 0
    for each in found:
        waits = (runs.c.id == each.run, runs.c.status == RUNNING, runs.c.awaits == each.type)
        done += conn.execute(update(runs).where(*waits).values(due=now, awaits=None, heard=small(each.told))).rowcount
    return done
