"""A channel to another mail server: octets in, replies out, time limits, and the end. What to say over it is relay/smtp/client.py's business.

aiosmtplib's protocol gives the transport's life, the reply parser with its bounds, and STARTTLS with its defence against injected plaintext. Ours are
replies in a queue, so that several commands may be on their way (aiosmtplib throws away what no command waits for, also a 421 said unasked), and one
ticking timer for the time limits of all channels: a timer per command costs more than the command.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol

from aiosmtplib.errors import SMTPException, SMTPResponseException
from aiosmtplib.protocol import MAX_RESPONSE_LENGTH, SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.mail.reply import Reply
from relay.smtp import answers

NEVER = float("inf")
TICK = 0.2  # seconds between two looks at the time limits
SPARE = 8  # replies beyond the expected ones before a server counts as mad


class Lost(SMTPException):
    """The connection ended, or the server broke the protocol, before an answer; the text says which."""


class Limited(Protocol):
    """What a Watch watches."""

    deadline: float

    def look(self, now: float) -> None: ...


class Watch:
    """One ticking timer for all time limits of a loop: a timer per command costs more than the command."""

    __slots__ = ("_loop", "_timer", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._watched: set[Limited] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, limited: Limited) -> None:
        """Call `look(now)` on it once its `deadline` (loop time) has passed, again and again until it is dropped."""
        self._watched.add(limited)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def drop(self, limited: Limited) -> None:
        self._watched.discard(limited)

    def _tick(self) -> None:
        now = self._loop.time()
        for limited in [each for each in self._watched if each.deadline <= now]:
            limited.look(now)
        self._timer = self._loop.call_later(TICK, self._tick) if self._watched else None


class Channel(SMTPProtocol):
    """Commands and replies; used by one task at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, watch: Watch, ended: Callable[[SMTPProtocol], None] | None = None):
        super().__init__(loop, ended)
        self.lost = ""  # why the connection ended
        self._replies: deque[Reply] = deque()
        self._needed = 0  # replies that wake the waiter
        self._expected = 0  # replies still owed to commands that were sent
        self._waiter: asyncio.Future[None] | None = None
        self._watch = watch
        self._patience = 0.0
        self.deadline = NEVER  # loop time at which a silent server is cut
        self._until = NEVER  # loop time that no progress extends
        self._unwritten = 0  # bytes, when the watch last looked
        self._quitting = False  # the next reply is the last

    @property
    def usable(self) -> bool:
        """Ready for a command: open, and the server has said nothing unasked."""
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
        if not buffer and data.endswith(b"\r\n") and (found := answers.whole(data)):
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
            self.deadline = min(self._loop.time() + self._patience, self._until)

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
                self._replies.append(answers.reply(said.code, said.message))
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
        self.deadline = min(self._loop.time() + patience, self._until)
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
            self._end(f"no answer in {self._patience:g} s" if self.deadline < self._until else "one answer at a time took too long")

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
        said = await self._answer(timeout or NEVER)
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
