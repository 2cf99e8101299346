"""The SMTP conversation of one connection, without I/O: octets in, reply lines out (RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 4954, 6152, 6531).

    engine.feed(octets)         reads commands, appends to engine.out
    engine.want                 what has to happen before it reads on:
        OCTETS    nothing but more octets
        ANSWER    somebody awaits engine.pending and gives the result to engine.answer()
        MESSAGE   the same for a message, which the end of the connection may not cancel
        PAUSE     engine.pause seconds pass, then engine.answer(None)
        TLS       engine.out is sent, TLS begins, then engine.secured()
        CLOSE     engine.out is sent and the connection closed
    engine.lost()               the connection is gone

A *reader* takes octets off the input: `lines` for commands, others for the responses of AUTH, for DATA, for a BDAT chunk, for the rest of an overlong
line. Commands are rows of a table (relay.smtp.commands.VERBS). Input is one block and a position in it, so that a packet of many commands is never copied
once for each. Any split of the same octets into packets gives the same dialog.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from relay import log
from relay.errors import RelayError
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Recipient
from relay.mail.reply import Reply
from relay.metrics import MESSAGES_REJECTED, SMTP_COMMANDS
from relay.smtp.auth import Guard
from relay.smtp.content import Content
from relay.smtp.desk import Desk, Session
from relay.smtp.limits import Budget

OCTETS, ANSWER, MESSAGE, PAUSE, TLS, CLOSE = range(6)  # what an engine wants
START, READY, SENDER, RECIPIENTS, CHUNKS = (1 << n for n in range(5))  # where the conversation is: before EHLO, after it, after MAIL, RCPT, BDAT
ANY = START | READY | SENDER | RECIPIENTS | CHUNKS

LINE = 512  # octets of a command line with its CRLF (RFC 5321 §4.5.3.1.4); rows of extensions have more
LONGEST = 12_288  # octets of any line (RFC 4954 §4); what is longer is not even kept

ERRORS = 10  # before the client is sent away
JUNK = 100  # commands that do nothing, between two messages, before each counts as an error
MAX_SIZE = 26_214_400  # bytes; 25 MiB

NOT_A_COMMAND = Reply(500, "5.5.2", "lines end in CRLF and hold no control characters")
NOT_UTF8 = Reply(501, "5.5.2", "the command is not UTF-8")
TOO_LONG = Reply(500, "5.5.2", "line too long")
UNKNOWN = Reply(500, "5.5.2", "command not known")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors, closing")
FAULT = Reply(451, "4.3.0", "internal fault, try again later")
GOING = Reply(421, "4.3.2", "shutting down, try again soon")
OUT_OF_ORDER = {
    START: Reply(503, "5.5.1", "send EHLO first"),
    READY: Reply(503, "5.5.1", "send MAIL first"),
    SENDER: Reply(503, "5.5.1", "a transaction is open already"),
    RECIPIENTS: Reply(503, "5.5.1", "a transaction is open already"),
    CHUNKS: Reply(503, "5.5.1", "BDAT has begun, send BDAT or RSET"),
}

LOG = log.get("smtp")
wire = lru_cache(512)(Reply.wire)
COMMANDS = SMTP_COMMANDS.counts
CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx")


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: what it does, in which states, how long its line may be, and what HELP says of it.

    run  takes the engine and the argument; gives the reply, or None when it has said it or will; raises errors of relay.errors
    """

    run: Callable[[Engine, str], Reply | None]
    states: int = ANY
    limit: int = LINE
    too_long: Reply = TOO_LONG
    syntax: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What holds for every connection of a listener.

    verbs             the table of commands
    listener          "submission" | "submissions" | "inbound" | "local"
    starttls          a certificate is there
    recipients        most of one message, for known clients; `recipients_unknown` for others
    budget, guard     shared by all connections
    """

    hostname: str
    verbs: Mapping[str, Verb]
    listener: str = "submission"
    max_size: int = MAX_SIZE  # bytes
    starttls: bool = False
    recipients: int = 1_000
    recipients_unknown: int = 100
    budget: Budget = field(default_factory=Budget)
    guard: Guard = field(default_factory=Guard)
    ids: Maker = field(default_factory=Maker)

    @property
    def submission(self) -> bool:
        """Authentication is required of clients that are not trusted (RFC 6409 §4.3)."""
        return self.listener != "inbound"

    @property
    def login(self) -> bool:
        """AUTH is offered."""
        return self.listener in ("submission", "submissions")


class Engine:
    """One connection's conversation.

    state       START, READY, SENDER, RECIPIENTS or CHUNKS
    envelope    what MAIL said, None outside of a transaction
    recipients  accepted so far
    refused     a RCPT of this transaction was refused
    content     of the message that is coming in
    data, at    octets that came, and how far they are read
    verb        the last command, "other" for one that there is not, "none" before the first
    begun, dot  when the transaction began and when its last octet came, monotonic seconds
    draining    the listener is closing: this ends with the open transaction
    """

    __slots__ = (
        "_read", "_then", "at", "begun", "chunk", "content", "data", "desk", "dot", "draining", "envelope", "errors", "junk", "login", "out", "pause",
        "pending", "recipients", "refused", "session", "state", "terms", "verb", "want",
    )

    def __init__(self, desk: Desk, terms: Terms, session: Session):
        self.desk = desk
        self.terms = terms
        self.session = session
        self.out: list[bytes] = []
        self.want = OCTETS
        self.state = START
        self.envelope: Envelope | None = None
        self.recipients: list[Recipient] = []
        self.refused = False
        self.content: Content | None = None
        self.errors = 0
        self.junk = 0
        self.draining = False
        self.verb = "none"
        self.begun = self.dot = 0.0
        self.data = b""
        self.at = 0
        self._read: Callable[[Engine], bool] = lines

    # What the driver calls.

    def feed(self, octets: bytes) -> None:
        """Take what the client sent and go as far as possible."""
        if self.want == CLOSE:
            return
        self.data = self.data[self.at:] + octets if self.data else octets
        self.at = 0
        if self.want == OCTETS:
            self._advance()

    def answer(self, result: Any) -> None:
        """Go on with what the pending question gave."""
        then, self._then = self._then, None
        self.pending = None
        self.want = OCTETS
        reply = then(self, result)
        if reply is not None:
            self.say(reply)
        if self.draining and self.idle:
            self.leave(GOING)
        if self.want == OCTETS:
            self._advance()

    def fault(self, error: BaseException) -> None:
        """Go on after the pending question raised: a RelayError says what the client hears, anything else is our fault and temporary."""
        self.answer(error.reply if isinstance(error, RelayError) else FAULT)

    def secured(self, tls: str) -> None:
        """TLS has begun: all that was said before is forgotten (RFC 3207 §4.2)."""
        self.reset()
        session = self.session
        session.tls, session.helo, session.extended, session.principal = tls, "", False, None
        self.state, self.want = START, OCTETS
        self.data, self.at = b"", 0

    def close(self) -> None:
        """The listener is closing: leave, at once or when the open transaction has ended."""
        self.draining = True
        if self.idle or self.want == PAUSE:
            self.leave(GOING)

    def lost(self) -> None:
        """Give back what an unfinished message held. One that is being committed keeps its bytes until it is answered."""
        if self.want != MESSAGE:
            self.reset()
        self.data, self.at = b"", 0

    @property
    def idle(self) -> bool:
        """No transaction is open."""
        return self.envelope is None and self.want == OCTETS

    # What commands and readers call.

    def say(self, reply: Reply) -> None:
        """Answer; an error is counted, and the last one allowed is answered with 421 instead.

        Of known clients only errors of the protocol count: an app whose list holds ten dead addresses has made no error.
        """
        if reply.code >= 500 and (not self.session.known or reply.enhanced.startswith("5.5.")):
            self.errors += 1
            if self.errors >= ERRORS:
                reply = TOO_MANY_ERRORS
        COMMANDS[self.verb, CLASSES[reply.code // 100]] += 1
        self.out.append(wire(reply))
        if reply.code == 421:
            self.want = CLOSE

    def leave(self, reply: Reply) -> None:
        """Answer and close."""
        COMMANDS[self.verb, CLASSES[reply.code // 100]] += 1
        self.out.append(wire(reply))
        self.want = CLOSE

    def ask(self, question: Reply | Awaitable | None, then: Callable[[Engine, Any], Reply | None]) -> Reply | None:
        """What `then` makes of the answer: now when the desk answered at once, else later."""
        if question is None or type(question) is Reply:
            return then(self, question)
        return self.wait(ANSWER, question, then)

    def wait(self, want: int, question: Any, then: Callable[[Engine, Any], Reply | None]) -> None:
        """Read no further before the driver has called `answer`."""
        self.pending = question
        self._then = then
        self.want = want

    def hold(self, seconds: float, then: Callable[[Engine, Any], Reply | None]) -> None:
        """Read and answer nothing for this long."""
        self.pause = seconds
        self.wait(PAUSE, None, then)

    def reset(self) -> None:
        """End the transaction, if any."""
        if self.content is not None:
            self.content.release()
            self.content = None
        if self.envelope is not None:
            self.envelope = None
            self.recipients = []
            self.refused = False
        if self.state != START:
            self.state = READY
        self._read = lines

    def rejected(self, stage: str, reply: Reply) -> None:
        """Count a refusal, and log whom it met and what they heard: the line that a jail for guessers reads, and that answers "why was my mail refused"."""
        MESSAGES_REJECTED.labels(stage, reply.enhanced or str(reply.code)).inc()
        session, envelope = self.session, self.envelope
        LOG.info("refused", stage=stage, client=session.client, helo=session.helo, key=session.principal.name if session.principal else "",
                 sender=envelope.sender if envelope else "", reply=str(reply))

    @property
    def more(self) -> bool:
        """Octets have come that are not read yet."""
        return self.at < len(self.data)

    def read_by(self, reader: Callable[[Engine], bool]) -> None:
        """Give what comes next to this reader."""
        self._read = reader

    def _advance(self) -> None:
        while self.at < len(self.data) and self.want == OCTETS and self._read(self):
            if self.draining and self.idle:
                self.leave(GOING)
        if self.at >= len(self.data) or self.want == CLOSE:
            self.data, self.at = b"", 0


def lines(engine: Engine) -> bool:
    """Reader of commands. Whether there may be more to read; False asks for octets."""
    data, at = engine.data, engine.at
    end = data.find(b"\n", at)
    if end < 0:
        return unfinished(engine, TOO_LONG)
    engine.at = end + 1
    try:
        text = data[at:end].decode()
    except UnicodeDecodeError:
        engine.say(NOT_UTF8)
        return True
    if text[-1:] != "\r" or not text[:-1].isprintable():
        text = _mended(text)
        if not text:
            not_a_line(engine)
            return True
    verb, _, argument = text[:-1].partition(" ")
    verbs = engine.terms.verbs
    row = verbs.get(verb)
    if row is None:
        verb = verb.upper()
        row = verbs.get(verb)
    engine.verb = verb if row is not None else "other"
    if row is None:
        engine.say(UNKNOWN)
    elif end + 1 - at > row.limit:
        engine.say(row.too_long)
    elif not row.states & engine.state:
        engine.say(OUT_OF_ORDER[engine.state])
    else:
        _run(engine, row, argument)
    return True


def _run(engine: Engine, row: Verb, argument: str) -> None:
    try:
        reply = row.run(engine, argument.rstrip(" \t"))
    except RelayError as error:
        reply = error.reply
    if reply is not None:
        engine.say(reply)


def _mended(text: str) -> str:
    """A command line whose only oddities are tabs or letters that Unicode does not print, or "" if it is not a command (RFC 5321 §4.1.1)."""
    body = text[:-1].replace("\t", " ")
    if text[-1:] != "\r" or any(c < " " or "\x7f" <= c <= "\x9f" for c in body):
        return ""
    return body + "\r"


def not_a_line(engine: Engine) -> None:
    """A bare LF or CR is how commands are smuggled: who is not known to us is not listened to any longer."""
    if engine.session.known:
        engine.say(NOT_A_COMMAND)
    else:
        engine.leave(NOT_A_COMMAND)


def unfinished(engine: Engine, refusal: Reply) -> bool:
    """The line has no end yet: wait for it, unless it is too long to be one."""
    if len(engine.data) - engine.at > LONGEST:
        engine.say(refusal)
        engine.read_by(overlong)
        return True
    return False


def overlong(engine: Engine) -> bool:
    """Reader of the rest of a line that was refused for its length."""
    end = engine.data.find(b"\n", engine.at)
    if end < 0:
        engine.at = len(engine.data)
        return False
    engine.at = end + 1
    engine.read_by(lines)
    return True
