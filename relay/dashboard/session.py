"""Who is signed in: a signed cookie, and the token that proves that a form came from a page of ours.

The cookie names a key or a user, when it ends, and a stamp of the user's password; it says nothing else and is believed only with our signature. What it
names is read anew for each request, so a revoked key, a removed user or a new password ends every session at once. It is HttpOnly, SameSite=Lax, for
/dashboard alone, and Secure wherever the page came over https.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from relay.errors import Expired, Forbidden, NotFound
from relay.mail.tokens import ID, Tokens, pack, unpack

COOKIE = "relay_session"
PATH = "/dashboard"
LASTS = 12 * 3600.0  # seconds from signing in
SAID = "relay_said"  # the cookie with what the next page says at its top
SAID_FOR = 60  # seconds
STAMP = 8  # octets

KEY, USER = b"k", b"u"


@dataclass(frozen=True, slots=True)
class Session:
    """`kind` KEY or USER, the `number` of its row, the `stamp` of a user's password (zeros for a key), and the cookie's `text`."""

    kind: bytes
    number: int
    stamp: bytes
    text: str


def begin(tokens: Tokens, kind: bytes, number: int, stamp: bytes = bytes(STAMP)) -> Session:
    """A new session, signed; no two have the same text."""
    data = kind + pack(number) + stamp + secrets.token_bytes(8)
    return Session(kind, number, stamp, tokens.make("session", data, tokens.clock.now() + LASTS))


def of(tokens: Tokens, request: Request) -> Session | None:
    """The session of the request's cookie; None without one that we signed and that lasts."""
    text = request.cookies.get(COOKIE, "")
    try:
        data = tokens.read("session", text) if text else b""
    except (NotFound, Expired):
        return None
    if len(data) < 1 + ID + STAMP:
        return None
    number, rest = unpack(data[1:])
    return Session(data[:1], number, rest[:STAMP], text)


def stamp(password_hash: str) -> bytes:
    """What changes with a password."""
    return hashlib.sha256(password_hash.encode()).digest()[:STAMP]


def form_token(tokens: Tokens, session: Session | None) -> str:
    """What each form of a session carries; "" without a session."""
    return tokens.make("form", hashlib.sha256(session.text.encode()).digest()[:16]) if session else ""


def check(tokens: Tokens, session: Session | None, request: Request, given: str) -> None:
    """Raises Forbidden unless the form came from a page of ours: the browser says so, and the token is that of the session."""
    if not _same_origin(request):
        raise Forbidden("this form came from another site; open the page again and repeat it there")
    if session is not None and not hmac.compare_digest(given.encode(), form_token(tokens, session).encode()):
        raise Forbidden("this form is from before you signed in; go back, load the page again and repeat it")


def _same_origin(request: Request) -> bool:
    """What the browser says of where a request comes from (Fetch Metadata; Origin, RFC 6454 §7); who says nothing is no browser."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


def keep(request: Request, response: Response, session: Session) -> None:
    _put(request, response, COOKIE, session.text, int(LASTS))


def end(response: Response) -> None:
    response.delete_cookie(COOKIE, path=PATH)


def say(tokens: Tokens, request: Request, response: Response, text: str) -> None:
    """Have the next page say this once."""
    _put(request, response, SAID, tokens.make("said", text[:500].encode("utf-8", "replace"), tokens.clock.now() + SAID_FOR), SAID_FOR)


def said(tokens: Tokens, request: Request) -> str:
    """What an answer before this one asked to say, or ""."""
    try:
        return tokens.read("said", request.cookies.get(SAID, "")).decode("utf-8", "replace")
    except (NotFound, Expired):
        return ""


def _put(request: Request, response: Response, name: str, text: str, age: int) -> None:
    response.set_cookie(name, text, max_age=age, path=PATH, httponly=True, samesite="lax", secure=request.url.scheme == "https")
