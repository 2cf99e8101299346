"""Messages: the ledger of what was accepted, for whom, and where each recipient stands.

`add_many` is what acceptance is: body, message, recipients, queue rows and events in one transaction, before the 250. `load` gives the frozen Message
back for a later attempt. A message's recipients are rows of their own here; `relay.store.queue` has a row for each that still waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.header import decode_header, make_header
from functools import lru_cache
from hashlib import sha256
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Connection, Row, func, select

from relay.errors import Conflict, NotFound
from relay.mail import header, ids
from relay.mail.message import Decision, Envelope, Message, Origin, Principal, Recipient, Wishes
from relay.store import attempts, bodies, bulk, events, idempotency, totals, usage
from relay.store.attempts import Attempt
from relay.store.bulk import clean, json
from relay.store.events import Event
from relay.store.schema import messages, queue, recipients

QUEUED, SCHEDULED, DEFERRED = "queued", "scheduled", "deferred"
DELIVERED, BOUNCED, FAILED, SUPPRESSED, CANCELLED = "delivered", "bounced", "failed", "suppressed", "cancelled"
COMPLAINED = "complained"  # delivered, and called spam
ENDS = frozenset({DELIVERED, COMPLAINED, BOUNCED, FAILED, SUPPRESSED, CANCELLED})
STATUS = (SCHEDULED, QUEUED, DEFERRED, COMPLAINED, BOUNCED, FAILED, DELIVERED, SUPPRESSED, CANCELLED)  # the first that any recipient has is the message's (B18)

SUBJECT = 998  # characters kept
HOUR = 3_600.0

_SHOWN = (b"from", b"subject", b"message-id")

_PLAIN = Wishes()
_DEFAULTS = asdict(_PLAIN)
_DOMAIN_COLUMN = 7  # of a row as _row makes it
_OWN_COLUMNS = frozenset({"tags", "topic", "stream", "send_at"})  # wishes that are columns


def add_many(conn: Connection, accepted: Sequence[Message]) -> list[int]:
    """Write these messages and queue their recipients; gives their ids. Recipients that a policy dropped end as suppressed, with the reason."""
    rows: tuple[list[Any], ...] = ([], [], [], [], [])
    for message in accepted:
        _add(message, *rows)
    octets, ledger, people, waiting, happened = rows
    bodies.put_many(conn, octets)
    bulk.insert(conn, messages, ledger)
    bulk.insert(conn, recipients, people)
    bulk.insert(conn, queue, waiting)
    events.append_rows(conn, happened)
    domains = [row[_DOMAIN_COLUMN] for row in ledger]
    usage.count(conn, list(zip(accepted, domains, strict=True)))
    totals.add(conn, [(m.id, m.principal.project, domain, m.wishes.tags) for m, domain in zip(accepted, domains, strict=True)])
    return [message.id for message in accepted]


def accept_many(conn: Connection, submissions: Sequence[Sequence[Message]]) -> list[int]:
    """For each submission (the messages that one became) the id of its first message, or of the message that had its idempotency key before.

    Raises Conflict when the key was used for a different message, by sender, recipients and content.
    """
    answers, new = [], []
    for submission in submissions:
        first = submission[0]
        if not first.wishes.idempotency_key:
            earlier, fresh = None, submission
        elif first.origin.protocol in ("http", "dsn"):
            earlier, fresh = _claimed(conn, submission)
        else:
            earlier, fresh = _claimed_by_recipient(conn, submission)
        answers.append(first.id if earlier is None else earlier)
        new.extend(fresh)
    add_many(conn, new)
    return answers


def _claimed(conn: Connection, submission: Sequence[Message]) -> tuple[int | None, Sequence[Message]]:
    """The message that has the key already, or None and what is new."""
    first = submission[0]
    entry = _entry(first, first.origin.protocol, first.wishes.idempotency_key[:255],
                   first.wishes.idempotency_hash or _fingerprint(submission))
    taken = idempotency.claim(conn, entry)
    if taken is None:
        return None, submission
    if entry.dialect == "http" and taken.hash != entry.hash:
        raise Conflict("the idempotency key was used for a different message", code="idempotency_key_reused")
    return int(taken.answer["message_id"]), ()


def _claimed_by_recipient(conn: Connection, submission: Sequence[Message]) -> tuple[int | None, Sequence[Message]]:
    """As _claimed, recipient by recipient: who was refused for now at the first try is queued at the second, the others are not sent to twice (B14).

    The content is not compared: a mail library that tries again makes new boundaries.
    """
    earlier, fresh = None, []
    for message in submission:
        kept = []
        for recipient in message.recipients:
            key = sha256(f"{message.wishes.idempotency_key}\0{recipient.key}".encode("utf-8", "replace")).hexdigest()
            taken = idempotency.claim(conn, _entry(submission[0], "smtp", key, ""))
            if taken is None:
                kept.append(recipient)
            else:
                earlier = earlier or int(taken.answer["message_id"])
        if kept or not message.recipients:
            fresh.append(message.with_recipients(kept))
    return (None if fresh else earlier), fresh


def _entry(first: Message, dialect: str, key: str, digest: str) -> idempotency.Entry:
    now = first.received_at
    return idempotency.Entry(
        first.principal.project, dialect, key, digest, {"message_id": first.id}, now, now + first.wishes.idempotency_hours * HOUR)


def _fingerprint(submission: Sequence[Message]) -> str:
    """What makes two submissions the same: what the caller says, else sender, recipients and body; Date and Received differ in a retry."""
    if submission[0].wishes.idempotency_hash:
        return submission[0].wishes.idempotency_hash[:64]
    digest = sha256()
    for message in submission:
        digest.update("\0".join((message.envelope.sender, *(r.address for r in message.recipients), "")).encode("utf-8", "replace"))
        digest.update(message.body)
    return digest.hexdigest()


def _add(message: Message, octets: list, ledger: list, people: list, waiting: list, happened: list) -> None:
    """Append the rows of one message."""
    number, project, now, wishes = message.id, message.principal.project, message.received_at, message.wishes
    scheduled = wishes.send_at is not None and wishes.send_at > now
    state, due = (SCHEDULED, wishes.send_at) if scheduled else (QUEUED, now)
    pieces = message.pieces()
    octets.append((number, pieces, now))
    ledger.append(_row(message, len(pieces[0]) + len(pieces[1])))
    event = f"email.{state}"
    topic = clean(wishes.topic, 64)
    for r in message.envelope.recipients:
        people.append((r.id, number, project, r.address, r.key, r.domain, r.notify[:32], r.orcpt[:512], state, None, None, None, None))
        waiting.append((r.id, number, project, r.domain, wishes.stream, topic, r.key, due, due, 0, wishes.retry, False, False))
        happened.append((project, number, r.id, None, event, now, json({"to": r.address})))
    for r, reply in message.dropped:
        words = clean(reply.text, attempts.WORDS)
        people.append((r.id, number, project, r.address, r.key, r.domain, r.notify[:32], r.orcpt[:512], SUPPRESSED,
                       reply.code, reply.enhanced[:12], words, now))
        happened.append((project, number, r.id, None, "email.suppressed", now, json({"to": r.address, "reason": words})))


def _row(message: Message, size: int) -> tuple[Any, ...]:
    principal, envelope, origin, wishes = message.principal, message.envelope, message.origin, message.wishes
    sender, subject, message_id = [_first(message.header, name) for name in _SHOWN]
    return (
        message.id, principal.project, principal.key_id, message.id, origin.protocol, envelope.sender, clean(sender, 998), _domain(sender),
        _subject(subject), clean(message_id.strip("<> "), 998), size, wishes.stream, clean(wishes.topic, 64),
        json(wishes.tags), json(_envelope(envelope)), _origin(origin, principal), _wished(wishes), json(message.facts),
        _trace(message.trace), message.received_at, wishes.send_at,
    )


def _first(fields: header.Header, name: bytes) -> str:
    found = fields.first(name)
    return "" if found is None else found.value


def _subject(subject: str) -> str:
    """Decoded, as people read it."""
    if "=?" in subject:
        try:
            subject = str(make_header(decode_header(subject)))
        except (LookupError, ValueError):
            pass
    return clean(subject, SUBJECT)


def _domain(sender: str) -> str:
    """Of the first address of a From field, without parsing what the door has parsed."""
    return clean(sender.partition("@")[2].partition(">")[0].partition(",")[0].strip().lower(), 255)


def _envelope(envelope: Envelope) -> dict[str, Any]:
    if not (envelope.ret or envelope.envid or envelope.smtputf8) and envelope.body == "7BIT":
        return {}
    given = {"ret": envelope.ret, "envid": envelope.envid, "body": envelope.body if envelope.body != "7BIT" else "", "smtputf8": envelope.smtputf8}
    return {name: value for name, value in given.items() if value}


@lru_cache(1_024)  # one for all messages of a session or a batch
def _origin(origin: Origin, principal: Principal) -> str:
    """As JSON."""
    given = {
        "client": origin.client, "helo": clean(origin.helo, 255), "with": origin.with_, "tls": origin.tls, "kind": principal.kind, "name": principal.name,
        "permission": principal.permission if principal.permission != "full_access" else "", "mode": principal.mode if principal.mode != "live" else "",
        "domain": principal.domain,
    }
    return json({name: value for name, value in given.items() if value})


@lru_cache(1_024)  # nearly all messages have one of a few
def _trace(trace: tuple[Decision, ...]) -> str:
    """As JSON."""
    return json([(d.policy, d.action, d.detail) for d in trace])


def _wished(wishes: Wishes) -> str:
    """As JSON."""
    return _alike(wishes) if wishes.variables is None and not wishes.idempotency_key else json(_wishes(wishes))


@lru_cache(1_024)  # one for all copies of a letter
def _alike(wishes: Wishes) -> str:
    return json(_wishes(wishes))


def _wishes(wishes: Wishes) -> dict[str, Any]:
    if wishes == _PLAIN:
        return {}
    return {name: value for name, value in asdict(wishes).items() if value != _DEFAULTS[name] and name not in _OWN_COLUMNS}


def have(conn: Connection, number: int) -> bool:
    """Whether the message of this id is in the store."""
    return conn.scalar(select(messages.c.id).where(messages.c.id == number)) is not None


def get(conn: Connection, number: int, project: int | None = None) -> Row[Any]:
    """The message's row; raises NotFound, also for another project's."""
    statement = select(messages).where(messages.c.id == number)
    if project is not None:
        statement = statement.where(messages.c.project_id == project)
    row = conn.execute(statement).one_or_none()
    if row is None:
        raise NotFound(f"there is no message {ids.public('em', number)}")
    return row


def load(conn: Connection, number: int, waiting_only: bool = True) -> Message:
    """The message as it was admitted, to those of its recipients who still wait (or to all).

    Raises NotFound when it, or its octets, are no longer kept.
    """
    row = get(conn, number)
    return rebuilt(row, _people(conn, number, waiting_only), *bodies.parted(conn, row.body_id))


def load_many(conn: Connection, numbers: Sequence[int], waiting_only: bool = True) -> dict[int, Message]:
    """The messages of these ids, each as `load` gives it; those that are no longer kept are left out."""
    rows = conn.execute(select(messages).where(messages.c.id.in_(numbers))).all()
    people: dict[int, list[Recipient]] = {}
    statement = select(recipients).where(recipients.c.message_id.in_(numbers)).order_by(recipients.c.id)
    for r in conn.execute(statement.where(recipients.c.ended_at.is_(None)) if waiting_only else statement):
        people.setdefault(r.message_id, []).append(Recipient(r.id, r.address, r.key, r.domain, r.notify, r.orcpt))
    found = {}
    for row in rows:
        try:
            found[row.id] = rebuilt(row, people.get(row.id, ()), *bodies.parted(conn, row.body_id))
        except NotFound:
            continue
    return found


def _people(conn: Connection, number: int, waiting_only: bool) -> tuple[Recipient, ...]:
    statement = select(recipients).where(recipients.c.message_id == number).order_by(recipients.c.id)
    if waiting_only:
        statement = statement.where(recipients.c.ended_at.is_(None))
    return tuple(Recipient(r.id, r.address, r.key, r.domain, r.notify, r.orcpt) for r in conn.execute(statement))


def rebuilt(row: Row[Any], people: Sequence[Recipient], octets: bytes, apart: bytes = b"") -> Message:
    """The frozen Message of a ledger row, its recipients and its octets; `apart` what of the body does not stand in them."""
    fields_, body = header.split(octets)
    body = body or apart
    if row.send_at is not None and row.send_at > row.created_at:
        fields_ = fields_.dated(row.send_at)  # it may have been given another time since it was accepted
    envelope, origin = row.envelope, row.origin
    return Message(
        id=row.id,
        principal=Principal(
            origin.get("kind", "key"), row.project_id, row.key_id, origin.get("name", ""), origin.get("permission", "full_access"),
            origin.get("mode", "live"), origin.get("domain", "")),
        envelope=Envelope(
            row.sender, tuple(people), envelope.get("body", "7BIT"), envelope.get("smtputf8", False), envelope.get("ret", ""), envelope.get("envid", "")),
        header=fields_, body=body,
        origin=Origin(row.protocol, origin.get("client", ""), origin.get("helo", ""), origin.get("with", ""), origin.get("tls", "")),
        wishes=Wishes(**{**row.wishes, "tags": tuple(row.tags), "topic": row.topic, "stream": row.stream, "send_at": row.send_at}),
        received_at=row.created_at, facts=row.facts, trace=tuple(Decision(*line) for line in row.trace),
    )


def find(conn: Connection, text: str, project: int | None = None, limit: int = 50) -> list[int]:
    """Ids of the messages that `text` may mean, newest first: an em_ id, a Message-ID field, or the normal form of a recipient's address."""
    number = ids.internal(text, "em")
    if number is not None:
        statement = select(messages.c.id).where(messages.c.id == number)
    else:
        statement = select(messages.c.id).where(messages.c.message_id == text.strip("<> "))
    of_project = () if project is None else (messages.c.project_id == project,)
    found = list(conn.scalars(statement.where(*of_project).order_by(messages.c.id.desc()).limit(limit)))
    if found or number is not None or "@" not in text:
        return found
    whose = (recipients.c.key == text,) if project is None else (recipients.c.key == text, recipients.c.project_id == project)
    if project is None:  # the index begins with the project
        from_projects = select(messages.c.project_id).distinct()
        whose = (*whose, recipients.c.project_id.in_(from_projects))
    return list(conn.scalars(select(recipients.c.message_id).where(*whose).order_by(recipients.c.id.desc()).limit(limit)))


def status(conn: Connection, number: int) -> str:
    """The message's state: while any recipient is open the least advanced, then the first of STATUS that any has (B18)."""
    states = set(conn.scalars(select(recipients.c.state).where(recipients.c.message_id == number).distinct()))
    return next((state for state in STATUS if state in states), SUPPRESSED)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is known of a message: its row, its recipients' rows, who still waits and how, attempts by recipient id, events."""

    message: Row[Any]
    status: str
    recipients: list[Row[Any]]
    waiting: dict[int, Row[Any]]
    attempts: list[tuple[int, Attempt]]
    events: list[Event]


def timeline(conn: Connection, number: int, project: int | None = None) -> Timeline:
    """What `relay explain` tells; raises NotFound."""
    row = get(conn, number, project)
    people = conn.execute(select(recipients).where(recipients.c.message_id == number).order_by(recipients.c.id).limit(1_000)).all()
    waiting = conn.execute(select(queue).where(queue.c.recipient_id.in_([each.id for each in people]))).all()
    return Timeline(
        row, status(conn, number), list(people), {each.recipient_id: each for each in waiting},
        attempts.of_message(conn, number), events.of_message(conn, number))


def count(conn: Connection, project: int | None = None) -> int:
    """How many messages the ledger has."""
    statement = select(func.count()).select_from(messages)
    return conn.scalar(statement if project is None else statement.where(messages.c.project_id == project)) or 0
