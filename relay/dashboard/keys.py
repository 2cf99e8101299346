"""Settings, keys: made, rotated, revoked. The text of a key is on the page that made it, and nowhere else ever."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import domains, keys
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError

PATH = "/dashboard/settings/keys"
PERMISSIONS = (("sending_access", "send, and see mail"), ("full_access", "everything"))
MODES = (("live", "live: sends"), ("test", "test: sends nothing"))


async def every(visit: Visit, made: dict[str, Any] | None = None, error: RelayError | None = None) -> Response:
    """The list; `made` a key with its text, shown this once."""
    found = await keys.list_keys(visit.here, visit.who)
    named = await domains.list_domains(visit.here, visit.who)
    choices = (("", "any domain of the project"), *((each["id"], each["name"]) for each in named["domains"]))
    return visit.show("settings/keys.html", error=error, keys=found["api_keys"], made=made, permissions=PERMISSIONS, modes=MODES, domains=choices)


async def add(visit: Visit) -> Response:
    try:
        given = keys.KeyInput(name=visit.given("name"), permission=visit.given("permission"), mode=visit.given("mode"),  # type: ignore[arg-type]
                              domain_id=visit.given("domain_id") or None, allow_full_access=True)
        return await every(visit, await keys.create_key(visit.here, visit.who, given))
    except (RelayError, ValidationError) as error:
        return await every(visit, error=visit.wrong(error))


async def rotate(visit: Visit) -> Response:
    return await every(visit, await keys.rotate_key(visit.here, visit.who, visit.number("key_id")))


async def revoke(visit: Visit) -> Response:
    await keys.revoke_key(visit.here, visit.who, visit.number("key_id"))
    return visit.go(PATH, "Revoked: the key is dead, in open sessions too.")


ROUTES = (get("/settings/keys", every), post("/settings/keys", add), post("/settings/keys/{key_id}/rotate", rotate),
          post("/settings/keys/{key_id}/revoke", revoke))
