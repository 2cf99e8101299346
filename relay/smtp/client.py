"""A connection to another mail server: what to say on a Channel, in which order.

Pipelining (RFC 2920) puts MAIL, every RCPT and DATA into one write, so a message costs two round trips; content leaves in pieces, each when the server has
taken the last; each phase has its time limit (RFC 5321 §4.5.3.2).

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPResponseException, SMTPServerDisconnected

from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.answers import Extensions
from relay.smtp.channel import NEVER, Channel, Lost, Watch
from relay.smtp.wire import DOT


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
    envelope: float = 600.0  # MAIL, all RCPT and DATA together, so that a tarpit cannot hold a transaction for 300 s a recipient
    block: float = 180.0  # without progress
    dot: float = 600.0
    rset: float = 10.0
    quit: float = 2.0


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


class Client(Channel):
    """One connection, from its greeting to QUIT."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts, watch: Watch, ended: Callable[[Client], None] | None = None):
        super().__init__(loop, watch, ended)
        self.timeouts = timeouts
        self.extensions = Extensions()
        self.told: Transcript | None = None  # the transaction under way, or the last one
        self._dirty = False  # a transaction was begun and not ended: RSET comes first

    async def greeting(self) -> Reply:
        """What the server says first; raises Lost."""
        return await self._answer(self.timeouts.greeting)

    async def hello(self, name: str) -> Reply:
        """The answer to EHLO, or to HELO where the server does not know EHLO (RFC 5321 §3.2); raises Lost."""
        said = await self._command(b"EHLO %b\r\n" % name.encode("ascii"), self.timeouts.ehlo)
        if 500 <= said.code < 520 and not self.lost:
            said = await self._command(b"HELO %b\r\n" % name.encode("ascii"), self.timeouts.ehlo)
            self.extensions = Extensions(answers.first_word(said.text))
        elif said.code == 250:
            self.extensions = answers.offered(said.text)
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
            return answers.reply(error.code, error.message)
        self._replies.clear()  # what came in the clear behind the 220 is not the server's word
        self.extensions = Extensions()
        return answers.reply(said.code, said.message)

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
            self._until = self._loop.time() + self.timeouts.envelope
            await offer(told, reset, mail, rcpts)
            self._until = NEVER
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


__all__ = ["Client", "Extensions", "Lost", "Timeouts", "Transcript", "Watch", "connect"]
