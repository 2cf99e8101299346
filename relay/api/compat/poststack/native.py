"""The native application, asked in this process: the caller's own key and body, another path and query, the answer in memory or as it streams."""

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Message = MutableMapping[str, Any]


class Answer:
    """What the native application said: a status, headers and the whole body."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 500, [], b""

    @property
    def is_json(self) -> bool:
        return any(name == b"content-type" and value.startswith(b"application/json") for name, value in self.headers)

    def kept(self, *less: str) -> dict[str, str]:
        """The headers that go on to the caller, whose body is another."""
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}
        return {name: value for name, value in found.items() if name not in ("content-length", *less)}

    def json(self) -> Any:
        return orjson.loads(self.body)

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], [(name.lower(), value) for name, value in message.get("headers", [])]
        else:
            self.body += message.get("body", b"")


class Call:
    """A caller's request, as it is made of the native application."""

    def __init__(self, native: ASGIApp, scope: Scope, receive: Receive):
        self._native, self._scope, self._receive = native, scope, receive

    async def ask(self, method: str, path: str, query: str, body: bytes | None = None) -> Answer:
        """The answer in memory; without a `body` the caller's own is sent."""
        answer = Answer()
        with contextlib.suppress(Exception):  # a fault there: it has logged it and answered 500 before it raises it, for servers that want to know
            await self._native(self._asked(method, path, query, body), self._receive if body is None else _once(body), answer.take)
        return answer

    async def through(self, method: str, path: str, query: str, send: Send) -> None:
        """The native answer itself, as it streams."""
        await self._native(self._asked(method, path, query, None), self._receive, send)

    def _asked(self, method: str, path: str, query: str, body: bytes | None) -> Scope:
        kept = ("type", "asgi", "http_version", "scheme", "server", "client", "state", "extensions")
        headers = self._scope["headers"]
        if body is not None:
            headers = [(name, value) for name, value in headers if name not in (b"content-length", b"transfer-encoding")]
            headers.append((b"content-length", str(len(body)).encode()))
        return {**{name: self._scope[name] for name in kept if name in self._scope}, "method": method, "path": path, "raw_path": quote(path).encode(),
                "root_path": "", "query_string": query.encode(), "headers": headers}


class Through(Response):
    """The native answer as it comes."""

    def __init__(self, call: Call, method: str, path: str, query: str):
        super().__init__()
        self._asked = call, method, path, query

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        call, *what = self._asked
        await call.through(*what, send)


def _once(body: bytes) -> Receive:
    """A body that is here already."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
