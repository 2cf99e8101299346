"""What every route of the API shares: the relay it speaks for, who asks, and which page is wanted.

A route takes `Core`, and `Sender` (any key: send, and see what became of it) or `Owner` (a full_access key: everything else). A key sees its own project
only; what belongs to another is not found, never forbidden, so that ids tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from starlette.routing import BaseRoute

from relay.api.spool import Spool
from relay.clock import Clock
from relay.control import Control
from relay.errors import Forbidden, Invalid, NotFound, Unauthorized
from relay.mail import ids
from relay.mail.ids import Maker
from relay.mail.message import Principal
from relay.policy import Services
from relay.services import Doorkeeper
from relay.settings import Settings
from relay.store import domains, projects
from relay.store.domains import Domain
from relay.store.engine import Store
from relay.store.pages import Found, Page
from relay.store.secrets import Vault
from relay.submission import Door
from relay.webhooks import Webhooks

PER_PAGE = 100  # rows of a page at most


@dataclass(slots=True)
class Relay:
    """The parts of a running relay that routes use.

    door      where mail enters; SIGHUP puts a new one here
    seals     seals webhook secrets: secrets.vault(secret_key, "webhooks")
    """

    control: Control
    door: Door
    keeper: Doorkeeper
    services: Services
    seals: Vault
    hooks: Webhooks
    spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        self.spool = Spool(self.settings.data_dir / "spool")

    def occurred(self) -> None:
        """There are new events, or endpoints changed."""
        self.hooks.occurred()

    @property
    def store(self) -> Store:
        return self.control.store

    @property
    def settings(self) -> Settings:
        return self.control.settings

    @property
    def clock(self) -> Clock:
        return self.control.clock

    @property
    def maker(self) -> Maker:
        return self.control.maker

    async def project(self, principal: Principal) -> str:
        """The name of the principal's project, which the acts of relay.control go by."""
        return (await self.store.read(projects.get, principal.project)).name

    async def domain(self, principal: Principal, domain_id: str) -> Domain:
        """The project's domain of this id; raises NotFound."""
        try:
            return await self.store.read(domains.get, principal.project, domain_id)
        except NotFound:
            raise NotFound("Domain not found") from None

    async def act(self, principal: Principal, act: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **named: Any) -> Any:
        """What an act of relay.control gives for the principal's project."""
        return await act(self.control, *args, project=await self.project(principal), **named)


def relay(request: Request) -> Relay:
    return request.app.state.relay


Core = Annotated[Relay, Depends(relay)]

_BEARER = HTTPBearer(auto_error=False, description="An API key: sk_live_... or sk_test_...")


async def principal(request: Request) -> Principal:
    """Whom the Authorization header proves; raises Unauthorized. No route ever sees a NUL in its path or query: PostgreSQL has no text with one."""
    if "\0" in request.scope["path"]:
        raise NotFound("Not found")
    if b"%00" in request.scope["query_string"] or b"\0" in request.scope["query_string"]:
        raise Invalid("query", "the query contains a NUL")
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthorized("Missing API key: send the header Authorization: Bearer sk_...")
    found = await relay(request).keeper.principal(text.strip())
    if found is None:
        raise Unauthorized
    return found


async def _sender(request: Request, _documented: Annotated[Any, Depends(_BEARER)]) -> Principal:
    return await principal(request)


async def _owner(found: Annotated[Principal, Depends(_sender)]) -> Principal:
    if found.permission != "full_access":
        raise Forbidden("API key does not have permission")
    return found


Sender = Annotated[Principal, Depends(_sender)]
Owner = Annotated[Principal, Depends(_owner)]


def _page(
    page: Annotated[int, Query(ge=1, le=1_000_000, description="Page number")] = 1,
    per_page: Annotated[int, Query(ge=1, le=PER_PAGE, description="Results per page")] = 20,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before; fast at any depth")] = None,
) -> Page:
    after = None
    if cursor is not None:
        after = ids.internal(cursor, "cur")
        if after is None:
            raise Invalid("cursor", "cursor is not one that a list gave")
    return Page(page, per_page, after)


Paging = Annotated[Page, Depends(_page)]


def listed(name: str, found: Found, page: Page, show: Callable[[Any], Any]) -> dict[str, Any]:
    """A list answer: the rows under their name, and `pagination`."""
    rows = [show(row) for row in found.rows]
    pagination = {"total": found.total, "page": page.number, "per_page": page.size, "total_pages": -(-found.total // page.size)}
    if found.last is not None:
        pagination["next_cursor"] = ids.public("cur", found.last)
    if not found.exact:
        pagination["total_exact"] = False  # there are more; to count them all would take longer than anybody waits for a page
    return {name: rows, "pagination": pagination}


def whole(name: str, rows: Sequence[Any]) -> dict[str, Any]:
    """A list that is never long, as one page."""
    size = max(1, len(rows))
    return {name: list(rows), "pagination": {"total": len(rows), "page": 1, "per_page": size, "total_pages": 1}}


def known(prefix: str, text: str, what: str) -> int:
    """The number of a public id in a path; raises NotFound for one that cannot exist."""
    number = ids.internal(text, prefix)
    if number is None:
        raise NotFound(f"{what} not found")
    return number


class Shape(BaseModel):
    """A JSON object: snake_case names, their camelCase spelling accepted too, unknown fields ignored as the platforms do."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Input(Shape):
    """A request body, without a NUL anywhere."""

    @model_validator(mode="after")
    def _without_nul(self) -> Input:
        for name, value in self.__dict__.items():
            if _has_nul(value):
                raise ValueError(f"{name} contains a NUL")
        return self


def _has_nul(value: Any) -> bool:
    """Whether a text anywhere in it has a NUL, which no text column of PostgreSQL takes."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(_has_nul(each) for each in value)


class Json(Response):
    """JSON by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def resource(tag: str) -> APIRouter:
    """The routes of a resource. An application takes them as they are, with `taken`: `include_router` would make each of them anew at its first request."""
    return APIRouter(tags=[tag], default_response_class=Json)


def taken(routers: Sequence[APIRouter]) -> list[BaseRoute]:
    """All routes of these, in their order."""
    return [route for router in routers for route in router.routes]
