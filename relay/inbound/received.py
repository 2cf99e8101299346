"""Mail that people write to a project's domains: checked, kept whole, and told of by `email.inbound`.

    a program's answer (relay.mail.automatic)     taken and dropped: it causes nothing
    fails DMARC, and the author asks for reject   `[inbound] dmarc`: kept as spam, or 550 5.7.26
    rspamd calls it spam                          kept as spam, with its score
    anything else                                 kept once for each domain that it is to, with our trace on top

What is kept is what came, byte for byte, below Return-Path, Received and our Authentication-Results; others' claims to be us are taken out (RFC 8601 §5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from relay.errors import Refuse
from relay.inbound import authentication, mailboxes
from relay.inbound.authentication import Authentication
from relay.inbound.mailboxes import Mailbox
from relay.mail import ids, reading
from relay.mail.header import Field, Header, split
from relay.mail.quoting import stripped
from relay.mail.reading import Reading
from relay.mail.reply import Reply
from relay.scoring import Score, Unscored
from relay.smtp.desk import Session
from relay.store.domains import Domain
from relay.store.inbound import mail
from relay.store.inbound.mail import Inbound

SPAM, CLEAN = "spam", "clean"
MARKED = frozenset({"add header", "rewrite subject", "reject"})  # what rspamd advises for spam; "greylist" and "soft reject" only ask to wait
WORDS = 10_000  # characters of a text that the event carries; the whole is at /inbound/{id}

DISOWNED = Reply(550, "5.7.26", "the author's domain asks for mail like this to be rejected (DMARC)")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it came: `content` header and body, `sender` the reverse-path, `at` UTC seconds, `found` what the checks said, `score` what rspamd said."""

    session: Session
    sender: str
    content: bytes
    at: float
    found: Authentication
    score: Score | Unscored

    @property
    def points(self) -> float | None:
        return self.score.score if isinstance(self.score, Score) else None


def verdict(found: Authentication, reject: bool, score: Score | Unscored, block: float) -> str:
    """SPAM, CLEAN, or "" where nobody says. Raises Refuse for what the author's domain wants rejected, if we do that.

    block  score from which rspamd's answer means spam whatever it advises; without an answer DMARC alone says whether somebody vouches for the author

    RFC 9989 §7.4: a failure alone is no reason to reject, since forwarders and lists break signatures.
    """
    asked = found.dmarc.policy if found.dmarc.result == "fail" else ""
    if asked == "reject" and reject:
        raise Refuse(DISOWNED)
    if asked in ("reject", "quarantine"):
        return SPAM
    if isinstance(score, Score):
        return SPAM if score.action in MARKED or score.score >= block else CLEAN
    return CLEAN if found.dmarc.result == "pass" else ""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a transaction needs to know of a message, all that takes time done before: `own` the reply without what it answers, `files` as lists show them."""

    read: Reading
    own: str
    digest: str
    files: list[dict[str, Any]]


def opened(content: bytes) -> Opened:
    """Runs in a thread, as it may take a second; raises Refuse for MIME nested too deeply."""
    read = reading.read(content)
    return Opened(read, stripped(read.text)[:WORDS], hashlib.sha256(content).hexdigest(), [each.shown() for each in read.attachments])


def keep(conn: Any, boxes: Iterable[Mailbox], letter: Letter, what: Opened, spam: str, hostname: str, proven: bool, numbers: Iterable[int]) -> list[Inbound]:
    """What is new of the message for the domains of these mailboxes, stored in one transaction.

    numbers  an id for each domain
    """
    by_domain: dict[int, tuple[Domain, list[Mailbox]]] = {}
    for box in boxes:
        domain = mailboxes.served(conn, box, proven)
        if domain is not None:
            by_domain.setdefault(domain.id, (domain, []))[1].append(box)
    kept = []
    for number, (domain, its) in zip(numbers, by_domain.values(), strict=False):
        row = _row(number, domain, its, letter, what, spam)
        new = mail.add(conn, row, traced(letter, hostname, row), told(row, what))
        kept += [new] if new is not None else []
    return kept


def _row(number: int, domain: Domain, boxes: list[Mailbox], letter: Letter, what: Opened, spam: str) -> Inbound:
    read = what.read
    to = sorted({f"{box.local}@{box.host}" for box in boxes})
    digest = hashlib.sha256("\0".join((letter.sender, *to, what.digest)).encode("utf-8", "replace")).hexdigest()
    return Inbound(
        number, domain.project_id, domain.id, domain.name, digest, letter.session.client, letter.sender, to, read.from_address, read.from_name, list(read.to),
        list(read.cc), read.subject, read.message_id, read.in_reply_to, None, boxes[0].local.partition("+")[2], len(letter.content), letter.points, spam,
        letter.found.shown(), what.files, letter.at, read.references)


def told(row: Inbound, what: Opened) -> dict[str, Any]:
    """What the event says; the whole text, the HTML and the files are at /inbound/{id}, and webhooks carry the files too (relay.inbound.carrying)."""
    return {
        "domain": row.domain, "from": row.from_address, "from_name": row.from_name, "to": row.recipients, "to_addresses": row.to_addresses,
        "cc_addresses": row.cc_addresses, "subject": row.subject, "message_id": row.message_id, "in_reply_to": row.in_reply_to or None,
        "mailbox_hash": row.mailbox_hash or None, "spam_score": row.spam_score, "spam_verdict": row.spam_verdict or None, "authentication": row.authentication,
        "text": what.read.text[:WORDS], "stripped_reply": what.own,
        "attachments": [{"id": number, **each} for number, each in enumerate(row.attachments)],
    }


def traced(letter: Letter, hostname: str, row: Inbound) -> bytes:
    """The octets with our trace on top (RFC 5321 §4.4) and without forged results of ours."""
    fields, body = split(letter.content)
    kept = authentication.strip(fields, hostname)
    top = (_return_path(letter.sender), authentication.field(hostname, letter.found), _received(letter, hostname, row))
    return b"".join((*Header((*top, *kept.fields)).raws(), b"\r\n", body))


def _return_path(sender: str) -> Field:
    return Field(b"return-path", f"Return-Path: <{sender}>\r\n".encode())


def _received(letter: Letter, hostname: str, row: Inbound) -> Field:
    session = letter.session
    client = f"IPv6:{session.client}" if ":" in session.client else session.client
    tls = f"\r\n\t(using {session.tls})" if session.tls else ""
    helo = session.helo if session.helo.isascii() else "unknown"
    value = f"from {helo} ([{client}])\r\n\tby {hostname} with {session.with_}{tls}\r\n\tid {ids.public('in', row.id)};\r\n\t{formatdate(letter.at)}"
    return Field(b"received", f"Received: {value}\r\n".encode())
