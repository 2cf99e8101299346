"""A delivery status notification as octets: RFC 3464 in the multipart/report of RFC 6522, RFC 6533 where addresses are not ASCII.

One report tells one sender about recipients of one message to whom the same happened. It has a part for people, a part for programs and the original (RET,
RFC 3461 §4.3: whole only in a report of failure, and only if it is small). It is marked so that nobody answers it (RFC 3834) and its envelope sender is null.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

from relay.mail.message import Recipient
from relay.mail.reply import Reply

FAILED, DELAYED, DELIVERED, RELAYED = "failed", "delayed", "delivered", "relayed"
WIDTH = 900  # octets of a diagnostic that we repeat; a line of mail has at most 998
EXPIRED = "4.4.7"  # RFC 3463: delivery time expired

_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533 §3: utf-8-addr-xtext
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_SAFE_ID = re.compile(r"<[!-~]{1,900}>")

_SUBJECTS = {
    FAILED: "Undelivered mail returned to sender",
    DELAYED: "Mail is delayed, still trying",
    DELIVERED: "Mail was delivered",
    RELAYED: "Mail was passed on",
}
_OPENINGS = {
    FAILED: "Your message could not be delivered to the following recipients. Nobody will try again.",
    DELAYED: "Your message has not been delivered yet to the following recipients. There is nothing to do: delivery is tried again until {until}.",
    DELIVERED: "Your message was delivered to the following recipients.",
    RELAYED: "Your message was passed on to the following recipients' mail system, which sends no confirmations of its own.",
}
_QUOTES = {  # the type of the quoted original, by (RFC 6533, whole)
    (False, True): "message/rfc822",
    (False, False): "text/rfc822-headers",
    (True, True): "message/global",
    (True, False): "message/global-headers",
}


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one recipient.

    reply  the last words of the remote, or ours; `mx` who said them, "" = we did
    at     UTC seconds of the last attempt
    """

    recipient: Recipient
    reply: Reply
    mx: str
    at: float


@dataclass(frozen=True, slots=True)
class Original:
    """The message that the report is about.

    envid    as given (xtext), "" without one; `ret` "FULL" | "HDRS" | ""
    header   its header as octets, `content` header and body, b"" when the whole is not to be quoted
    """

    public_id: str
    message_id: str
    arrived: float
    header: bytes
    content: bytes = b""
    envid: str = ""
    ret: str = ""
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: our `hostname`, the local part of the From field, and the largest original that is quoted whole, in bytes."""

    hostname: str
    sender: str = "MAILER-DAEMON"
    quote: int = 64_000


def build(
    reporter: Reporter, kind: str, to: str, original: Original, lines: Sequence[Line], *, report_id: str, now: float, until: float | None = None,
) -> bytes:
    """The report as header and body, lines ending in CRLF.

    kind       FAILED | DELAYED | DELIVERED | RELAYED
    to         the original's reverse-path; never the null one
    report_id  makes Message-ID and boundary unlike any other's
    until      UTC seconds when we give up, for a delay
    """
    boundary = f"=_{report_id}.report"
    # A utf-8 Original-Recipient (RFC 6533 §3) belongs in the global form too.
    utf8 = original.smtputf8 or not (to + "".join(line.recipient.address for line in lines)).isascii() or any(
        line.recipient.orcpt[:6].lower() == "utf-8;" for line in lines)
    status = "message/global-delivery-status" if utf8 else "message/delivery-status"
    parts = [
        _part("text/plain; charset=utf-8", "Notification", _human(reporter, kind, lines, original, until)),
        _part(status, "Delivery report", _machine(reporter, kind, original, lines, until, utf8)),
        _quoted(reporter, kind, original, utf8),
    ]
    delimiter = f"--{boundary}".encode()
    body = b"".join(b"\r\n" + delimiter + b"\r\n" + part for part in parts) + b"\r\n" + delimiter + b"--\r\n"
    head = _header(reporter, kind, to, original, boundary, report_id, now)
    eightbit = "" if body.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    return head.encode() + eightbit.encode() + b"\r\nThis is a delivery report in MIME format.\r\n" + body


def _header(reporter: Reporter, kind: str, to: str, original: Original, boundary: str, report_id: str, now: float) -> str:
    threaded = _SAFE_ID.fullmatch(f"<{original.message_id}>") is not None
    fields = [
        f"From: Mail Delivery System <{reporter.sender}@{reporter.hostname}>",
        f"To: <{to}>",
        f"Subject: {_SUBJECTS[kind]}",
        f"Date: {formatdate(now, usegmt=False)}",
        f"Message-ID: <{report_id}@{reporter.hostname}>",
        *([f"In-Reply-To: <{original.message_id}>", f"References: <{original.message_id}>"] if threaded else []),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
    ]
    return "".join(f"{field}\r\n" for field in fields)


def _part(kind: str, title: str, text: str, *, encoding: str = "") -> bytes:
    data = text.encode()
    encoding = encoding or ("" if data.isascii() else "8bit")
    extra = f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    return f"Content-Type: {kind}\r\nContent-Description: {title}\r\n{extra}\r\n".encode() + data


def _human(reporter: Reporter, kind: str, lines: Sequence[Line], original: Original, until: float | None) -> str:
    opening = _OPENINGS[kind].format(until=formatdate(until or 0.0))
    out = [f"This is the mail system at {reporter.hostname}.", "", opening, ""]
    for line in lines:
        said = f"{line.mx} said: " if line.mx else ""
        out += [f"<{_flat(line.recipient.address)}>", f"    {said}{_flat(str(line.reply))}", ""]
    out.append(f"The id of your message here is {original.public_id}.")
    return "\r\n".join(out) + "\r\n"


def _machine(reporter: Reporter, kind: str, original: Original, lines: Sequence[Line], until: float | None, utf8: bool) -> str:
    groups = [[f"Reporting-MTA: dns; {reporter.hostname}", f"Arrival-Date: {formatdate(original.arrived)}"]]
    if original.envid:
        groups[0].insert(0, f"Original-Envelope-Id: {_flat(unxtext(original.envid))}")
    groups.extend(_recipient(kind, line, original, until, utf8) for line in lines)
    return "\r\n".join("".join(f"{field}\r\n" for field in group) for group in groups)


def _recipient(kind: str, line: Line, original: Original, until: float | None, utf8: bool) -> list[str]:
    fields = []
    if line.recipient.orcpt:
        fields.append(f"Original-Recipient: {_original(line.recipient.orcpt, utf8)}")
    fields += [
        f"Final-Recipient: {'rfc822' if line.recipient.address.isascii() else 'utf-8'}; {_flat(line.recipient.address)}",
        f"Action: {kind}",
        f"Status: {status(kind, line.reply)}",
    ]
    if line.mx:
        fields += [f"Remote-MTA: dns; {line.mx}", f"Diagnostic-Code: smtp; {_flat(str(line.reply))}"]
    else:
        fields.append(f"Diagnostic-Code: X-Relay; {_flat(str(line.reply))}")
    fields += [f"Last-Attempt-Date: {formatdate(line.at)}", f"Final-Log-ID: {original.public_id}"]
    if kind == DELAYED and until is not None:
        fields.append(f"Will-Retry-Until: {formatdate(until)}")
    return fields


def status(kind: str, reply: Reply) -> str:
    """The enhanced status for a report of this kind; a temporary refusal that we gave up on is an expiry."""
    if kind == FAILED and reply.transient:
        return EXPIRED
    if reply.enhanced:
        return reply.enhanced
    return f"{str(reply.code)[0]}.0.0" if reply.code >= 400 else "2.0.0"


def _quoted(reporter: Reporter, kind: str, original: Original, utf8: bool) -> bytes:
    """The original: whole in a report of failure that may quote it, else its header."""
    whole = kind == FAILED and original.ret != "HDRS" and 0 < len(original.content) <= reporter.quote
    data = original.content if whole else original.header
    mime = _QUOTES[utf8, whole]
    encoding = "" if data.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    title = "Undelivered message" if whole else "Message header"
    return f"Content-Type: {mime}\r\nContent-Description: {title}\r\n{encoding}\r\n".encode() + data


def unxtext(text: str) -> str:
    """What xtext stands for (RFC 3461 §4): +2B is "+"; nothing else changes."""
    return _XTEXT.sub(lambda found: chr(int(found[1], 16)), text)


def _original(orcpt: str, utf8: bool) -> str:
    """`rfc822;a+2Bb@c` as it goes in a field: `rfc822; a+b@c`. RFC 6533 §3 writes utf-8 addresses with \\x{...}."""
    kind, _, address = orcpt.partition(";")
    if kind.lower() == "utf-8":
        plain = _EMBEDDED.sub(lambda found: _character(found[1]), address)
        return f"utf-8; {_flat(unxtext(plain) if utf8 else address)}"
    return f"{_flat(kind)}; {_flat(unxtext(address))}"


def _character(digits: str) -> str:
    value = int(digits, 16)
    return chr(value) if value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else "?"


def _flat(text: str) -> str:
    """On one line, without what could end it, and short enough for one."""
    return _CONTROL.sub(" ", text).encode("utf-8", "replace")[:WIDTH].decode("utf-8", "ignore").strip()
