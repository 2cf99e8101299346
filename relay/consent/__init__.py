"""Consent: what a person's act means for the mail that they still get, one function an act, each one transaction.

    act                                             entry                         contact          event
    ----------------------------------------------  ----------------------------  ---------------  --------------------------------------
    unsubscribe, mail with a topic                  unsubscribe, topic:<id>       topic opted out  email.unsubscribed
    unsubscribe, mail sent with unsubscribe: true   unsubscribe, all (or          unsubscribed     email.unsubscribed, contact.unsubscribed
                                                    marketing, by [suppress])
    unsubscribe, other marketing mail               unsubscribe, marketing        unsubscribed     email.unsubscribed, contact.unsubscribed
    resubscribe                                     lifts what unsubscribe wrote  as it was        contact.subscribed
    choose, on the preference page (.choices)       the two above, topic by topic
    leave_everything, on the preference page        unsubscribe, all (or          unsubscribed     email.unsubscribed, contact.unsubscribed
                                                    marketing, by [suppress])
    snooze, on the preference page                  snooze, marketing, for a time as it was        -
    wake, on the preference page                    lifts that                    as it was        -
    come_back, on the preference page               lifts unsubscribe, all and    subscribed       contact.subscribed
                                                    marketing, and a snooze
    leave, of a contact                             unsubscribe, marketing        unsubscribed     contact.unsubscribed
    join                                            lifts that, and a snooze      subscribed       contact.subscribed
    confirmed, by the link in a letter              lifts that                    subscribed       contact.subscribed
    leave_topic                                     the same for topic:<id>       topic opted out  -
    join_topic                                      lifts that                    topic opted in   contact.subscribed
    bounced, of any mail                            hard_bounce, all              unsubscribed     contact.bounced, contact.unsubscribed
    bounced_softly, too often                       soft_bounce, all, for a time  as it was        -
    complained, of any mail                         complaint, all                unsubscribed     email.complained, contact.unsubscribed
    undo, lapse                                     lifts what is named, is over  as before the    contact.subscribed
                                                                                  bounce

An act writes the entry with its evidence, the contact and its history, and the event, and ends the queued copies that it stops. What is on the wire already
is stopped too as long as MAIL is not written: the entry is read again just before it. Bounces and complaints are no acts of the person, who therefore cannot
lift them by an opt-in; they are here because they change the same things. A bounce that is taken back, because the rule that read it was wrong or its time
is over, takes back the unsubscribe that it brought on the contact, and no other.

Whoever calls is given by argument what came of it, and tells the runner which recipients to forget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay import bounces, settings
from relay.bounces import End, Rules
from relay.mail.ids import Maker
from relay.mail.message import MARKETING
from relay.mail.reply import Reply
from relay.store import events, queue, recipients, suppressions
from relay.store.audience import contacts, history, topics
from relay.store.audience.contacts import Contact
from relay.store.audience.history import Entry
from relay.store.events import Event
from relay.store.recipients import Addressee
from relay.store.suppressions import ALL, Suppression

LEFT, SNOOZED, BOUNCED, WORN, COMPLAINED = "unsubscribe", "snooze", "hard_bounce", "soft_bounce", "complaint"
TAKEN, BROKEN, EXPIRED = ("delivered", "complained"), "bounced", "failed"  # states in which a recipient ended
SLICE = 1_000  # queue rows that one act ends before it goes on with the next ones


@dataclass(frozen=True, slots=True)
class Act:
    """Who did it and how, for the evidence: source "one-click" | "page" | "mailto" | "api" | "report"; what of it is not known is ""."""

    source: str
    client: str = ""  # IP address
    agent: str = ""  # User-Agent
    at: float = 0.0  # UTC seconds
    more: Mapping[str, Any] = field(default_factory=dict)  # further evidence: key, import ...
    forgotten: tuple[bytes, ...] = ()  # keys of the hashes that stand for who was deleted, where the person may take back what these say


@dataclass(frozen=True, slots=True)
class Done:
    """What an act did: `new` unless it had been done before; `stopped` are recipients whose copies no longer wait."""

    addressee: Addressee
    scope: str
    new: bool
    stopped: tuple[int, ...] = ()


def scope(addressee: Addressee, native: str) -> str:
    """What an unsubscribe from this mail stops.

    native  settings.suppress.unsubscribe: "all" | "marketing", for mail sent with unsubscribe: true and no topic
    """
    if addressee.topic:
        return f"topic:{addressee.topic}"
    return native if addressee.wishes.get("unsubscribe") else MARKETING


def unsubscribe(conn: Any, number: int, native: str, act: Act, maker: Maker) -> Done:
    """The recipient of this id wants no more of it; a second time changes nothing. Raises NotFound."""
    addressee = recipients.get(conn, number)
    return gone_from(conn, addressee, scope(addressee, native), act, maker)


def gone_from(conn: Any, addressee: Addressee, wide: str, act: Act, maker: Maker) -> Done:
    """They want no more of what this scope names."""
    evidence = {"source": act.source, "client": act.client, "agent": act.agent[:200], "message_id": addressee.message_id, "recipient_id": addressee.id,
                **act.more}
    entry = Suppression(maker.next(), addressee.project_id, addressee.key, addressee.address, LEFT, wide,
                        {name: value for name, value in evidence.items() if value}, act.at)
    new = suppressions.add(conn, entry)
    if new:
        told = {"to": addressee.address, "source": act.source, "scope": wide}
        events.append(conn, [Event(addressee.project_id, "email.unsubscribed", act.at, addressee.message_id, addressee.id, data=told)])
    contact = contacts.by_key(conn, addressee.project_id, addressee.key)
    if contact is not None:
        _refused(conn, contact, wide, act, entry.evidence)
    return Done(addressee, wide, new, stop(conn, addressee.project_id, addressee.key, wide, act.at))


# What is reported of an address.


@dataclass(frozen=True, slots=True)
class Terms:
    """How long bounces stop mail, in seconds ([suppress] hard_for, soft_for): `hard` 0 = until lifted, `soft` 0 = not at all."""

    hard: float = 0.0
    soft: float = 14 * 86_400.0

    @classmethod
    def of(cls, config: settings.Suppress) -> Terms:
        return cls(config.hard_for, config.soft_for)


def bounced(conn: Any, addressee: Addressee, act: Act, terms: Terms, maker: Maker) -> Done:
    """The address does not exist, by the evidence in `act.more` (rule, reply, reporter): nothing more goes there from this project. Once is enough."""
    entry = _entry(addressee, BOUNCED, act, terms.hard, maker)
    new = suppressions.add(conn, entry)
    contact = contacts.by_key(conn, addressee.project_id, addressee.key)
    if contact is not None and new:
        told = {**_told(contact, act), "rule": act.more.get("rule", "")}
        events.append(conn, [Event(addressee.project_id, "contact.bounced", act.at, addressee.message_id, addressee.id, contact.id, told)])
        _refused(conn, contact, ALL, act, entry.evidence, "bounce")
    return Done(addressee, ALL, new, stop(conn, addressee.project_id, addressee.key, ALL, act.at, "does not exist: mail to it has bounced"))


def bounced_softly(conn: Any, addressee: Addressee, act: Act, rules: Rules, terms: Terms, maker: Maker) -> Done:
    """The address has not taken this message; when that wears it out (Rules.worn), no mail goes there for a while. The contact stays as it is."""
    if not terms.soft or not rules.worn(_ends(conn, addressee, act.at), act.at):
        return Done(addressee, ALL, False)
    new = suppressions.add(conn, _entry(addressee, WORN, act, terms.soft, maker))
    return Done(addressee, ALL, new, stop(conn, addressee.project_id, addressee.key, ALL, act.at, "has taken no mail for days"))


def _ends(conn: Any, addressee: Addressee, now: float) -> list[End]:
    found = recipients.ends(conn, addressee.project_id, addressee.key, now - bounces.WITHIN)
    return [End(at, state in TAKEN, reply, mx, phase) for at, state, reply, mx, phase in found if state in (*TAKEN, BROKEN, EXPIRED)]


def complained(conn: Any, addressee: Addressee, act: Act, maker: Maker) -> Done:
    """The recipient called the message spam: nothing more goes there from this project. A second report changes nothing."""
    entry = _entry(addressee, COMPLAINED, act, 0.0, maker)
    new = suppressions.add(conn, entry)
    contact = contacts.by_key(conn, addressee.project_id, addressee.key)
    number = contact.id if contact else None
    told = {"to": addressee.address, **{name: value for name, value in act.more.items() if value}}
    events.append(conn, [Event(addressee.project_id, "email.complained", act.at, addressee.message_id, addressee.id, number, told)])
    if contact is not None:
        _refused(conn, contact, ALL, act, entry.evidence, "complaint")
    return Done(addressee, ALL, new, stop(conn, addressee.project_id, addressee.key, ALL, act.at, "has reported mail as spam"))


def _entry(addressee: Addressee, reason: str, act: Act, lasts: float, maker: Maker) -> Suppression:
    evidence = evidence_of(act) | {"message_id": addressee.message_id, "recipient_id": addressee.id}
    return Suppression(maker.next(), addressee.project_id, addressee.key, addressee.address, reason, ALL, evidence, act.at, act.at + lasts if lasts else None)


def undo(conn: Any, project: int, wanted: suppressions.Filter, act: Act, limit: int) -> int:
    """How many entries that match were taken back, at most `limit`; call until it is none."""
    return _taken_back(conn, suppressions.undo(conn, project, wanted, limit), act)


def lift(conn: Any, entry: Suppression, act: Act) -> None:
    """Take back this entry, unless a graver one has come in its place."""
    _taken_back(conn, [gone for gone in suppressions.remove(conn, entry.project_id, entry.key, entry.scope) if gone.id == entry.id], act)


def lapse(conn: Any, act: Act, limit: int) -> int:
    """How many entries, of all projects, ended because their time was over, at most `limit`; call until it is none."""
    return _taken_back(conn, suppressions.lapsed(conn, act.at, limit), act)


def _taken_back(conn: Any, gone: Sequence[Suppression], act: Act) -> int:
    for entry in gone:
        contact = contacts.by_key(conn, entry.project_id, entry.key) if entry.reason == BOUNCED else None
        if contact is not None and _by_this(history.last(conn, contact.id, ("subscribed", "unsubscribed")), entry) and _agreed(conn, contact, ALL, act):
            events.append(conn, [Event(contact.project_id, "contact.subscribed", act.at, contact_id=contact.id, data=_told(contact, act))])
    return len(gone)


def _by_this(last: Entry | None, entry: Suppression) -> bool:
    """Whether the contact's last change was the unsubscribe that this bounce brought."""
    return last is not None and last.act == "unsubscribed" and last.evidence.get("recipient_id") == entry.evidence.get("recipient_id") is not None


def stop(conn: Any, project: int, key: str, wide: str, now: float, why: str = "has unsubscribed") -> tuple[int, ...]:
    """End the queued copies to this address that the scope stops."""
    wanted = queue.Filter(
        project=project, address=key, topic=wide.removeprefix("topic:") if wide.startswith("topic:") else None,
        stream=MARKETING if wide == MARKETING else None)
    reply, stopped = Reply(550, "5.7.1", f"<{key}> {why}"), []
    while some := queue.end(conn, wanted, "suppressed", reply, now, SLICE):
        stopped += some
    return tuple(stopped)


def resubscribe(conn: Any, number: int, native: str, act: Act) -> Done:
    """The recipient of this id takes an unsubscribe back; bounces and complaints stay. Raises NotFound."""
    addressee = recipients.get(conn, number)
    return back_to(conn, addressee, scope(addressee, native), act)


def back_to(conn: Any, addressee: Addressee, wide: str, act: Act) -> Done:
    """They take that back, of themselves as they are remembered after their deletion too."""
    if act.forgotten:
        hashes = [history.hashed(addressee.key, each) for each in act.forgotten]
        history.relent(conn, addressee.project_id, hashes, MARKETING if wide == ALL else wide)
    standing = [entry for entry in suppressions.of(conn, addressee.project_id, addressee.key) if entry.scope == wide and entry.reason == LEFT]
    if not standing:
        return Done(addressee, wide, False)
    suppressions.remove(conn, addressee.project_id, addressee.key, wide)
    contact = contacts.by_key(conn, addressee.project_id, addressee.key)
    told = {"to": addressee.address, "source": act.source, "scope": wide}
    number = contact.id if contact else None
    events.append(conn, [Event(addressee.project_id, "contact.subscribed", act.at, addressee.message_id, addressee.id, number, told)])
    if contact is not None:
        _agreed(conn, contact, wide, act)
    return Done(addressee, wide, True)


def unsubscribed(conn: Any, number: int, native: str) -> bool:
    """Whether the recipient of this id gets no more of it already; raises NotFound."""
    addressee = recipients.get(conn, number)
    wide = scope(addressee, native)
    return any(entry.scope in (wide, ALL) and entry.reason != SNOOZED for entry in suppressions.of(conn, addressee.project_id, addressee.key))


# Acts on a contact, by its own project or by the person.


def leave(conn: Any, contact: Contact, act: Act, maker: Maker) -> tuple[int, ...]:
    """No marketing mail to the contact any more; the recipients whose copies no longer wait. A second time changes nothing."""
    return _leave(conn, contact, MARKETING, act, maker)


def leave_topic(conn: Any, contact: Contact, topic: int, act: Act, maker: Maker) -> tuple[int, ...]:
    """No mail of this topic to the contact any more; otherwise as `leave`."""
    return _leave(conn, contact, topics.scope(topic), act, maker)


def _leave(conn: Any, contact: Contact, wide: str, act: Act, maker: Maker) -> tuple[int, ...]:
    evidence = evidence_of(act)
    suppressions.add(conn, Suppression(maker.next(), contact.project_id, contact.key, contact.email, LEFT, wide, evidence, act.at))
    _refused(conn, contact, wide, act, evidence)
    return stop(conn, contact.project_id, contact.key, wide, act.at)


def join(conn: Any, contact: Contact, act: Act) -> None:
    """The contact wants marketing mail: their unsubscribe is lifted, of whatever width, and a snooze; bounces, complaints and manual entries stay."""
    woken(conn, contact.project_id, contact.key)
    for entry in suppressions.of(conn, contact.project_id, contact.key):
        if entry.reason == LEFT and entry.scope in (ALL, MARKETING):
            suppressions.remove(conn, contact.project_id, contact.key, entry.scope)
    if _agreed(conn, contact, MARKETING, act):
        events.append(conn, [Event(contact.project_id, "contact.subscribed", act.at, contact_id=contact.id, data=_told(contact, act))])


def confirmed(conn: Any, contact: Contact, topic: int | None, act: Act) -> None:
    """The person has proven that they want marketing mail, and that of this topic if one is named; the evidence is kept where nothing changes too."""
    known = not contact.unsubscribed
    join(conn, contact, act)
    if known:
        history.append(conn, [Entry(contact.id, act.at, "subscribed", act.source, evidence_of(act))])
    if topic is not None:
        join_topic(conn, contact, topic, act)


def join_topic(conn: Any, contact: Contact, topic: int, act: Act) -> None:
    """The contact wants mail of this topic."""
    wide = topics.scope(topic)
    if any(entry.reason == LEFT for entry in suppressions.of(conn, contact.project_id, contact.key) if entry.scope == wide):
        suppressions.remove(conn, contact.project_id, contact.key, wide)
    opted_in(conn, contact, wide, act)


def woken(conn: Any, project: int, key: str) -> bool:
    """Whether a snooze stood there and is lifted."""
    standing = any(entry.reason == SNOOZED for entry in suppressions.of(conn, project, key))
    return standing and bool(suppressions.remove(conn, project, key, MARKETING))


def opted_in(conn: Any, contact: Contact, wide: str, act: Act) -> None:
    """The contact wants what this scope names, a topic; told if that is new."""
    if _agreed(conn, contact, wide, act):
        told = {**_told(contact, act), "scope": wide}
        events.append(conn, [Event(contact.project_id, "contact.subscribed", act.at, contact_id=contact.id, data=told)])


def _refused(conn: Any, contact: Contact, wide: str, act: Act, evidence: dict[str, Any], reason: str = "") -> None:
    """Write on the contact that this is not wanted, unless it says so already; `reason` "bounce" | "complaint" where it was no act of the person."""
    topic = topics.scoped(wide)
    if topic is not None:
        if topics.set_state(conn, contact, topic, False, act.at):
            history.append(conn, [Entry(contact.id, act.at, "topic_unsubscribed", act.source, {**evidence, "topic_id": topics.public(topic)})])
    elif contacts.set_unsubscribed(conn, contact.id, True, act.at):
        history.append(conn, [Entry(contact.id, act.at, "unsubscribed", act.source, evidence)])
        told = _told(contact, act) | ({"reason": reason} if reason else {})
        events.append(conn, [Event(contact.project_id, "contact.unsubscribed", act.at, contact_id=contact.id, data=told)])


def _agreed(conn: Any, contact: Contact, wide: str, act: Act) -> bool:
    """Write on the contact that this is wanted; whether that is new."""
    topic = topics.scoped(wide)
    flip = topic is None and contacts.set_unsubscribed(conn, contact.id, False, act.at)
    new = flip or (topic is not None and topics.set_state(conn, contact, topic, True, act.at))
    if new:
        evidence = evidence_of(act) | ({} if topic is None else {"topic_id": topics.public(topic)})
        history.append(conn, [Entry(contact.id, act.at, "subscribed" if topic is None else "topic_subscribed", act.source, evidence)])
    return new


def evidence_of(act: Act) -> dict[str, Any]:
    """Who did it and how, as the entry and the history keep it."""
    return {name: value for name, value in {"source": act.source, "client": act.client, "agent": act.agent[:200], **act.more}.items() if value}


def _told(contact: Contact, act: Act) -> dict[str, Any]:
    return {"email": contact.email, "source": act.source}
