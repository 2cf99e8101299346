"""News: one look at all that others follow in the store, in one statement, so that a relay that has nothing to do asks its database only that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, case, func, literal_column, not_, select

from relay.store import events
from relay.store.audience.schema import changes, segments
from relay.store.hot import Hot
from relay.store.schema import webhooks
from relay.store.workflows.runs import table as runs
from relay.store.workflows.workflows import ACTIVE, DELETED
from relay.store.workflows.workflows import table as workflows


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is at one moment.

    last       the cursor of the newest event that can be read
    changed    contacts are noted of whom something is new
    unsettled  a tracked segment has no memberships yet
    endpoints  the ids of the webhooks that are switched on, in one text
    workflows  there are any, in any state
    due        UTC seconds from which a run goes on, a schedule begins or something deleted is to be taken away; None when nothing waits for time
    told       somebody said that there is something new
    """

    last: str
    changed: bool
    unsettled: bool
    endpoints: str
    workflows: bool
    due: float | None
    told: bool = False


def look(conn: Connection) -> Sight:
    ((last, changed, unsettled, endpoints, flows, going, planned),) = _look(conn.dialect.name == "sqlite")(conn)
    return Sight(last, bool(changed), bool(unsettled), endpoints, bool(flows), min((at for at in (going, planned) if at is not None), default=None))


@cache
def _look(embedded: bool) -> Hot:
    one, now, comma = literal_column("1"), literal_column("0.0"), literal_column("','")
    joined = func.group_concat(webhooks.c.id, comma) if embedded else func.string_agg(func.concat(webhooks.c.id), comma)
    names = select(func.coalesce(joined, literal_column("''"))).where(webhooks.c.enabled)
    starts = (workflows.c.status == literal_column(f"'{ACTIVE}'")) & (workflows.c.trigger == literal_column("'schedule'"))
    when = case((workflows.c.status == literal_column(f"'{DELETED}'"), now), (starts & workflows.c.walk_at.is_not(None), now), (starts, workflows.c.next_at))
    return Hot(select(
        events.newest_cursor(embedded),
        select(one).select_from(changes).exists(),
        select(one).where(segments.c.tracked, not_(segments.c.settled)).exists(),
        names.scalar_subquery(),
        select(one).select_from(workflows).exists(),
        select(func.min(runs.c.due)).where(runs.c.due.is_not(None)).scalar_subquery(),
        select(func.min(when)).scalar_subquery(),
    ))
