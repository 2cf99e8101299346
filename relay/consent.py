"""Consent: what a person's act means for the mail that they still get, one function an act, each one transaction.

    act                                             entry                         event
    ----------------------------------------------  ----------------------------  ------------------
    unsubscribe, mail with a topic                  unsubscribe, topic:<id>       email.unsubscribed
    unsubscribe, mail sent with unsubscribe: true   unsubscribe, all (or          email.unsubscribed
                                                    marketing, by [suppress])
    unsubscribe, other marketing mail               unsubscribe, marketing        email.unsubscribed
    resubscribe                                     lifts what unsubscribe wrote  contact.subscribed

An act writes the entry with its evidence and the event, and ends the queued copies that it stops. What is on the wire already is stopped too as long as MAIL
is not written: the entry is read again just before it. Hard bounces and complaints are no acts of consent and are never lifted here.

Whoever calls is given by argument what came of it, and tells the runner which recipients to forget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay.mail.ids import Maker
from relay.mail.message import MARKETING
from relay.mail.reply import Reply
from relay.store import events, queue, recipients, suppressions
from relay.store.events import Event
from relay.store.recipients import Addressee
from relay.store.suppressions import ALL, Suppression

LEFT = "unsubscribe"
SLICE = 1_000  # queue rows that one act ends before it goes on with the next ones


@dataclass(frozen=True, slots=True)
class Act:
    """Who did it and how, for the evidence: source "one-click" | "page" | "mailto" | "api"; what of it is not known is ""."""

    source: str
    client: str = ""  # IP address
    agent: str = ""  # User-Agent
    at: float = 0.0  # UTC seconds


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
    wide = scope(addressee, native)
    evidence = {"source": act.source, "client": act.client, "agent": act.agent[:200], "message_id": addressee.message_id, "recipient_id": addressee.id}
    entry = Suppression(maker.next(), addressee.project_id, addressee.key, addressee.address, LEFT, wide,
                        {name: value for name, value in evidence.items() if value}, act.at)
    if not suppressions.add(conn, entry):
        return Done(addressee, wide, False, _stop(conn, addressee, wide, act.at))
    told = {"to": addressee.address, "source": act.source, "scope": wide}
    events.append(conn, [Event(addressee.project_id, "email.unsubscribed", act.at, addressee.message_id, addressee.id, data=told)])
    return Done(addressee, wide, True, _stop(conn, addressee, wide, act.at))


def _stop(conn: Any, addressee: Addressee, wide: str, now: float) -> tuple[int, ...]:
    """End the queued copies to this address that the scope stops."""
    wanted = queue.Filter(
        project=addressee.project_id, address=addressee.key, topic=wide.removeprefix("topic:") if wide.startswith("topic:") else None,
        stream=MARKETING if wide == MARKETING else None)
    reply, stopped = Reply(550, "5.7.1", f"<{addressee.address}> has unsubscribed"), []
    while some := queue.end(conn, wanted, "suppressed", reply, now, SLICE):
        stopped += some
    return tuple(stopped)


def resubscribe(conn: Any, number: int, native: str, act: Act) -> Done:
    """The recipient of this id takes an unsubscribe back; bounces and complaints stay. Raises NotFound."""
    addressee = recipients.get(conn, number)
    wide = scope(addressee, native)
    standing = [entry for entry in suppressions.of(conn, addressee.project_id, addressee.key) if entry.scope == wide and entry.reason == LEFT]
    if not standing:
        return Done(addressee, wide, False)
    suppressions.remove(conn, addressee.project_id, addressee.key, wide)
    told = {"to": addressee.address, "source": act.source, "scope": wide}
    events.append(conn, [Event(addressee.project_id, "contact.subscribed", act.at, addressee.message_id, addressee.id, data=told)])
    return Done(addressee, wide, True)


def unsubscribed(conn: Any, number: int, native: str) -> bool:
    """Whether the recipient of this id gets no more of it already; raises NotFound."""
    addressee = recipients.get(conn, number)
    wide = scope(addressee, native)
    return any(entry.scope in (wide, ALL) for entry in suppressions.of(conn, addressee.project_id, addressee.key))
