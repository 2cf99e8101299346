"""/domains/{id}/dmarc and /domains/{id}/tls: what receivers report about a domain's mail, and about mail to it (RFC 9990, RFC 8460)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query

from relay.api.core import Core, Owner, Paging, Relay, known, listed, resource, whole
from relay.clock import iso
from relay.errors import NotFound
from relay.mail import ids
from relay.mail.message import Principal
from relay.store import domains
from relay.store.inbound import reports
from relay.store.inbound.reports import DAY, Kept

router = resource("Domains")

Days = Annotated[int, Query(ge=1, le=400, description="How many days back")]


async def _domain(here: Relay, who: Principal, domain_id: str) -> int:
    """The id of a domain of the project; raises NotFound."""
    known("dom", domain_id, "Domain")
    try:
        return (await here.store.read(domains.get, who.project, domain_id)).id
    except NotFound:
        raise NotFound("Domain not found") from None


def _stats(conn: Any, number: int, since: float) -> tuple[Any, Any]:
    return reports.totals(conn, number, since), reports.daily(conn, number, since)


def _since(here: Relay, days: int) -> float:
    """The UTC midnight with which the last `days` days began."""
    return (here.clock.now() // DAY - days + 1) * DAY


def _shown(each: Kept) -> dict[str, Any]:
    return {
        "id": each.public_id, "domain_id": ids.public("dom", each.domain_id), "report_id": each.report_id, "org_name": each.organisation,
        "email": each.contact or None, "date_range_start": iso(each.begins), "date_range_end": iso(each.ends), "domain": each.domain,
        "policy_published": each.policy, "status": each.status, "error": each.error or None, "created_at": iso(each.created_at),
    }


def _session(each: Kept) -> dict[str, Any]:
    told = _shown(each)
    return {**told, "policies": told.pop("policy_published") or [], "successful_sessions": each.successes, "failed_sessions": each.failures}


@router.get("/domains/{domain_id}/dmarc/reports")
async def list_dmarc_reports(here: Core, who: Owner, page: Paging, domain_id: str) -> Any:
    """List DMARC aggregate reports about the domain, newest first. The domain's `reports_address` receives them, as its `rua=`."""
    return listed("reports", await here.store.read(reports.paged, "dmarc", await _domain(here, who, domain_id), page), page, _shown)


@router.get("/domains/{domain_id}/dmarc/stats")
async def get_dmarc_stats(here: Core, who: Owner, domain_id: str, days: Days = 30) -> Any:
    """How many messages passed DMARC, in all and by the day on which reports begin."""
    number, since = await _domain(here, who, domain_id), _since(here, days)
    (total, passed, spf, dkim), daily = await here.store.read(_stats, number, since)
    return {
        "totals": {"total_messages": total, "passed": passed, "failed": total - passed, "spf_passed": spf, "dkim_passed": dkim},
        "daily": [{"date": datetime.fromtimestamp(day, UTC).date().isoformat(), "total": many, "passed": good, "failed": many - good}
                  for day, many, good in daily],
    }


@router.get("/domains/{domain_id}/dmarc/sources")
async def list_dmarc_sources(here: Core, who: Owner, domain_id: str, days: Days = 30) -> Any:
    """Which addresses sent mail from the domain, the busiest first."""
    found = await here.store.read(reports.sources, await _domain(here, who, domain_id), _since(here, days))
    return whole("sources", [{"source_ip": source, "total": total, "passed": passed, "failed": total - passed} for source, total, passed in found])


@router.get("/domains/{domain_id}/tls/reports")
async def list_tls_reports(here: Core, who: Owner, page: Paging, domain_id: str) -> Any:
    """List reports about TLS on the way to the domain, newest first."""
    return listed("reports", await here.store.read(reports.paged, "tls", await _domain(here, who, domain_id), page), page, _session)


@router.get("/domains/{domain_id}/tls/stats")
async def get_tls_stats(here: Core, who: Owner, domain_id: str, days: Days = 30) -> Any:
    """How many sessions to the domain were encrypted as its policies want."""
    good, bad = await here.store.read(reports.sessions, await _domain(here, who, domain_id), _since(here, days))
    return {"totals": {"total_sessions": good + bad, "successful": good, "failed": bad}}
