"""/t/o/TOKEN, the open pixel, and /t/c/TOKEN, the click redirect. A token carries the recipient, a click's the exact target too, so nothing is looked up
before the answer and there is no open redirect; the event is written after it.

What machines do is kept and marked `machine: true`: image proxies and privacy prefetches (Apple, Google, Yahoo), security scanners that follow every link,
HEAD requests and prefetches that say so. Rates leave them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from relay import log
from relay.clock import Clock
from relay.errors import NotFound, RelayError
from relay.mail.tokens import CLICK, OPEN, unpack
from relay.metrics import counter
from relay.policy import Tokens
from relay.store import events, recipients
from relay.store.engine import Store
from relay.store.events import Event
from relay.store.writes import JOBS

MOST = 50  # events of a kind that are kept of one recipient; a pixel in a web page must not fill the disk
AGENT = 300  # characters of a User-Agent that are kept
PIXEL = bytes.fromhex("47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b")
UNCACHED = {"Cache-Control": "no-store, max-age=0", "X-Robots-Tag": "noindex, nofollow"}

LOG = log.get("tracking")
SEEN = counter("tracking_events_total", "Opens and clicks, by kind and whether a machine made them", "kind", "machine")

_MACHINES = re.compile(
    r"(?i)googleimageproxy|yahoomailproxy|bot\b|crawl|spider|slurp|preview|prefetch|scan|proofpoint|mimecast|barracuda|symantec|fireeye|trendmicro|sophos|"
    r"zscaler|cisco|ironport|forcepoint|cloudmark|messagelabs|safelinks|bingpreview|facebookexternalhit|headless|phantomjs|python|curl/|wget/|go-http-client|"
    r"^java/|okhttp|libwww|httpclient|axios|node-fetch|ruby|perl|php/|monitor|uptime")
_APPLE = re.compile(r"Mozilla/5\.0")  # the whole of it: Apple's Mail Privacy Protection


def machine(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request was made by no person."""
    agent = headers.get("user-agent", "").strip()
    purpose = f"{headers.get('purpose', '')} {headers.get('sec-purpose', '')} {headers.get('x-moz', '')} {headers.get('x-purpose', '')}".lower()
    return method == "HEAD" or not agent or _APPLE.fullmatch(agent) is not None or "prefetch" in purpose or "preview" in purpose \
        or _MACHINES.search(agent) is not None


def location(target: str) -> bytes:
    """The target as a Location field has it: unchanged, but for what no URL may contain (RFC 3986 §2), which is percent-encoded."""
    return b"".join(bytes((octet,)) if 0x20 < octet < 0x7F else b"%%%02X" % octet for octet in target.encode())


@dataclass(slots=True)
class Tracking:
    """What the routes need of a relay; `occurred` tells the webhooks task that there is an event."""

    store: Store
    tokens: Tokens
    clock: Clock
    occurred: Callable[[], None]

    def routes(self) -> list[Route]:
        return [Route("/t/o/{token}", self.opened, methods=["GET"]), Route("/t/c/{token}", self.clicked, methods=["GET"])]

    async def opened(self, request: Request) -> Response:
        """The pixel, whatever the token is worth: a broken image in a mail helps nobody."""
        try:
            data = self.tokens.read(OPEN, request.path_params["token"])
        except RelayError:
            return Response(PIXEL, 404, UNCACHED, "image/gif")
        seen = BackgroundTask(self._seen, "opened", unpack(data)[0], request, {})
        return Response(PIXEL, 200, UNCACHED, "image/gif", seen)

    async def clicked(self, request: Request) -> Response:
        """On to exactly the target that was in the mail."""
        try:
            data = self.tokens.read(CLICK, request.path_params["token"])
        except RelayError as error:
            return PlainTextResponse(f"{error.text}\n", 410 if error.code == "expired" else 404, UNCACHED)
        number, target = unpack(data)
        url = target.decode("utf-8", "replace")
        answer = Response(None, 302, UNCACHED, background=BackgroundTask(self._seen, "clicked", number, request, {"url": url}))
        answer.raw_headers.append((b"location", location(url)))
        return answer

    async def _seen(self, kind: str, number: int, request: Request, data: dict[str, Any]) -> None:
        """Record it; what cannot be recorded is lost, since there is nobody to tell."""
        by_machine = machine(request.method, request.headers)
        agent, client = request.headers.get("user-agent", "")[:AGENT], request.client.host if request.client else ""
        told = {**data, "user_agent": agent, "ip": client, **({"machine": True} if by_machine else {})}
        SEEN.labels(kind, "yes" if by_machine else "no").inc()
        try:
            await self.store.write(record, number, f"email.{kind}", told, self.clock.now(), lane=JOBS)
        except NotFound:
            return
        except RelayError as error:
            LOG.warning("an event was lost", kind=kind, error=error.text)
            return
        self.occurred()


def record(conn: Any, number: int, kind: str, data: dict[str, Any], now: float) -> None:
    """One event of the recipient of this id, unless it has MOST of them; raises NotFound when the recipient is no longer kept."""
    addressee = recipients.get(conn, number)
    if recipients.counted(conn, addressee, (kind,), MOST) < MOST:
        events.append(conn, [Event(addressee.project_id, kind, now, addressee.message_id, addressee.id, data={"to": addressee.address, **data})])


