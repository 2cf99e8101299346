"""The SMTP listener: one kind of service (submission, submissions, inbound, local) on any number of sockets.

    listener = Listener(desk, ListenerOptions("submission", "relay.example.com"))
    address = await listener.start("127.0.0.1", 2525)
    ...
    cut = await listener.drain(25.0)

What every connection needs is prepared here once: the table of commands, the greeting, the networks, the labels of metrics. One sweep over the open
connections replaces a timer for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address, ip_network

from relay.errors import ConfigError
from relay.mail.ids import Maker
from relay.mail.reply import Reply
from relay.metrics import SMTP_CONNECTIONS, SMTP_CONNECTIONS_OPEN
from relay.smtp.auth import Guard
from relay.smtp.commands import VERBS
from relay.smtp.connection import SWEEPS, Connection
from relay.smtp.desk import Desk
from relay.smtp.engine import MAX_SIZE, Terms
from relay.smtp.limits import Budget, Connections
from relay.smtp.tls import Certificate

IDLE = 300.0  # seconds without an octet from the client (RFC 5321 §4.5.3.2.7)
BACKLOG = 1_024  # connections that the kernel holds for us while we are busy
ADDRESSES = 4_096  # clients whose standing is remembered


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """What a listener is told.

    name                              "submission" | "submissions" (TLS from the first octet, RFC 8314) | "inbound" (no AUTH) |
                                      "local" (a Unix socket; the client is the user that the kernel names)
    max_size                          bytes of a message
    plaintext_auth                    networks that may AUTH without TLS
    trusted_networks                  networks that may submit without AUTH
    proxy_from                        peers that must send a PROXY header
    idle                              seconds
    recipients                        of one message, from known clients; `recipients_unknown` from others
    budget, connections, guard, ids   may be shared by several listeners
    """

    name: str
    hostname: str
    max_size: int = MAX_SIZE
    certificate: Certificate | None = None
    plaintext_auth: Sequence = ("127.0.0.0/8", "::1/128")
    trusted_networks: Sequence = ()
    proxy_from: Sequence = ()
    idle: float = IDLE
    recipients: int = 1_000
    recipients_unknown: int = 100
    budget: Budget = field(default_factory=Budget)
    connections: Connections = field(default_factory=Connections)
    guard: Guard = field(default_factory=Guard)
    ids: Maker = field(default_factory=Maker)

    @property
    def implicit_tls(self) -> bool:
        return self.name == "submissions"


@dataclass(frozen=True, slots=True)
class Standing:
    """What an address may do before it has said a word."""

    trusted: bool = False
    plaintext_auth: bool = False
    proxy: bool = False


class Listener:
    """Accepts connections and knows all that are open. `desk` is a relay.smtp.desk.Desk."""

    def __init__(self, desk: Desk, options: ListenerOptions):
        if options.implicit_tls and options.certificate is None:
            raise ConfigError("smtp.submissions", "needs smtp.tls_cert and smtp.tls_key: it speaks TLS from the first octet")
        self.desk = desk
        self._meet(options)
        self.greeting = Reply(220, "", f"{options.hostname} ESMTP Relay").wire()
        self.closing = False
        self.open: set[Connection] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._busy: dict[Connection, asyncio.Task] = {}  # what connections wait for, also those that have ended
        self._servers: list[asyncio.Server] = []  # held here: uvloop closes a server that nobody holds
        self._sweep: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._count = SMTP_CONNECTIONS_OPEN.labels(options.name)
        self._results = {result: SMTP_CONNECTIONS.labels(options.name, result) for result in ("ok", "lost", "refused", "idle", "error")}

    def _meet(self, options: ListenerOptions) -> None:
        self.options = options
        self.terms = Terms(
            options.hostname, VERBS, options.name, options.max_size, options.certificate is not None,
            options.recipients, options.recipients_unknown, options.budget, options.guard, options.ids,
        )
        self.proxied = bool(options.proxy_from)
        self._networks = tuple(tuple(map(ip_network, given)) for given in (options.trusted_networks, options.plaintext_auth, options.proxy_from))
        self.standing = lru_cache(ADDRESSES)(self._standing)

    def reconfigure(self, fresh: ListenerOptions) -> None:
        """Meet the clients that come from now on as `fresh` says; what is shared with other listeners or remembered of clients stays."""
        old = self.options
        self._meet(replace(fresh, budget=old.budget, connections=old.connections, guard=old.guard, ids=old.ids))

    def protocol_factory(self) -> Connection:
        """A protocol for one accepted connection, as create_server wants it. `start` must have been called, or `loop` be set."""
        return Connection(self)

    async def start(self, where: socket.socket | str, port: int = 0, reuse_port: bool = False) -> tuple[str, int]:
        """Listen on a socket that is bound already (inherited, from systemd), or on a host and port; gives the address. Raises OSError."""
        self.loop = asyncio.get_running_loop()
        sock = _inherited(where) if isinstance(where, socket.socket) else _bound(where, port, reuse_port)
        self._servers.append(await self.loop.create_server(self.protocol_factory, sock=sock, backlog=BACKLOG))
        if self._sweep is None:
            self._look()
        name = sock.getsockname()
        return (name[0], name[1]) if isinstance(name, tuple) else (str(name), 0)

    def close(self) -> None:
        """Accept nobody any more. Idle clients hear 421 now, the others at the end of their transaction."""
        self.closing = True
        for server in self._servers:
            server.close()
        for connection in tuple(self.open):
            connection.leave()
        self._note_empty()

    async def drain(self, seconds: float) -> int:
        """Close, and wait at most this long for open transactions; how many connections were cut. A commit is never cut."""
        self.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        cut = tuple(self.open)
        for connection in cut:
            connection.abort()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        return len(cut)

    # What connections call.

    def entered(self, connection: Connection) -> None:
        self.open.add(connection)
        self._count.inc()

    def left(self, connection: Connection) -> None:
        self.open.discard(connection)
        self._count.dec()
        self._results[connection.result].inc()
        self._note_empty()

    def begin(self, connection: Connection, coroutine: Coroutine) -> None:
        """Run the one thing that this connection waits for, in a task that is held until it calls `done`."""
        self._busy[connection] = self.loop.create_task(coroutine)

    def done(self, connection: Connection) -> None:
        self._busy.pop(connection, None)
        if self.closing:
            self._note_empty()

    def _note_empty(self) -> None:
        if self.closing and not self.open and not self._busy:
            self._empty.set()

    def _look(self) -> None:
        self._sweep = self.loop.call_later(self.options.idle / SWEEPS, self._look)
        for connection in tuple(self.open):
            connection.look()

    def _standing(self, address: str) -> Standing:
        try:
            ip = ip_address(address)
        except ValueError:  # a Unix socket has none; on sendmail's the kernel has said who the client is
            return Standing(trusted=self.options.name == "local")
        return Standing(*(any(ip in network for network in networks) for networks in self._networks))


def _bound(host: str, port: int, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where proto says TCP; without it pipelined traffic falls to a tenth (Nagle and delayed acknowledgements).
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _inherited(sock: socket.socket) -> socket.socket:
    """The socket, known as TCP where it is one."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.proto != socket.IPPROTO_TCP:
        sock = socket.socket(sock.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=sock.detach())
    sock.setblocking(False)
    return sock
