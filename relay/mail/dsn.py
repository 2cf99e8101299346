"""Reads delivery reports that others made: octets in, a Report out, never an error (RFC 3464, RFC 6522, RFC 6533; qmail's own format, QSBMF).

    what it is                                             kind         lines
    ---------------------------------------------------    ---------    -----------------------------------------------------
    has a message/delivery-status part, by itself or       report       one for each recipient group, whatever is missing in it
      within multiparts, but not within a returned mail
    begins with qmail's "Hi. This is the"                  report       one for each paragraph that names a recipient
    reads like a report in free form (flufl.bounce)        report       one for each address, marked as a guess
    was sent by a program (RFC 3834)                       auto-reply   none
    anything else                                          other        none

Only the first OCTETS are looked at, which is where every mail server puts what matters; parts and nesting (relay.mail.entities) and groups are bounded, and
nothing is decompressed.
What a report says is hearsay: the caller knows by the token of the address whom it can be about, and relay.bounces knows what a reply means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import Invalid, Refuse
from relay.mail import automatic, entities, freeform
from relay.mail.entities import Entity
from relay.mail.header import Header, split
from relay.mail.reply import Reply, parse

OCTETS = 524_288  # of a report; the machine's part comes before the returned mail
GROUPS = 200  # recipients of one report; a transaction has at most 100 in most servers
TEXT = 4_000  # characters of a diagnostic

UNKNOWN_SENDER = "?"  # for rules that take the null reverse-path, which every report has, for a sign of their own
REPORT, AUTO_REPLY, OTHER = "report", "auto-reply", "other"
ACTIONS = frozenset({"failed", "delayed", "delivered", "relayed", "expanded"})  # RFC 3464 §2.3.3

_STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_RETURNED = frozenset({"message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers"})
_GAP = re.compile(rb"\r\n(?:[ \t]*\r\n)+")
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})")
_LINE_END = re.compile(rb"\r?\n")
# A reply within a diagnostic: at its beginning, or after the words that mail servers put before what the other side said.
_SAID = re.compile(r"(?:^|said:? *|error:? *|reply:? *|response:? *|status code:? *|: *)[\"'(]*([245]\d\d)(?:[ -]+[\"']*|$)(.*)", re.IGNORECASE)
_QMAIL = re.compile(rb"\s{0,4}Hi\. This is the ")
_QMAIL_WHOM = re.compile(r"<([^<>\s]{1,320})>:\n(.*)", re.DOTALL)
_QMAIL_CODE = re.compile(r"\(#([245]\.\d{1,3}\.\d{1,3})\)|#([245]\.\d{1,3}\.\d{1,3})")
_CLASS = {"2": 250, "4": 450, "5": 550}


@dataclass(frozen=True, slots=True)
class Told:
    """What a report says of one recipient; "" where it does not say.

    final, original   addresses as written (Final-Recipient, Original-Recipient)
    action            of ACTIONS; guessed from the status where it is missing
    reply             the remote's words, or ours made of the status
    mx                who said them (Remote-MTA)
    guess             read out of free text: never enough for a suppression
    """

    final: str
    original: str
    action: str
    reply: Reply
    mx: str = ""
    guess: bool = False

    @property
    def failed(self) -> bool:
        return self.action == "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """`kind` REPORT | AUTO_REPLY | OTHER; `reporter` the host that made it (Reporting-MTA); `message_id` of the returned message, without brackets."""

    kind: str
    reporter: str = ""
    told: tuple[Told, ...] = ()
    message_id: str = ""


def read(content: bytes) -> Report:
    """What this mail to a return path is."""
    octets = content[:OCTETS]
    if b"\r\n" not in octets[:10_000]:
        octets = _LINE_END.sub(b"\r\n", octets)
    try:
        header, body = split(octets)
        parts = list(entities.leaves(octets))
    except (Invalid, Refuse):
        return Report(OTHER)
    status = next((each.content() for each in parts if each.kind in _STATUS_PARTS), None)
    report = _report(_LINE_END.sub(b"\r\n", status), _returned(parts)) if status is not None else None
    if report is not None and report.told:
        return report
    if _QMAIL.match(body):
        return _qmail(body)
    if told := _free(octets):
        return Report(REPORT, report.reporter if report else "", told, _returned(parts))
    return report or Report(AUTO_REPLY if automatic.answer(header, UNKNOWN_SENDER) or header.first(b"auto-submitted") else OTHER)


def _returned(parts: Sequence[Entity]) -> str:
    """The Message-ID of the message that came back, "" where it is not with the report."""
    content = next((each.content() for each in parts if each.kind in _RETURNED), b"")
    return _fields(_LINE_END.sub(b"\r\n", content[:OCTETS]).lstrip()).value(b"message-id")[:998].strip("<> ")


def _free(octets: bytes) -> tuple[Told, ...]:
    """What a report in free form says, as far as one can guess."""
    return tuple(Told(each.address, "", "failed" if each.permanent else "delayed", _free_reply(each.words, each.permanent), guess=True)
                 for each in freeform.read(octets)[:GROUPS])


def _free_reply(words: str, permanent: bool) -> Reply:
    reply = _reply(words, "")
    return reply if reply.permanent == permanent and reply.code >= 400 else Reply(550 if permanent else 450, "", reply.text)


# RFC 3464


def _report(status: bytes, message_id: str = "") -> Report:
    groups = [header for group in _GAP.split(status.lstrip(), GROUPS + 1)[:GROUPS + 1] if (header := _fields(group)).fields]
    reporter = next((host for each in groups if (host := _typed(each.value(b"reporting-mta")))), "")
    told = tuple(_told(each) for each in groups if each.first(b"final-recipient") or each.first(b"original-recipient") or each.first(b"action"))
    return Report(REPORT, reporter[:255], told, message_id)


def _fields(group: bytes) -> Header:
    try:
        return split(group if group.endswith(b"\r\n") else group + b"\r\n")[0]
    except Invalid:
        return Header()


def _told(fields: Header) -> Told:
    found = _STATUS.search(fields.value(b"status")[:100])
    status = found[0] if found else ""
    words = fields.value(b"diagnostic-code")[:TEXT]
    kind, semicolon, text = words.partition(";")
    reply = _reply(" ".join((text if semicolon and " " not in kind.strip() else words).split()), status)
    action = fields.value(b"action").split("(")[0].strip().lower()
    if action not in ACTIONS:
        action = {2: "delivered", 4: "delayed"}.get(reply.code // 100, "failed")
    if action == "failed" and reply.code < 400:
        reply = Reply(550, "5.0.0", reply.text)
    return Told(_address(fields.value(b"final-recipient")), _address(fields.value(b"original-recipient")), action, reply,
                _typed(fields.value(b"remote-mta"))[:255])


def _reply(text: str, status: str) -> Reply:
    """The reply that a diagnostic quotes; its status goes before that of the report unless their classes differ, for then the quote was not the end of it."""
    found = _SAID.search(text)
    reply = parse(int(found[1]), _joined(found[1], found[2])) if found else Reply(_CLASS[status[0]] if status else 550, status, text)
    if status and str(reply.code)[0] != status[0]:
        return Reply(_CLASS[status[0]], status, reply.text or text)
    return reply if reply.enhanced else Reply(reply.code, status, reply.text)


def _joined(code: str, text: str) -> str:
    """The lines of a reply that were folded into one, without the code that each began with."""
    return re.sub(rf"\s{code}[- ](?:[245]\.\d{{1,3}}\.\d{{1,3}} )?", " ", text)


def _typed(value: str) -> str:
    """The name in "dns; mx.example.net (192.0.2.1)", in lower case without its final dot."""
    words = value.rpartition(";")[2].split() if value.count(";") < 2 else value.split(";")[1].split()
    return words[0].rstrip(".").lower() if words else ""


def _address(value: str) -> str:
    """The address in "rfc822; <user@example.com>"."""
    kind, semicolon, address = value.partition(";")
    return (address if semicolon else kind).strip().strip("<>").strip()[:320]


# qmail (cr.yp.to/proto/qsbmf.txt)


def _qmail(body: bytes) -> Report:
    text = body[:65_536].decode("utf-8", "replace").replace("\r\n", "\n")
    first, *rest = text.lstrip().split("\n\n", GROUPS + 1)[:GROUPS + 1]
    host = re.search(r"at (\S{1,255}?)\.?$", first.split("\n")[0])
    told = []
    for paragraph in rest:
        if paragraph.startswith("-"):  # the returned message follows
            break
        if found := _QMAIL_WHOM.match(paragraph.strip()):
            told.append(Told(found[1], "", "failed", _qmail_reply(found[2][:TEXT])))
    return Report(REPORT, host[1].lower() if host else "", tuple(told))


def _qmail_reply(text: str) -> Reply:
    flat = " ".join(text.split())
    coded = _QMAIL_CODE.search(flat)
    status = (coded[1] or coded[2]) if coded else ""
    return _reply(flat, status) if status or _SAID.search(flat) else Reply(550, "5.0.0", flat)
