"""What receivers report about a domain: DMARC aggregate reports and TLS reports, kept by domain and bounded.

A report is kept once for its domain, reporter and report id. Of a DMARC report the ledger keeps a row for each source address with its counts, from which
totals, days and sources are summed. DAILY bounds what anybody who has the address can make us keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from relay.errors import Defer, NotFound
from relay.mail import ids
from relay.mail.ids import EPOCH
from relay.mail.reply import Reply
from relay.store import bulk, pages
from relay.store.inbound.schema import dmarc_reports, dmarc_sources, tls_reports
from relay.store.pages import Found, Page
from relay.store.schema import domains
from relay.store.upsert import insert as upsert

DAILY = 2_000  # reports of a kind about one domain in 24 hours; the largest senders get some hundreds
SOURCES = 1_000  # addresses in one answer
DAY = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class Kept:
    """A report as it is listed; `kind` "dmarc" | "tls", `policy` what the receiver saw published, times in UTC seconds, counts of a TLS report in sessions."""

    kind: str
    id: int
    project_id: int
    domain_id: int
    report_id: str
    organisation: str
    contact: str
    domain: str
    begins: float | None
    ends: float | None
    policy: Any
    status: str
    error: str
    created_at: float
    successes: int = 0
    failures: int = 0

    @property
    def public_id(self) -> str:
        return ids.public("rep", self.id)


@dataclass(frozen=True, slots=True)
class Source:
    """What one address sent in a report's time: messages in all, those that passed DMARC, those with aligned SPF, with aligned DKIM."""

    address: str
    total: int
    passed: int
    spf: int
    dkim: int


_TABLES: dict[str, Table] = {"dmarc": dmarc_reports, "tls": tls_reports}
_SHARED = tuple(name for name in Kept.__slots__ if name not in ("kind", "successes", "failures"))
_LENGTHS = {"report_id": 255, "organisation": 255, "contact": 320, "domain": 255, "error": 500}


def owner(conn: Connection, number: int) -> tuple[int, str]:
    """Project and name of the domain of this id; raises NotFound."""
    row = conn.execute(select(domains.c.project_id, domains.c.name).where(domains.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("this domain is no longer here")
    return row.project_id, row.name


def add(conn: Connection, report: Kept, sources: Sequence[Source] = ()) -> bool:
    """Whether the report is new. Raises Defer for more than DAILY of a domain in a day."""
    table = _TABLES[report.kind]
    today = max(0, int((report.created_at - DAY) * 1000) - EPOCH) << 21
    if (conn.scalar(select(func.count()).select_from(table).where(table.c.domain_id == report.domain_id, table.c.id >= today)) or 0) >= DAILY:
        raise Defer(Reply(452, "4.2.2", "too many reports about this domain today"))
    names = (*_SHARED, "successes", "failures") if report.kind == "tls" else _SHARED
    values = {name: getattr(report, name) for name in names} | {name: bulk.clean(getattr(report, name), size) for name, size in _LENGTHS.items()}
    values["policy"] = bulk.plain(report.policy)
    added = upsert(conn, table).values(values).on_conflict_do_nothing(index_elements=["domain_id", "organisation", "report_id"])
    if conn.execute(added).rowcount == 0:
        return False
    if sources:
        day = (report.begins or report.created_at) // DAY * DAY
        following = conn.info["ids"].next
        conn.execute(insert(dmarc_sources), [
            {"id": following(), "report": report.id, "domain_id": report.domain_id, "day": day, "source": each.address, "total": each.total,
             "passed": each.passed, "spf": each.spf, "dkim": each.dkim} for each in sources])
    return True


def paged(conn: Connection, kind: str, domain_id: int, which: Page) -> Found:
    """A page of a domain's reports, newest first."""
    table = _TABLES[kind]
    names = (*_SHARED, "successes", "failures") if kind == "tls" else _SHARED
    found = pages.take(conn, select(*(table.c[name] for name in names)).where(table.c.domain_id == domain_id), table.c.id, which)
    return Found([Kept(kind, *row) for row in found.rows], found.total, found.last)


_SUMS = tuple(func.coalesce(func.sum(dmarc_sources.c[name]), 0) for name in ("total", "passed", "spf", "dkim"))


def totals(conn: Connection, domain_id: int, since: float) -> tuple[int, int, int, int]:
    """Messages, passed, SPF aligned, DKIM aligned, in reports that begin at `since` (UTC seconds) or later."""
    row = conn.execute(select(*_SUMS).where(dmarc_sources.c.domain_id == domain_id, dmarc_sources.c.day >= since)).one()
    return tuple(int(each) for each in row)  # type: ignore[return-value]


def daily(conn: Connection, domain_id: int, since: float) -> list[tuple[float, int, int]]:
    """(UTC midnight, messages, passed) of each day that reports begin on, oldest first."""
    rows = conn.execute(select(dmarc_sources.c.day, *_SUMS[:2]).where(
        dmarc_sources.c.domain_id == domain_id, dmarc_sources.c.day >= since).group_by(dmarc_sources.c.day).order_by(dmarc_sources.c.day))
    return [(row[0], int(row[1]), int(row[2])) for row in rows]


def sources(conn: Connection, domain_id: int, since: float) -> list[tuple[str, int, int]]:
    """(IP address, messages, passed) of those that sent, the busiest first, at most SOURCES."""
    rows = conn.execute(select(dmarc_sources.c.source, *_SUMS[:2]).where(
        dmarc_sources.c.domain_id == domain_id, dmarc_sources.c.day >= since).group_by(dmarc_sources.c.source).order_by(
        _SUMS[0].desc(), dmarc_sources.c.source).limit(SOURCES))
    return [(row[0], int(row[1]), int(row[2])) for row in rows]


def sessions(conn: Connection, domain_id: int, since: float) -> tuple[int, int]:
    """TLS sessions that worked and that failed, in reports that begin at `since` or later."""
    sums = (func.coalesce(func.sum(tls_reports.c[name]), 0) for name in ("successes", "failures"))
    row = conn.execute(select(*sums).where(tls_reports.c.domain_id == domain_id, tls_reports.c.begins >= since)).one()
    return int(row[0]), int(row[1])


def prune(conn: Connection, before: int, limit: int) -> int:
    """Drop at most `limit` reports of each kind with ids below `before`; how many."""
    gone = 0
    for table in _TABLES.values():
        old = conn.scalars(select(table.c.id).where(table.c.id < before).order_by(table.c.id).limit(limit)).all()
        bulk.delete(conn, table, "id", old)
        gone += len(old)
    return gone
