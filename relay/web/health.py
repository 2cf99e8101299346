"""The probes: /healthz (the process answers), /readyz (send it work), /metrics (Prometheus).

    GET /healthz    200 while the event loop turns
    GET /readyz     200, or 503 with the reasons: the store cannot commit, draining, disk below min_free
    GET /metrics    from loopback, or with `Authorization: Bearer <metrics_token>`; tenants' names are in it

A request that came through a proxy is not from loopback, whoever holds the connection: any forwarding field takes that right away.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from relay.metrics import CONTENT_TYPE, exposition

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
UNCACHED = {"cache-control": "no-store"}
RETRY_AFTER = "5"  # seconds; balancers probe about this often

Problems = Callable[[], Awaitable[Sequence[str]]]


def healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n", headers=UNCACHED)


def public_routes() -> list[Route]:
    """What the public listener shows of this page: that we live."""
    return [Route("/healthz", healthz)]


def routes(problems: Problems, metrics_token: Callable[[], str]) -> list[Route]:
    """The probes of the admin listener.

    problems       the reasons not to send us work, empty when ready; asked on each /readyz, so it should answer from memory
    metrics_token  the configured token as of now (SIGHUP may change it), "" for none
    """

    async def readyz(_request: Request) -> Response:
        reasons = list(await problems())
        if reasons:
            return JSONResponse({"ready": False, "reasons": reasons}, 503, {**UNCACHED, "retry-after": RETRY_AFTER})
        return JSONResponse({"ready": True}, headers=UNCACHED)

    async def metrics(request: Request) -> Response:
        if not _may_scrape(request, metrics_token()):
            error = {"error": "metrics are for loopback, or for a Bearer token that equals [http] metrics_token", "code": "forbidden"}
            return JSONResponse(error, 403, UNCACHED)
        return Response(await exposition(), media_type=CONTENT_TYPE, headers=UNCACHED)

    return [*public_routes(), Route("/readyz", readyz), Route("/metrics", metrics)]


def _may_scrape(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return True
    return _from_loopback(request)


def _from_loopback(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
