"""An HTTP listener inside the relay's own loop: uvicorn without its signal handlers, on sockets that somebody else opened.

    server = HttpServer(application, [sock], max_body=...)
    await server.start(); ...; await server.stop(timeout)

Request bodies are bounded here for every route; a route that wants less says so itself. Every answer carries X-Request-Id and the headers that keep
a browser from guessing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any

import orjson
import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

IDLE = 75  # seconds a quiet connection is kept, more than the 60 of common reverse proxies so that they close first
BACKLOG = 512
CONCURRENT = 1_000  # connections; uvicorn answers 503 beyond
ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]


class TooLarge(Exception):
    """The body went over the bound while it was read."""


class Guard:
    """The outermost application: request ids, common headers, the bound on bodies."""

    def __init__(self, application: Asgi, max_body: int):
        self._application = application
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        extra = [(b"x-request-id", request_id.encode()), *ALWAYS]
        started = over = False

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if over and not started:  # whatever the application makes of it
                return
            if message["type"] == "http.response.start":
                started = True
                own = list(message.get("headers", []))
                said = {name.lower() for name, _ in own}
                message["headers"] = own + [pair for pair in extra if pair[0] not in said]
            await send(message)

        if _declared(scope) > self._max_body:
            await self._refuse(answer)
            return
        left = self._max_body

        async def take() -> MutableMapping[str, Any]:
            nonlocal left, over
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                over = True
                raise TooLarge
            return message

        try:
            await self._application(scope, take, answer)
        except TooLarge:
            pass
        if over and not started:
            over = False
            await self._refuse(answer)

    async def _refuse(self, send: Send) -> None:
        text = {"error": f"the request body is over {self._max_body} bytes, [http] max_body sets the bound", "code": "body_too_large"}
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"application/json"), (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": orjson.dumps(text)})


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the relay has its own signal handlers


class HttpServer:
    """One application on some sockets, until `stop`."""

    def __init__(self, application: Asgi, sockets: Sequence[socket.socket], max_body: int, trusted_proxies: Sequence[Any] = ()):
        config = uvicorn.Config(
            Guard(application, max_body), loop="none", http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            timeout_keep_alive=IDLE, limit_concurrency=CONCURRENT, backlog=BACKLOG,
            proxy_headers=bool(trusted_proxies), forwarded_allow_ips=[str(network) for network in trusted_proxies],
        )
        self._server = _Server(config)
        self._sockets = list(sockets)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serving; raises what made it fail to start."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=self._sockets))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.01)
        if self._task.done():
            self._task.result()

    async def stop(self, timeout: float) -> None:
        """Finish the requests in flight, within `timeout` seconds."""
        if self._task is None:
            return
        self._server.should_exit = True
        _, late = await asyncio.wait([self._task], timeout=timeout)
        for task in late:
            self._server.force_exit = True
            task.cancel()
