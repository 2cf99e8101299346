"""The capture server of the laptop: a desk that accepts everything delivered to it, and the pages that show it.

`config/local.toml` routes all mail here over real SMTP, so a newcomer sees the whole path work without owning a domain. The newest messages are
kept in memory, bounded by count and octets; nothing is written and nothing leaves. The pages answer loopback clients that ask for a loopback host only
(a web site that points its name at 127.0.0.1 must not read mail).
"""

from __future__ import annotations

import email
import email.policy
from collections import deque
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from relay.clock import Clock, iso
from relay.mail.message import Envelope, Recipient
from relay.mail.reply import Reply

KEPT = 200  # messages
OCTETS = 64_000_000  # octets of all kept messages
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PAGE = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'"

_pages = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


@dataclass(frozen=True, slots=True)
class Captured:
    """One delivery: envelope as the wire gave it, and the octets."""

    number: int
    at: float
    sender: str
    recipients: tuple[str, ...]
    octets: bytes

    def parsed(self) -> EmailMessage:
        return email.message_from_bytes(self.octets, policy=email.policy.default)  # type: ignore[return-value]


class Capture:
    """A desk for relay.smtp.server.Listener that keeps the newest `keep` of what it is given."""

    def __init__(self, clock: Clock, keep: int = KEPT):
        self._clock = clock
        self._keep = keep
        self._kept: deque[Captured] = deque()
        self._octets = 0
        self._number = 0

    async def authenticate(self, session: Any, mechanism: str, username: str, password: str) -> None:
        return None

    def sender(self, session: Any, envelope: Envelope) -> Reply | None:
        return None

    def recipient(self, session: Any, envelope: Envelope, recipient: Recipient) -> Reply | None:
        return None

    async def message(self, session: Any, envelope: Envelope, content: bytes) -> Reply:
        self._number += 1
        recipients = tuple(recipient.address for recipient in envelope.recipients)
        self._kept.append(Captured(self._number, self._clock.now(), envelope.sender, recipients, content))
        self._octets += len(content)
        while len(self._kept) > self._keep or (self._octets > OCTETS and len(self._kept) > 1):
            self._octets -= len(self._kept.popleft().octets)
        return Reply(250, "2.0.0", f"captured as {self._number}")

    def newest(self) -> list[Captured]:
        return list(reversed(self._kept))

    def find(self, number: int) -> Captured | None:
        return next((captured for captured in self._kept if captured.number == number), None)

    def routes(self) -> list[Route]:
        """The pages, to be mounted at /dashboard."""
        return [
            Route("/dashboard", self._list),
            Route("/dashboard/captured/{number:int}", self._one),
            Route("/dashboard/captured/{number:int}/html", self._html),
            Route("/dashboard/captured/{number:int}/source", self._source),
        ]

    async def _list(self, request: Request) -> Response:
        if refused := _not_local(request):
            return refused
        rows = [(captured, _subject(captured), iso(captured.at)) for captured in self.newest()]
        return _page("captured.html", rows=rows)

    async def _one(self, request: Request) -> Response:
        captured = self.find(request.path_params["number"])
        if (refused := _not_local(request)) or captured is None:
            return refused or PlainTextResponse("no such message, or it was dropped for newer ones", 404)
        message = captured.parsed()
        plain = message.get_body(("plain",))
        return _page(
            "message.html", captured=captured, subject=_subject(captured), at=iso(captured.at), header=list(message.items()),
            text=_text(plain), has_html=message.get_body(("html",)) is not None,
            attachments=[(part.get_filename() or part.get_content_type(), part.get_content_type()) for part in message.iter_attachments()],
        )

    async def _html(self, request: Request) -> Response:
        captured = self.find(request.path_params["number"])
        if (refused := _not_local(request)) or captured is None:
            return refused or PlainTextResponse("not found", 404)
        return HTMLResponse(_text(captured.parsed().get_body(("html",))), headers={"Content-Security-Policy": SANDBOX})

    async def _source(self, request: Request) -> Response:
        captured = self.find(request.path_params["number"])
        if (refused := _not_local(request)) or captured is None:
            return refused or PlainTextResponse("not found", 404)
        return Response(captured.octets, media_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})


def _page(name: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(name).render(**values), headers={"Content-Security-Policy": PAGE, "X-Frame-Options": "SAMEORIGIN"})


def _subject(captured: Captured) -> str:
    return str(captured.parsed()["subject"] or "(no subject)")


def _text(part: Any) -> str:
    if part is None:
        return ""
    try:
        return part.get_content()
    except (LookupError, UnicodeError):  # a charset nobody knows
        return part.get_payload(decode=True).decode("latin-1")


def _not_local(request: Request) -> Response | None:
    host = request.url.hostname or ""
    if _loopback(request.client.host if request.client else "") and (host == "localhost" or _loopback(host)):
        return None
    return PlainTextResponse("the captured mail is shown to this machine only", 403)


def _loopback(text: str) -> bool:
    try:
        return ip_address(text.strip("[]")).is_loopback
    except ValueError:
        return False
