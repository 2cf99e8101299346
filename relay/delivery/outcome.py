"""What a delivery is and what came of it: Job in, one Outcome per recipient out, and the reading of a transaction between the two (RFC 5321 §4.2, §4.5.3).

    where it ended                     every recipient that was still open gets
    MAIL refused                       that reply
    RCPT refused                       its own reply; 552 counts as 452, too many recipients (§4.5.3.1.10)
    421 at any point                   that 421; the connection is over
    DATA or the final dot refused      that reply, all accepted recipients
    lost before the final dot          conn_error, 451 4.4.2
    lost after the final dot           ambiguous, 451 4.4.2: only the server knows, so it is tried again (RFC 1047)
    a code that means nothing there    tempfail, 451 4.5.0
"""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from relay.mail.message import Decision, Message, Recipient
from relay.mail.reply import Reply
from relay.schedule import OTP
from relay.smtp.client import Transcript

LARGE = 1_000_000  # octets of a body that is not copied to stand behind its header

DELIVERED, TEMPFAIL, PERMFAIL, AMBIGUOUS, CONN_ERROR = "delivered", "tempfail", "permfail", "ambiguous", "conn_error"


class Job(Struct, frozen=True):
    """A message for some recipients of one site, in one transaction.

    sender      reverse-path, "" = null
    content     header, empty line and body, lines ending in CRLF, not dot-stuffed
    body        of a large message its body, apart from `content`, so that it is in memory once
    smtputf8    the envelope or header may need it (RFC 6531)
    ret, envid  DSN wishes as they came: "FULL" | "HDRS" | "", xtext
    hurried     worthless in an hour: who is put off is tried at the next host, from the next source, at once
    """

    sender: str
    recipients: tuple[Recipient, ...]
    content: bytes
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    hurried: bool = False
    body: bytes = b""

    @classmethod
    def of(cls, message: Message) -> Self:
        """The job of a message to all its recipients."""
        envelope = message.envelope
        content, body = message.pieces() if len(message.body) > LARGE else (message.octets(), b"")
        return cls(envelope.sender, envelope.recipients, content, envelope.smtputf8, envelope.ret, envelope.envid, message.wishes.retry == OTP, body)

    @property
    def size(self) -> int:
        """Octets of header and body."""
        return len(self.content) + len(self.body)


class Outcome(Struct, frozen=True):
    """What became of one recipient in one attempt.

    result      "delivered" | "tempfail" | "permfail" | "ambiguous" | "conn_error"
    reply       the server's words, or ours where it had none
    phase       "dns" | "connect" | "banner" | "ehlo" | "tls" | "auth" | "mail" | "rcpt" | "data" | "dot"
    mx          host name; `address` its IP; `source` ours, "" = the kernel's choice
    tls         version, cipher and "verified", "" in the clear
    seconds     from MAIL to the answer
    steps       what the copy and depart chains decided, such as the DKIM selector, and what another host said just before
    dsn_passed  the server took over the recipient's NOTIFY; False with SUCCESS asked means that a `relayed` report is ours to send (RFC 3461 §5.2.3)
    """

    recipient_id: int
    result: str
    reply: Reply
    phase: str
    site: str = ""
    mx: str = ""
    address: str = ""
    source: str = ""
    tls: str = ""
    seconds: float = 0.0
    dsn_passed: bool = False
    steps: tuple[Decision, ...] = ()


Verdict = tuple[str, Reply, str]  # result, reply, phase


def verdicts(told: Transcript) -> list[Verdict]:
    """What a transaction means for each recipient, in order."""
    last = _last_word(told)
    if told.mail is None:
        return [_lost(told, "mail")] * len(told.rcpts)
    if told.mail.code >= 300 or told.mail.code < 200:
        return [_verdict(told.mail, "mail")] * len(told.rcpts)
    accepted = _content(told, last)
    return [_recipient(reply, told, last, accepted) for reply in told.rcpts]


def _recipient(reply: Reply | None, told: Transcript, last: Reply | None, accepted: Verdict) -> Verdict:
    if reply is None:
        return _verdict(last, "rcpt") if last is not None else _lost(told, "rcpt")
    if 200 <= reply.code < 300:
        return accepted
    if reply.code == 552:
        reply = Reply(452, "4.5.3" if not reply.enhanced else f"4{reply.enhanced[1:]}", reply.text)
    return _verdict(reply, "rcpt")


def _content(told: Transcript, last: Reply | None) -> Verdict:
    """The verdict on those whose RCPT was accepted."""
    if told.data is None:
        return _verdict(last, "data") if last is not None else _lost(told, "data")
    if told.data.code != 354:
        return _verdict(told.data, "data") if told.data.code >= 400 else (TEMPFAIL, _odd(told.data), "data")
    if told.dot is not None:
        return _verdict(told.dot, "dot" if told.sent else "data", final=True)
    if told.sent:
        return AMBIGUOUS, Reply(451, "4.4.2", f"connection lost after the final dot, the message may have been taken: {told.lost}"), "dot"
    return _lost(told, "data")


def _last_word(told: Transcript) -> Reply | None:
    """The 421 with which the server closed the channel, if it did (RFC 5321 §3.8)."""
    for reply in (told.mail, *told.rcpts, told.data):
        if reply is not None and reply.code == 421:
            return reply
    return None


def _verdict(reply: Reply, phase: str, final: bool = False) -> Verdict:
    if final and 200 <= reply.code < 300:
        return DELIVERED, reply, phase
    if 400 <= reply.code < 500:
        return TEMPFAIL, reply, phase
    if 500 <= reply.code < 600:
        return PERMFAIL, reply, phase
    return TEMPFAIL, _odd(reply), phase


def _lost(told: Transcript, phase: str) -> Verdict:
    return CONN_ERROR, Reply(451, "4.4.2", f"connection lost: {told.lost}"), phase


def _odd(reply: Reply) -> Reply:
    return Reply(451, "4.5.0", f"an answer that means nothing here: {reply}")
