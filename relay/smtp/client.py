"""A connection to another mail server: aiosmtplib's protocol with transactions of our own.

From aiosmtplib: the transport's life, reply parsing with its bounds, STARTTLS (with its defence against injected plaintext), the encodings of AUTH. Ours:
pipelining (RFC 2920), so that MAIL, every RCPT and DATA leave in one write and a message costs two round trips; content in pieces with backpressure;
time limits by phase from one timer for all connections (RFC 5321 §4.5.3.2); and replies that nobody asked for, which end the connection (§3.8).

    client = await connect("192.0.2.1", 25, timeouts)
    await client.greeting(); await client.hello("mail.example.com")
    transcript = await client.transact(mail, rcpts, pieces)
    client.quit()

Nothing here decides what a reply means for a recipient: `transact` returns a Transcript, relay/delivery/outcome.py reads it. After a lost connection
the transcript says how far it came; `sent` is set from the moment the final dot was handed to the transport, since from then on only the server knows.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import MAX_RESPONSE_LENGTH, SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.mail import reply as replies
from relay.mail.reply import Reply
from relay.smtp.wire import DOT

NEVER = float("inf")
TICK = 0.2  # seconds between two looks at the time limits
SPARE = 8  # replies beyond the expected ones before a server counts as mad
LINE = 600  # octets of a reply line that is worth remembering (RFC 5321 §4.5.3.1.5 allows 512)
TEXT = 2_000  # characters of a reply that we keep


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, per phase; RFC 5321 §4.5.3.2 has the minimums, smtp clients that give up sooner make duplicates."""

    connect: float = 30.0  # per address
    greeting: float = 300.0  # tarpits exist
    ehlo: float = 120.0
    tls: float = 60.0
    auth: float = 120.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0  # without progress
    dot: float = 600.0
    rset: float = 10.0
    quit: float = 2.0


@dataclass(frozen=True, slots=True)
class Extensions:
    """What EHLO offered; `size` 0 means no limit told."""

    name: str = ""  # what the server calls itself
    pipelining: bool = False
    size: int = 0
    eightbit: bool = False
    utf8: bool = False
    dsn: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


@dataclass(slots=True)
class Transcript:
    """One transaction as it went.

    mail, data, dot  the replies, None where none came
    rcpts            a reply for each recipient, in order
    phase            "mail" | "rcpt" | "data" | "dot": where it ended
    sent             the final dot was handed to the transport
    lost             why the connection ended, "" if it stands
    """

    rcpts: list[Reply | None]
    mail: Reply | None = None
    data: Reply | None = None
    dot: Reply | None = None
    phase: str = "mail"
    sent: bool = False
    lost: str = ""

    @property
    def accepted(self) -> bool:
        """At least one recipient was."""
        return any(reply is not None and reply.code < 300 for reply in self.rcpts)


class Lost(SMTPException):
    """The connection ended, or the server broke the protocol, before an answer; the text says which."""


class Watch:
    """One ticking timer for all time limits of a loop: a timer per command costs more than the command."""

    __slots__ = ("_loop", "_timer", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._watched: set[Client | _Dial] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, limited: Client | _Dial) -> None:
        """Call `look(now)` on it once its `deadline` (loop time) has passed, again and again until it is dropped."""
        self._watched.add(limited)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def drop(self, limited: Client | _Dial) -> None:
        self._watched.discard(limited)

    def _tick(self) -> None:
        now = self._loop.time()
        for limited in [each for each in self._watched if each.deadline <= now]:
            limited.look(now)
        self._timer = self._loop.call_later(TICK, self._tick) if self._watched else None


class _Dial:
    """A connect under way: its task is cancelled at the deadline."""

    __slots__ = ("deadline", "expired", "task")

    def __init__(self, deadline: float):
        self.deadline, self.expired = deadline, False
        self.task = asyncio.current_task()

    def look(self, now: float) -> None:
        self.deadline, self.expired = NEVER, True
        self.task.cancel()


async def connect(address: str, port: int, timeouts: Timeouts, watch: Watch | None = None, *, source: str = "", tls: ssl.SSLContext | None = None,
                  name: str = "", ended: Callable[[Client], None] | None = None) -> Client:
    """A connection whose greeting has not been read.

    address  IP literal
    watch    shared by all connections of the loop
    source   our address, "" = the kernel's choice
    tls      speak TLS at once (RFC 8314 §3.3); `name` is the server's for SNI and verification
    ended    called once when the connection is gone

    Raises OSError (ssl.SSLError included) or TimeoutError.
    """
    loop = asyncio.get_running_loop()
    watch = watch or Watch(loop)
    options = {"ssl": tls, "server_hostname": name, "ssl_handshake_timeout": timeouts.tls} if tls else {}
    if source:
        options["local_addr"] = (source, 0)
    dial = _Dial(loop.time() + timeouts.connect + (timeouts.tls if tls else 0))
    watch.add(dial)
    try:
        _, client = await loop.create_connection(lambda: Client(loop, timeouts, watch, ended), address, port, **options)
    except asyncio.CancelledError:
        if dial.expired and not dial.task.uncancel():
            raise TimeoutError(f"no connection to {address} port {port} in {timeouts.connect:g} s") from None
        raise
    finally:
        watch.drop(dial)
    return client


class Client(SMTPProtocol):
    """One connection, from its greeting to QUIT; used by one task at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts, watch: Watch, ended: Callable[[Client], None] | None = None):
        super().__init__(loop, ended)
        self.timeouts = timeouts
        self.extensions = Extensions()
        self.lost = ""  # why the connection ended
        self._replies: deque[Reply] = deque()
        self._needed = 0  # replies that wake the waiter
        self._expected = 0  # replies still owed to commands that were sent
        self._waiter: asyncio.Future[None] | None = None
        self._watch = watch
        self._patience = 0.0
        self.deadline = NEVER  # loop time at which a silent server is cut
        self._unwritten = 0  # bytes, when the watch last looked
        self._dirty = self._quitting = False
        self.told: Transcript | None = None  # the transaction under way, or the last one

    @property
    def usable(self) -> bool:
        """Ready for another transaction: open, and the server has said nothing unasked."""
        return self.transport is not None and not self.lost and not self._replies and not self._quitting and not self.transport.is_closing()

    @property
    def farewell(self) -> Reply | None:
        """What the server said unasked, such as 421 before it closes an idle connection."""
        return self._replies[-1] if self._replies else None

    @property
    def secure(self) -> ssl.SSLObject | None:
        return self.transport.get_extra_info("ssl_object") if self.transport is not None else None

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._command_lock = asyncio.Lock()
        self._expected = 1  # the greeting
        self._watch.add(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        if not buffer and data.endswith(b"\r\n") and (found := _whole(data)):
            self._replies.extend(found)
        else:
            buffer += data
            if not self._parse(buffer):
                return
        if self._quitting:
            self.transport.close()
        elif len(self._replies) > self._expected + SPARE:
            self._end("the server says more than it was asked")
        elif len(self._replies) >= self._needed:
            self._wake()
        else:
            self.deadline = self._loop.time() + self._patience

    def _parse(self, buffer: bytearray) -> bool:
        """Take the whole replies out of the buffer by aiosmtplib's parser; False if there was none, or the server speaks something else."""
        end = buffer.rfind(b"\n")
        if len(buffer) > MAX_RESPONSE_LENGTH:
            self._end("the reply is too long")
            return False
        if end < 0 or buffer[buffer.rfind(b"\n", 0, end) + 4:end][:1] == b"-":
            return False  # no line, or one that others follow
        try:
            while buffer and (said := self._read_response_from_buffer()) is not None:
                self._replies.append(_reply(said))
        except SMTPResponseException as error:
            self._end(f"the reply is no SMTP: {error.message[:100]}")
            return False
        return True

    def eof_received(self) -> bool:
        self.lost = self.lost or "the server closed the connection"
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection_lost = True
        self.lost = self.lost or (f"the connection was cut: {exc}" if exc else "the server closed the connection")
        self.transport = None
        self._command_lock = None
        self._watch.drop(self)
        self._wake()
        if self._connection_lost_callback is not None:
            self._connection_lost_callback(self)

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # waiting

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, needed: int, patience: float) -> None:
        """Until `needed` replies are there, the connection is lost, or writing may go on; a server that keeps silent for `patience` seconds is cut."""
        self._needed, self._patience = needed, patience
        self.deadline = self._loop.time() + patience
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.deadline = NEVER

    def look(self, now: float) -> None:
        """The deadline has passed: cut the connection, unless the server has taken octets since the last look."""
        unwritten = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if 0 < unwritten < self._unwritten:
            self._unwritten = unwritten
            self.deadline = now + self._patience
        else:
            self._end(f"no answer in {self._patience:g} s")

    def _end(self, why: str) -> None:
        """Cut the connection; whoever waits hears why."""
        self.lost = self.lost or why
        if self.transport is not None:
            self.transport.abort()
        self._wake()

    def abort(self, why: str = "cut by us") -> None:
        """Cut the connection at once; a transaction under way ends with what is known."""
        self._end(why)

    # one reply at a time

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """The next reply as aiosmtplib's STARTTLS reads it; raises Lost."""
        said = await self._answer(timeout or self.timeouts.tls)
        return SMTPResponse(said.code, f"{said.enhanced} {said.text}" if said.enhanced else said.text)

    async def _answer(self, patience: float) -> Reply:
        """The next reply; raises Lost."""
        if not self._replies and not self.lost:
            await self._wait(1, patience)
        self._expected = 0
        if not self._replies:
            raise Lost(self.lost or "no answer")
        return self._replies.popleft()

    async def _command(self, line: bytes, patience: float) -> Reply:
        self._silent()
        self._write(line)
        self._expected = 1
        return await self._answer(patience)

    def _silent(self) -> None:
        """Raise Lost if the server has said something unasked: it would be taken for the answer to the next command."""
        if self._replies:
            raise Lost(f"the server said unasked: {self._replies[-1]}")

    def _write(self, data: bytes) -> None:
        if self.transport is None or self.lost:
            raise Lost(self.lost or "the connection is closed")
        self.transport.write(data)

    async def greeting(self) -> Reply:
        """What the server says first; raises Lost."""
        return await self._answer(self.timeouts.greeting)

    async def hello(self, name: str) -> Reply:
        """The answer to EHLO, or to HELO where the server does not know EHLO (RFC 5321 §3.2); raises Lost."""
        said = await self._command(b"EHLO %b\r\n" % name.encode("ascii"), self.timeouts.ehlo)
        if 500 <= said.code < 520 and not self.lost:
            said = await self._command(b"HELO %b\r\n" % name.encode("ascii"), self.timeouts.ehlo)
            self.extensions = Extensions(_first_word(said.text))
        elif said.code == 250:
            self.extensions = offered(said.text)
        return said

    async def secured(self, context: ssl.SSLContext, name: str) -> Reply:
        """The answer to STARTTLS; with 220 the connection is in TLS and EHLO must be said again (RFC 3207 §4.2).

        Raises Lost, OSError (ssl.SSLError included) or TimeoutError when the handshake fails: the connection is of no use then.
        """
        self._expected = 1
        try:
            said = await self.start_tls(context, server_hostname=name, timeout=self.timeouts.tls)
        except SMTPServerDisconnected as error:
            raise Lost(self.lost or str(error)) from error
        except SMTPResponseException as error:
            return _reply(SMTPResponse(error.code, error.message))
        self._replies.clear()  # what came in the clear behind the 220 is not the server's word
        self.extensions = Extensions()
        return _reply(said)

    async def authenticate(self, username: str, password: str) -> Reply:
        """The answer to AUTH by the best mechanism that both know (RFC 4954); raises Lost. 504 if there is none."""
        for mechanism, act in _MECHANISMS.items():
            if mechanism in self.extensions.auth:
                return await act(self, username, password)
        return Reply(504, "5.5.4", f"the server offers no AUTH mechanism that we know, only {' '.join(sorted(self.extensions.auth)) or 'none'}")

    async def _plain(self, username: str, password: str) -> Reply:
        return await self._command(b"AUTH PLAIN %b\r\n" % auth_plain_encode(username, password), self.timeouts.auth)

    async def _login(self, username: str, password: str) -> Reply:
        said = await self._command(b"AUTH LOGIN\r\n", self.timeouts.auth)
        for word in auth_login_encode(username, password):
            if said.code != 334:
                break
            said = await self._command(word + b"\r\n", self.timeouts.auth)
        return said

    async def _cram(self, username: str, password: str) -> Reply:
        said = await self._command(b"AUTH CRAM-MD5\r\n", self.timeouts.auth)
        if said.code != 334:
            return said
        return await self._command(auth_crammd5_verify(username, password, said.text.encode()) + b"\r\n", self.timeouts.auth)

    # transactions

    async def transact(self, mail: bytes, rcpts: Sequence[bytes], content: Iterable[bytes]) -> Transcript:
        """A message offered to its recipients; never raises for what the server does.

        mail, rcpts  commands with their CRLF
        content      dot-stuffed pieces, the last ending in the final dot (relay.smtp.wire.pieces); an exception from it cuts the connection and passes
        """
        told = self.told = Transcript([None] * len(rcpts))
        try:
            self._silent()
            reset, self._dirty = self._dirty, True
            offer = self._pipelined if self.extensions.pipelining else self._in_turn
            await offer(told, reset, mail, rcpts)
            if told.data is not None and told.data.code == 354:
                await self._content(told, content)
        except Lost as lost:
            told.lost = self.lost or str(lost)
        except BaseException:
            self._end("cut by us")
            raise
        if told.data is not None and told.data.code == 354 and told.dot is not None:
            self._dirty = False
        return told

    async def _pipelined(self, told: Transcript, reset: bool, mail: bytes, rcpts: Sequence[bytes]) -> None:
        """Everything up to DATA in one write; the replies come in the same order (RFC 2920 §3.1)."""
        count = len(rcpts) + 2
        self._expected = count + reset
        self._write(b"".join((b"RSET\r\n" if reset else b"", mail, *rcpts, b"DATA\r\n")))
        if reset:
            await self._next()
        if len(self._replies) < count and not self.lost:
            await self._wait(count, self.timeouts.mail)
        got = self._replies
        told.mail = got.popleft() if got else None
        for number in range(len(rcpts)):
            if not got:
                break
            told.phase = "rcpt"
            told.rcpts[number] = got.popleft()
        if got:
            told.phase = "data"
            told.data = got.popleft()
        self._expected = 0
        told.lost = self.lost if told.data is None else ""

    async def _in_turn(self, told: Transcript, reset: bool, mail: bytes, rcpts: Sequence[bytes]) -> None:
        """One command at a time, for servers without PIPELINING."""
        if reset:
            await self._command(b"RSET\r\n", self.timeouts.rset)
        told.mail = await self._command(mail, self.timeouts.mail)
        if told.mail.code >= 300:
            return
        told.phase = "rcpt"
        for number, rcpt in enumerate(rcpts):
            told.rcpts[number] = answer = await self._command(rcpt, self.timeouts.rcpt)
            if answer.code == 421:
                return
        if told.accepted:
            told.phase = "data"
            told.data = await self._command(b"DATA\r\n", self.timeouts.data)

    async def _content(self, told: Transcript, content: Iterable[bytes]) -> None:
        """The message and its final dot, or the dot alone if no recipient is left (RFC 2920 §3.1)."""
        told.phase = "data"
        if told.accepted:
            for number, piece in enumerate(content):
                if number:
                    await self._drained()
                if self._replies:
                    break
                self._write(piece)
        else:
            self._write(DOT)
        if self._replies:  # an answer before the dot: the server has made up its mind, and only closing gets us out of DATA
            told.dot = self._replies.popleft()
            self._end("the server answered in the middle of the message")
            return
        told.phase, told.sent = "dot", told.accepted
        self._expected = 1
        told.dot = await self._answer(self.timeouts.dot)

    async def _drained(self) -> None:
        """Until the server has taken most of what was written; raises Lost."""
        await asyncio.sleep(0)  # uvloop writes, and asks to pause, only at the end of a turn
        self._unwritten = self.transport.get_write_buffer_size() if self.transport is not None else 0
        while self._paused and not self.lost and not self._replies:
            await self._wait(1, self.timeouts.block)
        if self.lost and not self._replies:
            raise Lost(self.lost)

    async def _next(self) -> None:
        """Drop one reply."""
        if not self._replies and not self.lost:
            await self._wait(1, self.timeouts.rset)
        if not self._replies:
            raise Lost(self.lost)
        self._replies.popleft()

    def quit(self) -> None:
        """Say QUIT and close when the server has answered, at the latest after two seconds; returns at once."""
        if not self.usable or self._buffer:
            self._end("closed by us")
            return
        self._quitting = True
        self.lost = "closed by us"
        self.transport.write(b"QUIT\r\n")
        self._patience = self.timeouts.quit
        self.deadline = self._loop.time() + self._patience


_MECHANISMS = {"plain": Client._plain, "login": Client._login, "cram-md5": Client._cram}


def _reply(said: SMTPResponse) -> Reply:
    """A server's answer as a Reply, its text cut and free of broken UTF-8; odd codes stay what they are."""
    text = said.message
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return replies.parse(said.code, text[:TEXT])


class _Scratch:
    """Octets for aiosmtplib's parser without a connection around them."""

    __slots__ = ("_buffer",)
    take = SMTPProtocol._read_response_from_buffer

    def __init__(self, data: bytes):
        self._buffer = bytearray(data)


def _whole(data: bytes) -> Iterable[Reply]:
    """The replies in octets that hold nothing but whole ones, as nearly all do; none of them otherwise."""
    found = []
    for line in data[:-2].split(b"\r\n"):
        reply = _line(line) if len(line) < LINE else None
        if reply is None:
            return _lines(data) if len(data) < LINE * 4 else ()
        found.append(reply)
    return found


@lru_cache(1024)
def _lines(data: bytes) -> tuple[Reply, ...]:
    """The replies in octets with a reply of several lines, such as that to EHLO; remembered, since servers repeat themselves."""
    scratch, found = _Scratch(data), []
    try:
        while scratch._buffer and (said := scratch.take()) is not None:
            found.append(_reply(said))
    except SMTPResponseException:
        return ()
    return tuple(found) if not scratch._buffer else ()


@lru_cache(4096)
def _line(line: bytes) -> Reply | None:
    """The reply in one line, remembered like those of several; None if it is not the whole of one."""
    if not line[:3].isdigit() or line[3:4] != b" " or b"\n" in line:
        return None
    return _reply(SMTPResponse(int(line[:3]), line[4:].strip(b" \t\r").decode("utf-8", "surrogateescape")))


def _first_word(text: str) -> str:
    return text.partition("\n")[0].partition(" ")[0]


@lru_cache(1024)
def offered(text: str) -> Extensions:
    """The extensions in an answer to EHLO; servers say the same to everybody, so it is read once."""
    found, mechanisms = parse_esmtp_extensions(text)
    size = found.get("size", "").strip()
    return Extensions(
        name=_first_word(text), pipelining="pipelining" in found, size=int(size) if size.isascii() and size.isdigit() and len(size) < 19 else 0,
        eightbit="8bitmime" in found, utf8="smtputf8" in found, dsn="dsn" in found, starttls="starttls" in found,
        auth=frozenset(each.lower() for each in mechanisms))


__all__ = ["Client", "Extensions", "Lost", "Timeouts", "Transcript", "connect", "offered"]
