"""A job as commands for one server, given what its EHLO offered; what the server cannot take is refused before MAIL (RFC 1870, 3461, 6152, 6531).

    the message has            the server lacks        every recipient gets
    more octets than SIZE      -                       552 5.3.4
    8-bit content              8BITMIME                554 5.6.3; nothing is re-encoded, that would break signatures
    an address or header       SMTPUTF8                553 5.6.7; a domain alone is turned into A-labels instead
    that is not ASCII
"""

from __future__ import annotations

from msgspec import Struct

from relay.delivery.outcome import Job
from relay.errors import Invalid, Refuse
from relay.mail.message import Recipient
from relay.mail.reply import Reply
from relay.smtp import wire
from relay.smtp.client import Extensions


class Offer(Struct, frozen=True):
    """MAIL and RCPT commands with their CRLF; `rcpts` has a Reply instead where an address cannot be sent at all."""

    mail: bytes
    rcpts: tuple[bytes | Reply, ...]


def offer(job: Job, peer: Extensions) -> Offer:
    """The commands; raises Refuse with what all recipients get."""
    if peer.size and job.size > peer.size:
        raise Refuse(Reply(552, "5.3.4", f"the message has {job.size} octets, the server takes {peer.size}"))
    parameters = f" SIZE={job.size}" if peer.size else ""
    if not (job.content.isascii() and job.body.isascii()):
        if not peer.eightbit:
            raise Refuse(Reply(554, "5.6.3", "the message has 8-bit content and the server does not offer 8BITMIME"))
        parameters += " BODY=8BITMIME"
    utf8 = job.smtputf8 and wants_utf8(job, peer.utf8)
    if utf8 and not peer.utf8:
        raise Refuse(Reply(553, "5.6.7", "the message needs SMTPUTF8 and the server does not offer it"))
    if utf8:
        parameters += " SMTPUTF8"
    if peer.dsn:
        parameters += wire.parameter("RET", job.ret) + wire.parameter("ENVID", job.envid)
    try:
        mail = wire.mail(job.sender, parameters)
    except Invalid as error:
        raise Refuse(error.reply) from error
    return Offer(mail, tuple(_rcpt(each, peer.dsn, utf8) for each in job.recipients))


def _rcpt(recipient: Recipient, dsn: bool, utf8: bool) -> bytes | Reply:
    address = recipient.address if utf8 or recipient.address.isascii() else _ascii(recipient)
    wishes = wire.parameter("NOTIFY", recipient.notify) + wire.parameter("ORCPT", recipient.orcpt) if dsn and (recipient.notify or recipient.orcpt) else ""
    try:
        return wire.rcpt(address, wishes)
    except Invalid as error:
        return error.reply


def wants_utf8(job: Job, offered: bool = False) -> bool:
    """Whether something in envelope or header cannot be said in ASCII; a recipient's domain counts only where SMTPUTF8 is offered anyway."""
    if not job.sender.isascii() or not all((each.address if offered else _ascii(each)).isascii() for each in job.recipients):
        return True
    end = job.content.find(b"\r\n\r\n")
    return not job.content.isascii() and not job.content[: end if end >= 0 else None].isascii()


def _ascii(recipient: Recipient) -> str:
    """The address with its domain as A-labels."""
    return recipient.address if recipient.address.isascii() else f"{recipient.address.rpartition('@')[0]}@{recipient.domain}"
