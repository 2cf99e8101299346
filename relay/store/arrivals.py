"""What the scheduler walks: waiting recipients in the order in which they come due, page by page.

Beside `queue.due`, which asks by domain, this finds the domains at all: the walk sees each recipient once when its time has come and costs one index range,
however many domains or already known recipients there are.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, not_, or_, select

from relay.mail.message import MARKETING
from relay.store.schema import queue

PAGE = 1_000  # rows of one step: a read transaction stays short

COLUMNS = (queue.c.recipient_id, queue.c.message_id, queue.c.project_id, queue.c.domain, queue.c.stream, queue.c.due, queue.c.first_due, queue.c.attempts,
           queue.c.retry, queue.c.warned)
_DUE = select(*COLUMNS).where(not_(queue.c.held))


def arrived(conn: Connection, after: float, last: int, now: float, limit: int = PAGE) -> list[Row[Any]]:
    """Recipients that came due after (`after`, `last`) and until `now`, in the order of due time and id.

    after, last  due time and recipient id of the last row of the page before; 0.0, 0 for the first
    """
    beyond = and_(queue.c.due >= after, or_(queue.c.due > after, queue.c.recipient_id > last))
    return list(conn.execute(_DUE.where(beyond, queue.c.due <= now).order_by(queue.c.due, queue.c.recipient_id).limit(limit)))


def overdue(conn: Connection, domain: str, cuts: tuple[float, float, float], now: float, limit: int = PAGE) -> list[Row[Any]]:
    """Recipients of a domain that are due now and were first due before their cut: a failed attempt ends them.

    cuts  UTC seconds, for marketing, for other mail, and for that of the otp table
    """
    marketing, other, otp = cuts
    old = or_(and_(queue.c.stream == MARKETING, queue.c.first_due <= marketing), and_(queue.c.stream != MARKETING, queue.c.first_due <= other),
              and_(queue.c.retry == "otp", queue.c.first_due <= otp))
    return list(conn.execute(_DUE.where(queue.c.domain == domain, queue.c.due <= now, old).limit(limit)))
