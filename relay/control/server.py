"""The control socket of a running relay: data_dir/control.sock, mode 0600, one JSON object a line each way.

    {"act": "key_create", "arguments": {"project": "default"}}
    {"result": {...}}   or   {"error": {"kind": "NotFound", "text": "...", "field": ""}}

Only the relay's own user and root are answered, by the peer's uid as the kernel tells it (SO_PEERCRED). The socket lies in data_dir, whose lock this process
holds, so a socket file that is there already belongs to a relay that was killed and is replaced. Everything is bounded: connections, a line, the time a
client may take for one.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

from relay import log
from relay.control import Control
from relay.control.place import CONNECTIONS, LINE, NAME, listener
from relay.errors import Invalid, RelayError

LOG = log.get("control")
LAST = 5.0  # seconds that acts under way have when the relay stops
IDLE = 300.0  # seconds between two requests of one client; an import may read its file in between

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Server:
    """`await Server.start(control, data_dir)`; `await close()` ends connections too."""

    def __init__(self, control: Control):
        self._control = control
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._path: Path | None = None

    @classmethod
    async def start(cls, control: Control, data_dir: Path) -> Server:
        self = cls(control)
        self._path = data_dir / NAME
        self._server = await asyncio.start_unix_server(self._serve, sock=listener(self._path), limit=LINE)
        return self

    async def close(self) -> None:
        """Take no more; acts under way have LAST seconds to end, and nobody hears their result."""
        if self._server is not None:
            self._server.close()
        for writer in self._clients.values():
            writer.close()
        if self._clients:
            await asyncio.wait(self._clients, timeout=LAST)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not _allowed(writer.get_extra_info("socket")) or len(self._clients) >= CONNECTIONS:
            writer.close()
            return
        task = asyncio.current_task()
        self._clients[task] = writer
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError, ValueError):  # the client went away, slept, or sent no line: nobody is left to tell
            pass
        finally:
            del self._clients[task]
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE):
                line = await reader.readline()
            if not line.endswith(b"\n"):
                return
            writer.write(json.dumps(await self._answer(line), separators=(",", ":")).encode() + b"\n")
            async with asyncio.timeout(IDLE):
                await writer.drain()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"result": await self._control.act(*_request(line))}
        except RelayError as error:
            return {"error": {"kind": type(error).__name__, "text": error.text, "field": getattr(error, "field", "") or getattr(error, "key", "")}}
        except Exception as error:  # a defect in one act is told to who asked, and must not end the relay
            LOG.exception("act failed")
            return {"error": {"kind": "RelayError", "text": f"the relay failed at this: {error!r}", "field": ""}}


def _request(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
        name, arguments = request["act"], request.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid("request", f"not a request: {error}") from error
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise Invalid("request", "act is a text and arguments an object")
    return name, arguments


def _allowed(peer: socket.socket) -> bool:
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return uid in (0, os.geteuid())
