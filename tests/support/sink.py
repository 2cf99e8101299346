"""A scriptable SMTP server that accepts mail and keeps it, as fast as a test needs: the far side of every delivery in the tests.

    with Sink(Script(rcpt={"bob@x.test": "550 5.1.1 no such user"}, starttls=True)) as sink:
        ...deliver to ("127.0.0.1", sink.port)
        sink.wait(1); sink.messages[0].content

What goes wrong is a field of the Script (tests/support/script.py), so that a scenario is one value and travels as JSON.

As a process: `python -m tests.support.sink --listen 127.0.0.1:2526 --script '{"dot": "451 4.3.0 later"}' --log FILE`, which prints the address it listens on
and writes a JSON line per message to FILE; it ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import IO

from tests.support.certificates import certificate
from tests.support.script import CUT, Received, Replies, Script
from tests.support.session import Session
from tests.support.thread import Threaded
from tests.support.until import PATIENCE

__all__ = ["CUT", "Received", "Script", "Sink"]


class Sink(Threaded):
    """The server. `messages`, `count`, `opened`, `open_now`, `most_open`, `transcript` (verbs per connection) tell what happened."""

    def __init__(self, script: Script | None = None, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None):
        self.script = script or Script()
        self.host, self.port = host, port
        secure = self.script.starttls or self.script.implicit_tls
        self.context = context or (certificate(self.script.hostname, "localhost", "127.0.0.1") if secure else None)
        self.messages: list[Received] = []
        self.transcript: list[list[str]] = []
        self.count = self.opened = self.open_now = self.most_open = self.rejected = 0
        self.on_message: Callable[[Received], None] | None = None
        self._arrived = threading.Condition()
        self._used: dict[int, int] = {}
        self._sessions: set[Session] = set()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def open(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, self.port))
        self.port = sock.getsockname()[1]
        tls = self.context if self.script.implicit_tls else None
        self._server = await asyncio.get_running_loop().create_server(lambda: Session(self), sock=sock, backlog=1024, ssl=tls)

    async def shut(self) -> None:
        self._server.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Cut every connection."""
        for session in list(self._sessions):
            session.transport.abort()

    def wait(self, count: int, within: float = PATIENCE) -> list[Received]:
        """The messages once there are `count`; raises TimeoutError naming how many came."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self.count >= count, within):
                raise TimeoutError(f"{self.count} of {count} messages came in {within} s")
        return self.messages

    async def arrived(self, count: int, within: float = PATIENCE) -> list[Received]:
        """`wait` for a test on an event loop of its own."""
        return await asyncio.to_thread(self.wait, count, within)

    def took(self, message: Received | None) -> None:
        with self._arrived:
            self.count += 1
            if message is not None:
                self.messages.append(message)
            self._arrived.notify_all()
        if message is not None and self.on_message:
            self.on_message(message)

    def reply(self, replies: Replies) -> str:
        """The next of these replies."""
        if isinstance(replies, str):
            return replies
        used = self._used.get(id(replies), 0)
        self._used[id(replies)] = used + 1
        return replies[min(used, len(replies) - 1)]


async def _serve(sink: Sink, log: IO[str] | None) -> None:
    if log is not None:
        sink.on_message = lambda message: print(json.dumps({**asdict(message), "content": message.content.decode("latin-1")}), file=log, flush=True)
    await sink.open()
    print(f"listening {sink.address}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--script", default="{}", help="fields of Script as JSON")
    parser.add_argument("--log", help="file that takes a JSON line per message")
    parser.add_argument("--count", action="store_true", help="keep nothing, only count")
    given = parser.parse_args()
    host, _, port = given.listen.rpartition(":")
    script = Script(**json.loads(given.script), **({"keep": False} if given.count else {}))
    log = open(given.log, "a", encoding="utf-8") if given.log else None  # noqa: SIM115 (it lives as long as the process)
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    run(_serve(Sink(script, host, int(port)), log))


if __name__ == "__main__":
    main()
