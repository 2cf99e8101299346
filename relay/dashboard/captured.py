"""What the laptop's capture server has taken: the list that a newcomer sees first, and a message with its parts.

These pages need no session: they answer loopback clients that ask for a loopback host only (a web site that points its name at 127.0.0.1 must not read mail),
and no request that came through a proxy.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from relay.capture import Captured
from relay.clock import iso
from relay.dashboard.visit import ANYBODY, Visit, get
from relay.errors import Forbidden, NotFound

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
SANDBOX = "sandbox; default-src 'none'; img-src data:{}; style-src 'unsafe-inline'; frame-ancestors 'self'"  # no script, no form, nothing loaded, no origin


async def every(visit: Visit) -> Response:
    capture = _local(visit)
    rows = [(captured, iso(captured.at)) for captured in capture.newest()]
    return visit.show("captured/list.html", rows=rows)


async def one(visit: Visit) -> Response:
    captured = _found(visit)
    message = captured.parsed()
    return visit.show(
        "captured/one.html", captured=captured, at=iso(captured.at), header=list(message.items()), text=_text(message.get_body(("plain",))),
        has_html=message.get_body(("html",)) is not None,
        attachments=[(part.get_filename() or part.get_content_type(), part.get_content_type()) for part in message.iter_attachments()])


async def html(visit: Visit) -> Response:
    return framed(_text(_found(visit).parsed().get_body(("html",))))


async def source(visit: Visit) -> Response:
    return plain(_found(visit).octets)


def framed(text: str, images: str = "") -> Response:
    """HTML that somebody else wrote, for a frame with `sandbox`; `images` "https:" lets those of a letter of one's own be loaded."""
    return HTMLResponse(text, headers={"Content-Security-Policy": SANDBOX.format(f" {images}".rstrip()), "X-Frame-Options": "SAMEORIGIN"})


def plain(octets: bytes) -> Response:
    """A message as it is, to be read and never to be run."""
    return Response(octets, media_type="text/plain; charset=utf-8", headers={"Content-Security-Policy": "sandbox; default-src 'none'"})


def _local(visit: Visit) -> Any:
    """The capture server; raises NotFound where there is none, Forbidden for who is not at this machine."""
    if visit.house.capture is None:
        raise NotFound("there is no capture server here; config/local.toml has one")
    if not local(visit.request):
        raise Forbidden("the captured mail is shown to this machine only")
    return visit.house.capture


def _found(visit: Visit) -> Captured:
    captured = _local(visit).find(visit.request.path_params["number"])
    if captured is None:
        raise NotFound("no such message, or it was dropped for newer ones")
    return captured


def _text(part: Any) -> str:
    if part is None:
        return ""
    try:
        return part.get_content()
    except (LookupError, UnicodeError):  # a charset nobody knows
        return part.get_payload(decode=True).decode("latin-1")


def local(request: Request) -> bool:
    host = request.url.hostname or ""
    if any(name in request.headers for name in FORWARDED):
        return False
    return _loopback(request.client.host if request.client else "") and (host == "localhost" or _loopback(host))


def _loopback(text: str) -> bool:
    try:
        return ip_address(text.strip("[]")).is_loopback
    except ValueError:
        return False


ROUTES = (get("/captured", every, ANYBODY), get("/captured/{number:int}", one, ANYBODY), get("/captured/{number:int}/html", html, ANYBODY),
          get("/captured/{number:int}/source", source, ANYBODY))
