"""Acts on contacts: make, change, erase; each a plain function of a Connection, for one transaction, with its events and its history.

What the person said before counts: whoever had opted out, and was deleted or never was a contact, is unsubscribed again when somebody adds them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from relay import consent
from relay.audience import membership, values
from relay.consent import Act
from relay.errors import Conflict, NotFound
from relay.mail.ids import Maker
from relay.mail.message import MARKETING
from relay.store import events, suppressions, webhooks
from relay.store.audience import contacts, growth, history, properties, topics
from relay.store.audience.contacts import Contact
from relay.store.audience.history import Entry
from relay.store.events import Event
from relay.store.suppressions import ALL

EXISTS = "Contact already exists"
FIELDS = ("email", "first_name", "last_name", "properties", "tags", "add_tags", "remove_tags", "unsubscribed")


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, where and with what: `secrets` as in settings.secret_key, for the hashes of those who are forgotten."""

    project: int
    act: Act
    maker: Maker
    secrets: tuple[str, ...]

    def hashes(self, key: str) -> list[str]:
        """What may stand for this address among the opt-outs, by the newest secret first."""
        return [history.hashed(key, each) for each in forgetful(self.secrets)]


def forgetful(secrets: Sequence[str]) -> list[bytes]:
    """The keys of the hashes that stand for those who are forgotten, one a secret."""
    return [hmac.digest(secret.encode(), b"relay opt-out", hashlib.sha256) for secret in secrets]


@dataclass(frozen=True, slots=True)
class Changed:
    """A contact after an act; `new` if it was made; `stopped` are recipients whose copies no longer wait."""

    contact: Contact
    new: bool = False
    stopped: tuple[int, ...] = ()


def create(conn: Any, given: Mapping[str, Any], by: By) -> Changed:
    """A new contact from the FIELDS given; raises Conflict when the address is there, Invalid for what no contact may hold."""
    key = values.key(given.get("email"))
    definitions = properties.of(conn, by.project)
    now = by.act.at
    blank = Contact(by.maker.next(), by.project, key, str(given["email"]).strip(), None, None, {}, [], False, None, None, now, now)
    contact = _applied(blank, given, definitions)
    values.complete(contact.properties, definitions)
    if not contacts.add(conn, contact):
        raise Conflict(EXISTS)
    events.append(conn, [Event(by.project, "contact.created", now, contact_id=contact.id, data={"email": contact.email})])
    history.append(conn, [Entry(contact.id, now, "created", by.act.source, dict(by.act.more))])
    stopped = _remembered(conn, contact, by)
    if given.get("unsubscribed"):
        stopped += consent.leave(conn, contact, by.act, by.maker)
    membership.follow(conn, [contact.id], now)
    return Changed(contacts.get(conn, by.project, contact.id), True, stopped)


def change(conn: Any, number: int, given: Mapping[str, Any], by: By) -> Changed:
    """The contact with the FIELDS given; what is absent stays. Raises NotFound, Invalid, and Conflict for an address that another contact has."""
    changed = _change(conn, number, given, by)
    membership.follow(conn, [number], by.act.at)
    return changed


def _change(conn: Any, number: int, given: Mapping[str, Any], by: By) -> Changed:
    old = contacts.get(conn, by.project, number)
    definitions = properties.of(conn, by.project)
    if "email" in given:
        given = {**given, "key": values.key(given["email"])}
        other = contacts.by_key(conn, by.project, given["key"])
        if other is not None and other.id != number:
            raise Conflict(EXISTS)
    new = _applied(old, given, definitions)
    if "properties" in given:
        values.complete(new.properties, {name: each for name, each in definitions.items() if name in old.properties})
    if new != old:
        contacts.save(conn, replace(new, updated_at=by.act.at))
        told = {"email": new.email, "changed": [name for name in ("email", "first_name", "last_name", "properties", "tags")
                                                if getattr(new, name) != getattr(old, name)]}
        if new.properties != old.properties:
            told["properties"] = contacts.differing(old.properties, new.properties)
        events.append(conn, [Event(by.project, "contact.updated", by.act.at, contact_id=number, data=told)])
    stopped = _remembered(conn, new, by, _refused(conn, old)) if new.key != old.key else ()
    wanted = given.get("unsubscribed")
    if wanted is True:
        stopped += consent.leave(conn, new, by.act, by.maker)
    elif wanted is False:
        history.relent(conn, by.project, by.hashes(new.key), MARKETING)
        consent.join(conn, new, by.act)
    return Changed(contacts.get(conn, by.project, number), False, stopped)


def upsert(conn: Any, given: Mapping[str, Any], by: By) -> Changed:
    """The contact of this address with the FIELDS given, made if there was none."""
    key = values.key(given.get("email"))
    found = contacts.by_key(conn, by.project, key)
    if found is None:
        with suppress(Conflict):  # an import or another node may make it this very moment
            return create(conn, given, by)
        found = contacts.by_key(conn, by.project, key)
    if found is None:
        raise NotFound("Contact not found")
    return change(conn, found.id, {name: value for name, value in given.items() if name != "email"}, by)


def _applied(contact: Contact, given: Mapping[str, Any], definitions: Mapping[str, properties.Property]) -> Contact:
    """The contact with what was given, checked, but for its consent."""
    new: dict[str, Any] = {name: values.text(given[name], name) for name in ("first_name", "last_name") if name in given}
    if "key" in given:
        new |= {"key": given["key"], "email": str(given["email"]).strip()}
    if given.get("properties") is not None:
        new["properties"] = values.merged(contact.properties, values.properties(given["properties"], definitions))
    tags = contact.tags if given.get("tags") is None else values.tags(given["tags"])
    gone = set(values.tags(given.get("remove_tags") or [], "remove_tags"))
    new["tags"] = values.tags([tag for tag in (*tags, *values.tags(given.get("add_tags") or [], "add_tags")) if tag not in gone])
    return replace(contact, **new)


def _refused(conn: Any, contact: Contact) -> set[str]:
    """The scopes that the contact has opted out of, by what is written on itself."""
    return {topics.scope(each.topic.id) for each in topics.of_contact(conn, contact) if not each.subscribed} | ({MARKETING} if contact.unsubscribed else set())


def _remembered(conn: Any, contact: Contact, by: By, more: Collection[str] = ()) -> tuple[int, ...]:
    """Write down again what the person behind this address opted out of before, and `more` scopes; nothing of it is news to anybody."""
    scopes = {*more} | {scope for found in history.remembered(conn, by.project, by.hashes(contact.key)).values() for scope in found}
    scopes |= {entry.scope for entry in suppressions.of(conn, by.project, contact.key) if entry.reason == consent.LEFT}
    earlier, stopped = replace(by.act, source="earlier"), ()
    for scope in sorted(scopes):
        topic = topics.scoped(scope)
        if topic is None:
            stopped += consent.leave(conn, contact, earlier, by.maker)
        elif topic:
            stopped += consent.leave_topic(conn, contact, topic, earlier, by.maker)
    return stopped


def erase(conn: Any, numbers: Sequence[int], by: By) -> int:
    """How many of these contacts of the project went, with all that hung on them; their opt-outs stay, as hashes, and suppressions as they are."""
    found = contacts.by_ids(conn, by.project, numbers)
    for contact in found:
        scopes = _refused(conn, contact) | {entry.scope for entry in suppressions.of(conn, by.project, contact.key) if entry.reason == consent.LEFT}
        history.forget(conn, by.project, by.hashes(contact.key), sorted({MARKETING if scope == ALL else scope for scope in scopes}), by.act.at)
    gone = [contact.id for contact in found]
    webhooks.forget(conn, gone)
    events.forget_contacts(conn, gone)
    membership.erased(conn, gone, by.act.at)
    growth.erased(conn, gone, by.act.at)
    contacts.erase(conn, gone)
    events.append(conn, [Event(by.project, "contact.deleted", by.act.at, contact_id=contact.id) for contact in found])
    return len(found)


def leave(conn: Any, number: int, by: By) -> Changed:
    """The contact, unsubscribed from marketing; raises NotFound."""
    contact = contacts.get(conn, by.project, number)
    stopped = consent.leave(conn, contact, by.act, by.maker)
    membership.follow(conn, [number], by.act.at)
    return Changed(contacts.get(conn, by.project, number), False, stopped)


def subscribe(conn: Any, number: int, topic: int, wanted: bool, by: By) -> tuple[topics.Subscription, tuple[int, ...]]:
    """What the contact says of a topic from now on, and whose copies no longer wait; raises NotFound."""
    contact = contacts.get(conn, by.project, number)
    topics.get(conn, by.project, topic)
    stopped: tuple[int, ...] = ()
    if wanted:
        history.relent(conn, by.project, by.hashes(contact.key), topics.scope(topic))
        consent.join_topic(conn, contact, topic, by.act)
    else:
        stopped = consent.leave_topic(conn, contact, topic, by.act, by.maker)
    membership.follow(conn, [number], by.act.at)
    for each in topics.of_contact(conn, contact):
        if each.topic.id == topic:
            return each, stopped
    raise NotFound("Topic not found")


def remove_topic(conn: Any, project: int, topic: int, now: float) -> None:
    """Delete a topic; contacts stay. Raises NotFound."""
    topics.remove(conn, project, topic)
    membership.rebase(conn, project, (), now, ("topic", topic))


# Many at once, in slices.

TAG, UNTAG, UNSUBSCRIBE, DELETE = "tag", "untag", "unsubscribe", "delete"


def many(conn: Any, numbers: Sequence[int], action: str, tags: Sequence[str], by: By) -> tuple[int, tuple[int, ...]]:
    """How many of these contacts an action of a bulk request changed, and the recipients whose copies no longer wait."""
    if action == DELETE:
        return erase(conn, numbers, by), ()
    done, stopped = 0, ()
    for contact in contacts.by_ids(conn, by.project, numbers):
        if action == UNSUBSCRIBE:
            stopped += consent.leave(conn, contact, by.act, by.maker)
            done += not contact.unsubscribed
            continue
        after = _change(conn, contact.id, {"add_tags" if action == TAG else "remove_tags": list(tags)}, by).contact
        done += after.tags != contact.tags
    return done, stopped
