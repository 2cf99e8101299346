"""The root of the admin listener: whoever types the address alone is led on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route


def routes(place: str) -> list[Route]:
    """`/` leads to this path of ours."""

    def root(_request: Request) -> Response:
        return RedirectResponse(place, 302, {"cache-control": "no-store"})

    return [Route("/", root)]
