"""One client's connection: aiosmtpd's `SMTP` class, driven by callbacks and the engine instead of a reader task.

Commands are answered inside `data_received`, with one write for all replies of a packet. A task is made only where the desk answers by an awaitable, and
the end of the connection does not cancel it: what the store has begun it finishes, and a client that has not heard 250 sends its message again (RFC 1047).

Names that aiosmtpd's users know (`session`, `envelope`, `transport`, `event_handler`, `hostname`, `data_size_limit`, `tls_context`) mean the same here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP

from relay import log
from relay.errors import Invalid, RelayError
from relay.mail.message import Envelope
from relay.mail.reply import Reply
from relay.metrics import SMTP_CONNECTIONS_DENIED
from relay.smtp import proxy
from relay.smtp.desk import Desk, Session
from relay.smtp.engine import ANSWER, CLOSE, GOING, MESSAGE, OCTETS, PAUSE, TLS, Engine
from relay.smtp.tls import counted, spoken

if TYPE_CHECKING:
    from relay.smtp.server import Listener

SWEEPS = 20  # looks at every connection within the time that it may be idle
HURRIED = 4  # the same for unknown clients while places for them are scarce: a minute of five
HANDSHAKE = 60.0  # seconds for a TLS handshake

IDLE_TOO_LONG = Reply(421, "4.4.2", "idle for too long, closing")
DENIED = {
    "total": Reply(421, "4.3.2", "too many connections, try again later"),
    "reserve": Reply(421, "4.3.2", "too many connections, try again later"),
    "address": Reply(421, "4.7.0", "too many connections from your address, try again later"),
    "closing": GOING,
}
LOG = log.get("smtp")

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Connection(SMTP):
    """One client.

    quiet   sweeps since its last octet
    result  how it ended, for the metrics: "ok" | "lost" | "refused" | "idle" | "error"
    """

    # aiosmtpd's own __init__ inspects itself and its handler, asks for the host name and makes a stream reader: 139 us. The listener has all that ready.
    def __init__(self, listener: Listener):
        self.listener = listener
        self.loop = listener.loop
        self.transport: Any = None
        self.engine: Engine | None = None
        self.session: Session | None = None
        self.quiet = 0
        self.result = "ok"
        self._early: bytes | None = b""  # what came before the PROXY header was complete or while TLS began; None once there is a conversation
        self._ended = False  # the client has sent its last octet
        self._exempt = False  # from the limit by address
        self._known = False  # counted as one that has proved itself
        self._stopped = False  # reading is paused
        self._full = False  # the client does not read our replies
        self._timer: asyncio.TimerHandle | None = None

    def __del__(self) -> None:
        """Nothing, where aiosmtpd looks after a future that we do not have."""

    # aiosmtpd's names.

    @property
    def event_handler(self) -> Desk:
        return self.listener.desk

    @property
    def hostname(self) -> str:
        return self.listener.options.hostname

    @property
    def data_size_limit(self) -> int:
        return self.listener.options.max_size

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        certificate = self.listener.options.certificate
        return certificate.current() if certificate is not None else None

    @property
    def envelope(self) -> Envelope | None:
        return self.engine.envelope if self.engine is not None else None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self.listener
        self.transport = transport
        listener.entered(self)
        peer = transport.get_extra_info("peername")
        address, port = (proxy.plain(peer[0]), peer[1]) if isinstance(peer, tuple) else (_uid(transport), 0)
        if listener.proxied and listener.standing(address).proxy:
            self.session = Session(address, port, listener.options.name)  # until the header says who is behind it
        else:
            self._greet(address, port)

    def data_received(self, data: bytes) -> None:
        self.quiet = 0
        if self._early is not None:
            self._early += data
            if self.engine is None:
                self._read_proxy()
            return
        engine = self.engine
        engine.feed(data)
        if engine.want == OCTETS:
            self._flush()
        else:
            self._go_on()

    def eof_received(self) -> bool:
        """A half close: what is under way is answered first. TLS has no half close; there the commit goes on, but nobody hears of it."""
        self._ended = True
        return self.engine is not None and self.engine.want in (ANSWER, MESSAGE, PAUSE) and self.session.tls == ""

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is None:
            return
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
        engine = self.engine
        if engine is not None:
            if engine.want != CLOSE and self.result == "ok":
                self.result = "lost"
            self.listener.options.connections.leave(self.session.client, self._known, self._exempt)
            engine.lost()
        self.listener.left(self)

    def pause_writing(self) -> None:
        """The client sends commands and does not read our replies: read no more of them."""
        self._full = True
        self._stop_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self.engine is not None and self.engine.want == OCTETS:
            self._read_on()

    # What the listener calls.

    def look(self) -> None:
        """A sweep: a client that has been quiet for too long is told so, and one that does not even take that is cut off."""
        self.quiet += 1
        hurried = not self._known and self.listener.options.connections.stressed
        if self.quiet <= (HURRIED if hurried else SWEEPS):
            return
        want = self.engine.want if self._early is None else TLS
        if want in (OCTETS, PAUSE):
            self.result = "idle"
            self.engine.leave(IDLE_TOO_LONG)
            self._go_on()
        elif want not in (ANSWER, MESSAGE):
            self.abort()

    def leave(self) -> None:
        """The listener is closing: go now, or after the transaction."""
        if self._early is not None:
            self.abort()
        else:
            self.engine.close()
            self._go_on()

    def abort(self) -> None:
        """Cut the connection; nothing is said."""
        self.result = "error"
        if self.transport is not None:
            self.transport.abort()

    # The beginning: PROXY, limits, TLS from the first octet, greeting.

    def _read_proxy(self) -> None:
        try:
            source = proxy.read(self._early)
        except Invalid as error:
            LOG.warning("no PROXY header from a peer of proxy_from", peer=self.session.client, error=error.text)
            self.abort()
            return
        if source is not None:
            rest, self._early = self._early[source.length:], b""
            address, port = (source.address, source.port) if source.address else self.session.peer
            self._greet(address, port, rest)

    def _greet(self, address: str, port: int, rest: bytes = b"") -> None:
        """Admit the client, or turn it away.

        rest  octets that came with the PROXY header
        """
        listener = self.listener
        standing = listener.standing(address)
        self._exempt = standing.plaintext_auth
        reason = "closing" if listener.closing else listener.options.connections.admit(address, standing.trusted, self._exempt)
        if reason is not None:
            self._turn_away(reason)
            return
        self._known = standing.trusted
        self.session = Session(address, port, listener.options.name, standing.trusted, standing.plaintext_auth)
        self.engine = Engine(listener.desk, listener.terms, self.session)
        if listener.options.implicit_tls:
            self._start_tls(rest)
            return
        self._early = None
        self.transport.write(listener.greeting)
        if rest:
            self.data_received(rest)

    def _turn_away(self, reason: str) -> None:
        SMTP_CONNECTIONS_DENIED.labels(reason).inc()
        self.result = "refused"
        if not self.listener.options.implicit_tls:
            self.transport.write(DENIED[reason].wire())
        self.transport.close()

    def _start_tls(self, octets: bytes = b"") -> None:
        """Begin TLS in a task.

        octets  the start of the handshake that came with the PROXY header
        """
        self._early = octets
        self.listener.begin(self, self._secure())

    async def _secure(self) -> None:
        """What came by now belongs to the handshake. What comes decrypted before start_tls returns waits: an answer given then would go out in the clear."""
        transport = self.transport
        if transport is None:
            self.listener.done(self)
            return
        handshake, self._early = self._early, b""
        if handshake:  # the TLS layer is told of its transport in the next turn of the loop, and takes octets in the one after that
            self.loop.call_soon(self.loop.call_soon, _push, transport, handshake)
        try:
            secure = await self.loop.start_tls(transport, self, self.tls_context, server_side=True, ssl_handshake_timeout=HANDSHAKE)
        except (OSError, asyncio.CancelledError) as error:  # ssl.SSLError is an OSError
            LOG.debug("TLS handshake failed", client=self.session.client, error=str(error))
            self.result = "error"
            transport.abort()
            secure = None
        finally:
            self.listener.done(self)
        if secure is None or transport.is_closing():
            self.connection_lost(None)  # which the TLS layer does not call when the handshake has failed
            return
        early, self._early = self._early, None
        self.transport, self._stopped = secure, False
        ssl_object = secure.get_extra_info("ssl_object")
        tls = spoken(ssl_object)
        counted(ssl_object, "in")
        self.engine.secured(tls)
        if self.listener.options.implicit_tls:
            secure.write(self.listener.greeting)
        if early:
            self.data_received(early)

    # What the engine wants.

    def _flush(self) -> None:
        out = self.engine.out
        if out:
            if self.transport is not None:
                self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _go_on(self) -> None:
        """Send the replies and do what the engine wants."""
        engine = self.engine
        self._flush()
        want = engine.want
        if want == OCTETS:
            self._read_on()
        elif want in (ANSWER, MESSAGE):
            self._ask()
        elif want == PAUSE:
            self._timer = self._timer or self.loop.call_later(engine.pause, self._pause_over)
            self._stop_reading()
        elif want == TLS and self._early is None:
            self._start_tls()
        elif want == CLOSE and self.transport is not None:
            self.transport.close()

    def _ask(self) -> None:
        """Await what the desk says; when it is awaited already and more octets have come, read no further."""
        question, self.engine.pending = self.engine.pending, None
        if question is None:
            self._stop_reading()
        else:
            self.listener.begin(self, self._settle(question))

    async def _settle(self, question: Awaitable) -> None:
        """Give the engine what the desk answers, and go on if the client is still there."""
        try:
            result = await question
        except asyncio.CancelledError as error:
            self.engine.fault(error)
            self.abort()
            self.listener.done(self)
            raise
        except Exception as error:
            self._fault(error)
        else:
            self._answer(result)
        self.quiet = 0
        self.listener.done(self)
        if self.transport is not None:
            self._go_on()

    def _answer(self, result: Any) -> None:
        self.engine.answer(result)
        if not self._known and self.session.principal is not None and self.transport is not None:
            self._known = True
            self.listener.options.connections.proved(self.session.client, self._exempt)

    def _fault(self, error: Exception) -> None:
        """The desk raised: its own words for an error that it means, a log line and "try again later" for one that it does not."""
        if not isinstance(error, RelayError):
            LOG.exception("the desk failed", client=self.session.client, listener=self.session.listener)
        self.engine.fault(error)

    def _pause_over(self) -> None:
        self._timer = None
        if self.engine.want == PAUSE:
            self.engine.answer(None)
            self._go_on()

    def _stop_reading(self) -> None:
        if not self._stopped and self.transport is not None and not self.transport.is_closing():
            self._stopped = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self.transport is None:
            return
        if self._ended:
            self.transport.close()
        elif self._stopped and not self._full and not self.transport.is_closing():
            self._stopped = False
            self.transport.resume_reading()


def _push(transport: asyncio.Transport, octets: bytes) -> None:
    """Give octets that were read too early to the protocol that now reads the transport (a BufferedProtocol: the TLS layer)."""
    protocol = transport.get_protocol()
    while octets:
        room = protocol.get_buffer(len(octets))
        count = min(len(room), len(octets))
        room[:count] = octets[:count]
        protocol.buffer_updated(count)
        octets = octets[count:]


def _uid(transport: asyncio.BaseTransport) -> str:
    """Who is at the other end of a Unix socket, as the kernel tells it: "uid:1000"; nobody can claim to be another."""
    sock = transport.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return f"uid:{uid}"
