"""The queue by site: who waits, since when and why, what is in flight and which limit holds; live curves; retry, hold, suspend.

What a site may be sent is shared by all projects, so only the operator suspends one: whoever has full access to project `default`. Everybody else sees the
state and moves their own mail.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from relay.control import queue, sites
from relay.control.sites import Looks
from relay.dashboard.visit import ROWS, Visit, get, post
from relay.errors import Forbidden, Invalid
from relay.kinds import duration

LIMITS = (("10m", "10 minutes"), ("1h", "1 hour"), ("1d", "1 day"), ("", "until it is resumed"))


async def every(visit: Visit) -> Response:
    """The sites; with `domain` or `site` also who waits there."""
    control = visit.here.control
    found = await sites.figures(control, _looks(visit), visit.who.project)
    total = {name: sum(row[name] for row in found) for name in ("waiting", "ready", "deferred", "scheduled", "held", "in_flight")}
    oldest = max((row["age"] for row in found if row["age"] is not None), default=None)
    return visit.show("queue/sites.html", sites=found, total=total, oldest=oldest, operator=await operator(visit), limits=LIMITS,
                      held=control.runner is not None and control.runner.held)


async def waiting(visit: Visit) -> Response:
    """Who waits, at one domain or at all, oldest first."""
    after, domain = visit.asked("after"), visit.asked("domain")
    if after and not (after.isascii() and after.isdigit() and len(after) < 20):
        raise Invalid("after", "after is what the page before gave")
    found = await visit.here.act(visit.who, queue.every, after=int(after or 0), limit=ROWS, domain=domain)
    return visit.show("queue/waiting.html", found=found, domain=domain)


async def curves(visit: Visit) -> Response:
    """Rates or latencies of the last quarter of an hour, for a chart."""
    found = await sites.curves(visit.here.control, visit.who.project)
    of = found["latency" if visit.asked("of") == "latency" else "rates"]
    return JSONResponse({"at": found["at"], "series": [{"label": name, "values": values} for name, values in of.items()]})


async def operator(visit: Visit) -> bool:
    """Whether the visitor runs this relay and is not only one of its tenants."""
    return visit.owner and visit.who.project == await visit.here.keeper.default()


async def suspend(visit: Visit) -> Response:
    site, seconds = await _site(visit), visit.given("for")
    if seconds not in dict(LIMITS):
        raise Invalid("for", "suspend for 10m, 1h, 1d or until it is resumed")
    await queue.suspend(visit.here.control, site, duration(seconds) if seconds else None, visit.given("reason")[:200])
    return visit.go("/dashboard/queue", f"{site} is suspended; its mail waits.")


async def resume(visit: Visit) -> Response:
    site = await _site(visit)
    await queue.resume(visit.here.control, site)
    return visit.go("/dashboard/queue", f"{site} gets mail again.")


async def _site(visit: Visit) -> str:
    if not await operator(visit):
        raise Forbidden("a site is shared by all projects; only the operator, with full access to project default, suspends or resumes it")
    site = visit.given("site")
    if not site:
        raise Invalid("site", "name a site")
    return site


async def retry(visit: Visit) -> Response:
    done = await visit.here.act(visit.who, queue.retry, **_choice(visit))
    return _done(visit, f"{done['retried']:,} are tried again now.")


async def hold(visit: Visit) -> Response:
    done = await visit.here.act(visit.who, queue.hold, **_choice(visit))
    return _done(visit, f"{done['held']:,} are held.")


async def release(visit: Visit) -> Response:
    done = await visit.here.act(visit.who, queue.release, **_choice(visit))
    return _done(visit, f"{done['released']:,} are held no longer.")


def _choice(visit: Visit) -> dict[str, str]:
    """The project's mail for a site, a domain, or all of it."""
    return {name: value for name in ("site", "domain") if (value := visit.given(name))}


def _done(visit: Visit, said: str) -> Response:
    _looks(visit).known.pop(visit.who.project, None)
    return visit.go("/dashboard/queue", said)


def _looks(visit: Visit) -> Looks:
    return visit.house.looks


ROUTES = (get("/queue", every), get("/queue/waiting", waiting), get("/queue/curves", curves), post("/queue/suspend", suspend), post("/queue/resume", resume),
          post("/queue/retry", retry), post("/queue/hold", hold), post("/queue/release", release))
