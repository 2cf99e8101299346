"""Before the first copy: the texts as they will be said, looked at by the whole admit chain once a variant, and what the audience is asked.

The check is a copy to the author's own address that is judged and then let go: domain, limits and rspamd say what they would say to the first contact. Its
spam score goes on the variant, and the copies are not scored again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relay import copies, templates
from relay.copies import Letter
from relay.errors import Invalid
from relay.mail.mime import Texts
from relay.store import events
from relay.store import templates as stored
from relay.store.audience import topics
from relay.store.broadcasts import broadcasts, ledger, tally
from relay.store.broadcasts.broadcasts import DRAFT, HEADLESS, QUEUED, SCHEDULED, SENDING, Broadcast, Variant
from relay.store.engine import Store
from relay.store.events import Event

if TYPE_CHECKING:
    from relay.submission import Door

SCORE = "spam_score"
TOLD = 90 * 86_400.0  # seconds after its start in which events are still written on a broadcast


def letter(broadcast: Broadcast, variant: Variant) -> Letter:
    """What its copies say."""
    return Letter(
        broadcast.sender, variant.texts, tuple(broadcast.reply_to), topics.public(broadcast.topic_id) if broadcast.topic_id is not None else "",
        stream=broadcast.stream, footer=broadcast.kind != HEADLESS, everything=broadcast.dialect != "plunk", opens=broadcast.tracking.get("opens"),
        clicks=broadcast.tracking.get("clicks"), tags=(broadcast.public_id,))


async def wording(store: Store, broadcast: Broadcast) -> list[Variant]:
    """Its variants as they are now: those of its test, else the template's published texts or its own as number 1. Raises Invalid, NotFound, Refuse."""
    if broadcast.ab_test is not None:
        return await store.read(broadcasts.variants, broadcast.id)
    texts = broadcast.texts
    if broadcast.template_id is not None:
        texts = await store.read(stored.published, broadcast.project_id, broadcast.template_id)
        texts = Texts(broadcast.subject or texts.subject, texts.html, texts.text)
    return [Variant(1, "", texts.subject, texts.html, texts.text)]


def sound(texts: Texts) -> None:
    """Raises Invalid for texts that could never be sent."""
    if not texts.subject.strip():
        raise Invalid("subject", "subject is required")
    if texts.html is None and texts.text is None:
        raise Invalid("html", "one of html and text is required, or a template_id")
    templates.variables(texts)


async def checked(door: Door, broadcast: Broadcast, given: Sequence[Variant], number: int) -> list[Variant]:
    """The variants with what the admit chain found; raises what it raises: Refuse, Defer, Invalid.

    number  an id for the recipient of the check
    """
    found = []
    for variant in given:
        sound(variant.texts)
        said = letter(broadcast, variant)
        octets = copies.build(said, said.address, {})
        message = await copies.judge(door, broadcast.principal, said, copies.recipient(number, said.address), octets, "broadcast")
        await door.let_go((message,))
        facts = {name: message.facts[name] for name in (SCORE, "spam_warnings") if name in message.facts}
        found.append(replace(variant, facts={SCORE: None, **facts}))
    return found


def accept(conn: Any, number: int, status: str, values: dict[str, Any], given: Sequence[Variant]) -> bool:
    """Whether a draft, or one that waits for its time, is to be sent by this, with what its check found."""
    if not broadcasts.move(conn, number, (DRAFT, SCHEDULED), status, **values):
        return False
    broadcasts.drop_variants(conn, number)
    broadcasts.put_variants(conn, number, given)
    return True


async def final(store: Store, door: Door, broadcast: Broadcast, number: int) -> list[Variant]:
    """Its variants, checked: a moment ago when it was sent, or now when it has waited for its time. Raises as `checked`."""
    known = await store.read(broadcasts.variants, broadcast.id)
    if broadcast.scheduled_at is None and known and all(SCORE in v.facts for v in known):
        return known
    return await checked(door, broadcast, await wording(store, broadcast), number)


def begin(conn: Any, broadcast: Broadcast, given: Sequence[Variant], until: int, now: float) -> bool:
    """Whether the broadcast is sending now by this: its texts and its question are what they are from here on. Raises NotFound for a segment that is gone.

    until  the last contact's id that can exist at this moment
    """
    asked = ledger.question(conn, broadcast, now)
    if not broadcasts.any_since(conn, now - TOLD):
        tally.begin(conn, events.latest(conn))
    if not broadcasts.move(conn, broadcast.id, (QUEUED, SCHEDULED), SENDING, started_at=now, asked=asked, until=until, updated_at=now):
        return False
    broadcasts.drop_variants(conn, broadcast.id)
    broadcasts.put_variants(conn, broadcast.id, given)
    told(conn, broadcast, "broadcast.started", now, {})
    return True


def told(conn: Any, broadcast: Broadcast, kind: str, now: float, more: dict[str, Any]) -> None:
    data = {"broadcast_id": broadcast.public_id, "name": broadcast.name, "subject": broadcast.subject, **more}
    events.append(conn, [Event(broadcast.project_id, kind, now, data=data)])


