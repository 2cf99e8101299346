"""Reads complaints: feedback reports (RFC 5965, RFC 6650), and the form of Microsoft's JMRP, which is none. Octets in, a Complaint or None out, never an error.

    message/feedback-report part                             a report of its Feedback-Type
    an attached message with X-HmXmrOriginalRecipient, or    abuse, as Hotmail tells it
      "complaint about message from" as the subject

Who complained is often redacted (RFC 6590), so relay.mail.traces finds the recipient; the addresses here count only beside the Message-ID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import Invalid, Refuse
from relay.mail import entities
from relay.mail.entities import Entity
from relay.mail.header import Header, split

OCTETS = 524_288  # of a report
NAMED = 20  # addresses that a report names
TEXT = 255  # characters of a field
COMPLAINTS = frozenset({"abuse", "fraud", "opt-out", "opt-out-list"})  # by which a person says that they do not want it; others say something else

_RETURNED = frozenset({"message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers"})
_JMRP = "complaint about message from"


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a report says; "" and () where it does not.

    kind        Feedback-Type: abuse | fraud | virus | not-spam | auth-failure | other ...
    reporter    User-Agent, or who sent the report
    named       addresses as written (Original-Rcpt-To, Removal-Recipient)
    message_id  of the returned message, without brackets
    """

    kind: str
    reporter: str = ""
    named: tuple[str, ...] = ()
    message_id: str = ""
    client: str = ""  # Source-IP: from where they had it, which is ours

    @property
    def complains(self) -> bool:
        return self.kind in COMPLAINTS


def read(content: bytes) -> Complaint | None:
    """The complaint in this mail, or None for mail that is something else."""
    try:
        header, _ = split(content[:OCTETS])
        leaves = list(entities.leaves(content[:OCTETS]))
    except (Invalid, Refuse):
        return None
    returned = _returned(leaves)
    report = next((_fields(each.content()) for each in leaves if each.kind == "message/feedback-report"), None)
    if report is not None:
        named = (*_all(report, b"original-rcpt-to"), *_all(report, b"removal-recipient"))
        return Complaint(_text(report, b"feedback-type").lower() or "abuse", _text(report, b"user-agent") or _author(header), named[:NAMED],
                         _message_id(returned), _text(report, b"source-ip"))
    hotmail = returned.value(b"x-hmxmroriginalrecipient")
    if hotmail or (header.value(b"subject").lower().startswith(_JMRP) and returned.fields):
        return Complaint("abuse", _author(header), (_bare(hotmail),) if hotmail else (), _message_id(returned), _text(returned, b"x-sender-ip"))
    return None


def _returned(leaves: Sequence[Entity]) -> Header:
    """The header of the message that is complained about."""
    return next((_fields(each.content()) for each in leaves if each.kind in _RETURNED), Header())


def _fields(octets: bytes) -> Header:
    try:
        return split(octets.lstrip() if octets.endswith(b"\r\n") else octets.lstrip() + b"\r\n")[0]
    except Invalid:
        return Header()


def _all(fields: Header, name: bytes) -> list[str]:
    return [_bare(each.value) for each in fields.all(name)[:NAMED]]


def _text(fields: Header, name: bytes) -> str:
    return fields.value(name)[:TEXT].strip()


def _bare(value: str) -> str:
    """The address in "<user@example.com>", "rfc822; user@example.com" or as it is."""
    return value.rpartition(";")[2].strip().strip("<>").strip()[:320]


def _author(header: Header) -> str:
    return header.value(b"from").rpartition("<")[2].rstrip("> ")[:TEXT]


def _message_id(returned: Header) -> str:
    return returned.value(b"message-id")[:998].strip("<> ")
