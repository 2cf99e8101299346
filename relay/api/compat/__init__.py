"""Other platforms' dialects, each an application of its own in front of the native API's services: `plunk` at /plunk, `poststack` at /poststack."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.metrics import counter

REQUESTS = counter("dialect_requests_total", "Requests in another platform's dialect, by the class of their answer", "dialect", "status")


class Counted:
    """Counts the answers of a dialect's application."""

    def __init__(self, app: ASGIApp, dialect: str):
        self._app, self._dialect = app, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                REQUESTS.labels(self._dialect, f"{message['status'] // 100}xx").inc()
            await send(message)

        await self._app(scope, receive, answer)
