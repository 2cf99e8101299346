"""The probes over a real HTTP server: ready or not and why, and who may read the metrics."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from starlette.applications import Starlette

from relay.web import front, health
from relay.web.server import HttpServer


@pytest.fixture
async def ask():
    """`ask(path, **fields)` gives status, header text and body; `ask.reasons` and `ask.token` are the relay's state."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def get(path: str, **fields: str) -> tuple[int, str, str]:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join((*lines, "", "")).encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return int(head.split()[1]), head.lower(), body

    get.reasons, get.token = [], ""

    async def problems() -> list[str]:
        return get.reasons

    server = HttpServer(Starlette(routes=health.routes(problems, lambda: get.token) + front.routes("/docs")), [listener], 1_000)
    await server.start()
    yield get
    await server.stop(5)


async def test_alive(ask):
    ask.reasons = ["draining"]
    assert (await ask("/healthz"))[0] == 200


async def test_ready_or_why_not(ask):
    status, _, body = await ask("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True})
    ask.reasons = ["the store cannot commit", "draining"]
    status, head, body = await ask("/readyz")
    assert (status, json.loads(body)["reasons"]) == (503, ask.reasons)
    assert "retry-after: 5" in head


@pytest.mark.parametrize(("token", "fields", "status"), [
    pytest.param("", {}, 200, id="loopback"),
    pytest.param("", {"X_Forwarded_For": "127.0.0.1"}, 403, id="through a proxy"),
    pytest.param("", {"Forwarded": "for=192.0.2.1"}, 403, id="through a proxy (RFC 7239)"),
    pytest.param("right", {"X_Forwarded_For": "192.0.2.1", "Authorization": "Bearer right"}, 200, id="through a proxy with the token"),
    pytest.param("right", {"X_Forwarded_For": "192.0.2.1", "Authorization": "Bearer wrong"}, 403, id="wrong token"),
    pytest.param("right", {"X_Forwarded_For": "192.0.2.1", "Authorization": "Basic right"}, 403, id="wrong scheme"),
    pytest.param("", {"X_Forwarded_For": "192.0.2.1", "Authorization": "Bearer "}, 403, id="no token is not an empty token"),
])
async def test_who_may_read_the_metrics(ask, token, fields, status):
    ask.token = token
    got, head, body = await ask("/metrics", **fields)
    assert got == status
    if status == 200:
        assert "content-type: text/plain; version=0.0.4" in head
        assert "relay_build_info{" in body
    else:
        assert "relay_" not in body


async def test_the_public_side_shows_only_that_we_live():
    assert [route.path for route in health.public_routes()] == ["/healthz"]


async def test_the_root_leads_on(ask):
    status, head, _ = await ask("/")
    assert status == 302
    assert "location: /docs\r\n" in head
