"""Idempotency-Key as Plunk has it: a key that was used is refused with 409 and what it was used for; nothing is replayed.

A key is claimed before its request begins and holds for a day, for all of /v1. A request that was refused before anything left gives its key back; one that
was carried out, in whole or in part, or whose end nobody knows, keeps it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request

from relay.api.compat.plunk.errors import Reused
from relay.api.core import Relay
from relay.clock import iso
from relay.errors import Invalid, RelayError
from relay.mail.message import Principal
from relay.store import idempotency
from relay.store.idempotency import Entry

LASTS = 86_400.0  # seconds
LONGEST = 255  # characters
DIALECT = "plunk"


@dataclass(slots=True)
class Once:
    """One request; `kept` once something of it is done that no second try may do again."""

    kept: bool = False


@asynccontextmanager
async def once(here: Relay, who: Principal, request: Request) -> AsyncIterator[Once]:
    """Raises Reused for a key that was used before, Invalid for one that is none."""
    key, state = request.headers.get("idempotency-key"), Once()
    if key is None:
        yield state
        return
    if not 0 < len(key) <= LONGEST or not (key.isascii() and key.isprintable()):
        raise Invalid("Idempotency-Key", f"Idempotency-Key has 1 to {LONGEST} printable ASCII characters")
    now, route = here.clock.now(), f"{request.method} {_path(request)}"
    entry = Entry(who.project, DIALECT, key, "", {"request": route, "status": None}, now, now + LASTS)
    taken = await here.store.write(idempotency.claim, entry)
    if taken is not None:
        raise Reused({"key": key, "originalRequest": taken.answer["request"], "originalRequestAt": iso(taken.created_at),
                      "originalStatusCode": taken.answer["status"]})
    try:
        yield state
    except RelayError:
        if not state.kept:
            await here.store.write(idempotency.release, who.project, DIALECT, key)
        raise
    await here.store.write(idempotency.answered, who.project, DIALECT, key, {"request": route, "status": 200})


def _path(request: Request) -> str:
    """The path as Plunk has it, without our mount."""
    return request.scope["path"].removeprefix(request.scope.get("root_path", ""))
