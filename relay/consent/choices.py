"""What the preference page shows and does: topics, everything, a pause. The address need not be a contact's; each function is one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.consent import LEFT, SNOOZED, Act, back_to, evidence_of, gone_from, join, opted_in, stop, woken
from relay.mail.ids import Maker
from relay.mail.message import MARKETING
from relay.store import recipients, suppressions
from relay.store.audience import contacts, history, topics
from relay.store.audience.history import Entry
from relay.store.recipients import Addressee
from relay.store.suppressions import ALL, Suppression


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person gets: `out` when they left everything, `blocked` when something stops all mail that they cannot lift; topics with whether they get them.

    asleep  UTC seconds until which they want no marketing mail, or None
    """

    addressee: Addressee
    out: bool
    blocked: bool
    topics: tuple[tuple[topics.Topic, bool], ...]
    asleep: float | None = None


def current(conn: Any, number: int) -> Choices:
    """Of the recipient of this id; raises NotFound."""
    addressee = recipients.get(conn, number)
    entries = suppressions.of(conn, addressee.project_id, addressee.key)
    contact = contacts.by_key(conn, addressee.project_id, addressee.key)
    left = {entry.scope for entry in entries if entry.reason == LEFT}
    refused = {each.topic.id for each in topics.of_contact(conn, contact) if not each.subscribed} if contact else set()
    out = not left.isdisjoint((ALL, MARKETING)) or (contact is not None and contact.unsubscribed)
    blocked = any(entry.reason != LEFT and entry.scope == ALL for entry in entries)
    offered = topics.every(conn, addressee.project_id)
    asleep = next((entry.expires_at for entry in entries if entry.reason == SNOOZED), None)
    return Choices(addressee, out, blocked, tuple((each, topics.scope(each.id) not in left and each.id not in refused) for each in offered), asleep)


def choose(conn: Any, number: int, wanted: Mapping[str, bool], act: Act, maker: Maker) -> tuple[int, ...]:
    """The recipient of this id says of topics, by their top_ ids, whether they want them; topics not named, or none of the project's, stay as they are.

    Gives the recipients whose copies no longer wait. Raises NotFound.
    """
    now = current(conn, number)
    contact = contacts.by_key(conn, now.addressee.project_id, now.addressee.key)
    stopped: tuple[int, ...] = ()
    for topic, subscribed in now.topics:
        wide, want = topics.scope(topic.id), wanted.get(topic.public_id, subscribed)
        if subscribed and not want:
            stopped += gone_from(conn, now.addressee, wide, act, maker).stopped
        elif want and not subscribed and not back_to(conn, now.addressee, wide, act).new and contact is not None:
            opted_in(conn, contact, wide, act)
    return stopped


def leave_everything(conn: Any, number: int, native: str, act: Act, maker: Maker) -> tuple[int, ...]:
    """The recipient of this id wants no more mail, of whatever topic; otherwise as `choose`."""
    return gone_from(conn, recipients.get(conn, number), native, act, maker).stopped


def snooze(conn: Any, number: int, until: float, act: Act, maker: Maker) -> tuple[int, ...]:
    """The recipient of this id wants no marketing mail before `until` (UTC seconds), in place of what they said of this before; otherwise as `choose`."""
    addressee = recipients.get(conn, number)
    woken(conn, addressee.project_id, addressee.key)
    evidence = evidence_of(act) | {"message_id": addressee.message_id, "recipient_id": addressee.id}
    suppressions.add(conn, Suppression(
        maker.next(), addressee.project_id, addressee.key, addressee.address, SNOOZED, MARKETING, evidence, act.at, until))
    _note(conn, addressee, "snoozed", act, {**evidence, "until": until})
    return stop(conn, addressee.project_id, addressee.key, MARKETING, act.at, "wants no marketing mail for a while")


def wake(conn: Any, number: int, act: Act) -> None:
    """The recipient of this id takes a snooze back. Raises NotFound."""
    addressee = recipients.get(conn, number)
    if woken(conn, addressee.project_id, addressee.key):
        _note(conn, addressee, "snooze_ended", act, evidence_of(act))


def _note(conn: Any, addressee: Addressee, what: str, act: Act, evidence: dict[str, Any]) -> None:
    contact = contacts.by_key(conn, addressee.project_id, addressee.key)
    if contact is not None:
        history.append(conn, [Entry(contact.id, act.at, what, act.source, evidence)])


def come_back(conn: Any, number: int, act: Act) -> None:
    """The recipient of this id takes back that they left everything; what they said of single topics stays, and so do bounces and complaints."""
    addressee = recipients.get(conn, number)
    woken(conn, addressee.project_id, addressee.key)
    lifted = [back_to(conn, addressee, wide, act).new for wide in (ALL, MARKETING)]
    contact = contacts.by_key(conn, addressee.project_id, addressee.key)
    if not any(lifted) and contact is not None:
        join(conn, contact, act)
