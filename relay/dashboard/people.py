"""Settings, users: who else signs in to this project. A password that we made is on the page that made it, and nowhere else ever."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from relay.control import users
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError

PATH = "/dashboard/settings/users"
PERMISSIONS = (("full_access", "everything"), ("sending_access", "mail only"))


async def every(visit: Visit, made: dict[str, Any] | None = None, error: RelayError | None = None) -> Response:
    found = await visit.here.act(visit.who, users.every)
    return visit.show("settings/users.html", error=error, users=found, made=made, permissions=PERMISSIONS)


async def add(visit: Visit) -> Response:
    try:
        return await every(visit, await visit.here.act(visit.who, users.add, visit.given("name"), permission=visit.given("permission")))
    except RelayError as error:
        return await every(visit, error=error)


async def password(visit: Visit) -> Response:
    return await every(visit, await visit.here.act(visit.who, users.set_password, visit.number("user_id")))


async def remove(visit: Visit) -> Response:
    gone = await visit.here.act(visit.who, users.remove, visit.number("user_id"))
    return visit.go(PATH, f"{gone['name']} signs in no more.")


ROUTES = (get("/settings/users", every), post("/settings/users", add), post("/settings/users/{user_id}/password", password),
          post("/settings/users/{user_id}/remove", remove))
