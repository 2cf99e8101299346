"""Signing in, with an API key or as a user with a password, and out.

A wrong guess is answered later than the one before, and the fifth in ten minutes locks its address out for as long (relay.smtp.auth.Guard, which SMTP's AUTH
has too): an attacker's host, not the person whose name is tried.
"""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from relay import log
from relay.control import users
from relay.dashboard import session as sessions
from relay.dashboard.session import KEY, USER, Session
from relay.dashboard.visit import ANYBODY, Visit, get, post
from relay.errors import Defer, Unauthorized
from relay.mail.reply import Reply
from relay.smtp.auth import CREDENTIAL, PERIOD

HOME = "/dashboard"
LOG = log.get("dashboard")


async def home(visit: Visit) -> Response:
    """Where /dashboard leads: the mail, or on a laptop what was captured."""
    if visit.who is not None:
        return visit.go("/dashboard/mail")
    return visit.go("/dashboard/captured" if visit.house.capture is not None else "/dashboard/sign-in")


async def ask(visit: Visit) -> Response:
    return visit.go(_place(visit.asked("next"))) if visit.who is not None else visit.show("signin.html", next=_place(visit.asked("next")))


async def enter(visit: Visit) -> Response:
    """A session for who proves a name or a key; the page again for who does not."""
    place, client, guard = _place(visit.given("next")), visit.request.client.host if visit.request.client else "", visit.house.guard
    try:
        if guard.locked(client):
            raise Defer(Reply(421, "4.7.0", f"too many failed sign-ins from your address; wait {PERIOD / 60:.0f} minutes"), PERIOD, "rate_limit_exceeded")
        session = await _proven(visit)
        if session is None:
            guard.failed(client)
            await asyncio.sleep(guard.delay(client))
            LOG.warning("sign-in failed", client=client)
            raise Unauthorized("that is not a living key, or not the name and password of a user")
    except (Defer, Unauthorized) as error:
        visit.form = type(visit.form)([("name", visit.given("name"))])  # never the secret, not even to who typed it
        return visit.show("signin.html", error=error, next=place)
    guard.succeeded(client)
    LOG.info("signed in", client=client, kind="key" if session.kind == KEY else "user", id=session.number)
    answer = visit.go(place)
    sessions.keep(visit.request, answer, session)
    return answer


async def _proven(visit: Visit) -> Session | None:
    """The session of a key, or of a user and his password."""
    name, secret, house = visit.given("name"), visit.given("secret"), visit.house
    if not secret or len(secret) > CREDENTIAL or len(name) > CREDENTIAL:
        return None
    if secret.startswith("sk_"):
        found = await house.here.keeper.principal(secret)
        return sessions.begin(house.tokens, KEY, found.key_id) if found is not None and found.key_id is not None else None
    user = await users.prove(house.here.control, name, secret) if name else None
    return sessions.begin(house.tokens, USER, user.id, sessions.stamp(user.password)) if user is not None else None


async def leave(visit: Visit) -> Response:
    answer = visit.go("/dashboard/sign-in", "You are signed out.")
    sessions.end(answer)
    return answer


def _place(text: str) -> str:
    """A page of the dashboard to go on to, never another site."""
    plain = text.isascii() and text.isprintable() and "\\" not in text and "//" not in text
    return text if plain and (text == HOME or text.startswith(f"{HOME}/")) and not text.startswith("/dashboard/sign-") else HOME


ROUTES = (get("", home, ANYBODY), get("/sign-in", ask, ANYBODY), post("/sign-in", enter, ANYBODY), post("/sign-out", leave, ANYBODY))
