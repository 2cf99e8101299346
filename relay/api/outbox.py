"""Emails of one request on their way through the door together, from what was asked to an answer each.

    SendInput ─► had this key before? ─► template ─► recipients, message ─► suppressed? ─► admit chain ─► commit ─► answer

Each is independent of the others: one that fails is answered with its error, in its place. What the store is asked (keys, suppressions) it is asked once for
all of them, and all of them go into one commit; what an answer says was on the disk before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from relay import eager, templates
from relay.api import draft
from relay.api.core import Relay
from relay.api.draft import SendInput
from relay.api.spool import UNREADABLE
from relay.errors import Conflict, Defer, Invalid, NotFound, Refuse, RelayError
from relay.mail import ids, mime
from relay.mail.header import Header
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient
from relay.mail.mime import Spooled, Texts
from relay.mail.reply import Reply
from relay.store import emails, idempotency
from relay.store import templates as stored
from relay.store.idempotency import Entry
from relay.submission import Brought, Receipt

LARGE = 500_000  # characters of attachments from which a message is built in a thread
LANES = 20  # emails of a request that are under way at once; each lane is a task, which costs as much as a policy

REUSED = "this idempotency key was used for a different email"


class Asked(Struct, frozen=True):
    """An email as it was asked for; `key` its idempotency key, "" for none, and then `digest` tells it from another with the same key."""

    given: SendInput
    key: str = ""
    digest: str = ""

    @property
    def plain(self) -> bool:
        """Whether nothing must be asked or waited for to put it together."""
        return not self.key and self.given.template_id is None and not self.given.attachments


class Drafted(Struct):
    """An email that can be sent: header and body, who gets it, and who was left out and why."""

    asked: Asked
    sender: str
    content: tuple[Header, bytes]
    people: list[Recipient]
    dropped: list[tuple[Recipient, Reply]]
    smtputf8: bool


def asked(given: SendInput, header_key: str = "") -> Asked:
    """`header_key` is the Idempotency-Key field; the body's own key wins."""
    key = given.idempotency_key or header_key
    return Asked(given, key, draft.fingerprint(given) if key else "")


async def send(here: Relay, who: Principal, each: Asked, client: str = "") -> dict[str, Any]:
    """The answer to one email, committed; raises RelayError."""
    answer, = await send_many(here, who, (each,), client)
    if isinstance(answer, RelayError):
        raise answer
    return answer


async def send_many(here: Relay, who: Principal, wanted: Sequence[Asked | RelayError], client: str = "") -> list[dict[str, Any] | RelayError]:
    """The answer to each email, committed, or why there is none.

    wanted  an error in the place of an email that could not even be read
    client  the caller's IP address
    """
    earlier = await _earlier(here, who, wanted)
    alike: mime.Alike = {}
    quick = [_plain(here, row, alike) if isinstance(row, Asked) and row.plain else row for row in wanted]
    rows = await _lanes(partial(_drafted, here, who, earlier), quick, Asked)
    await _leave_out(here, who, [row for row in rows if isinstance(row, Drafted)])
    rows = await _admitted(here, who, Origin("http", client), rows)
    admitted = [row for row in rows if isinstance(row, tuple)]
    receipts = iter(await here.door.keep_many(admitted))
    answers = [_new(next(receipts), who.mode) if isinstance(row, tuple) else row for row in rows]
    return await _lanes(partial(_answer, here, who), answers, Receipt)


async def _lanes(act: Callable[[Any], Coroutine[Any, Any, Any]], rows: Sequence[Any], kind: type) -> list[Any]:
    """What `act` makes of each row of this kind, or its error; the others, answers and errors of an earlier step among them, stay.

    One after the other, without a task, for as long as none waits (relay.eager); from the first that does, LANES at once.
    """
    out = list(rows)
    left = iter([number for number, row in enumerate(out) if isinstance(row, kind)])

    async def lane() -> None:
        for number in left:
            out[number] = await _tried(act, out[number])

    for number in left:
        ended, result = eager.begin(_tried(act, out[number]))
        if not ended:
            async with asyncio.TaskGroup() as others:
                for _ in range(min(LANES, len(out)) - 1):
                    others.create_task(lane())
                out[number] = await result  # by this task, which has begun it
                await lane()
            break
        out[number] = result
    return out


async def _tried(act: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    try:
        return await act(*args)
    except RelayError as error:
        return error


async def _earlier(here: Relay, who: Principal, wanted: Sequence[Asked | RelayError]) -> Mapping[str, Entry]:
    """The entries of those keys that were used before."""
    keys = [each.key for each in wanted if isinstance(each, Asked) and each.key]
    return await here.store.point(idempotency.among, who.project, "http", keys, here.clock.now()) if keys else {}


async def _drafted(here: Relay, who: Principal, earlier: Mapping[str, Entry], each: Asked) -> Drafted | dict[str, Any]:
    """The email, or for a key that was used before the answer of then."""
    if each.key in earlier:
        return await _replayed(here, who, earlier[each.key], each.digest)
    written = await texts(here, who, each.given)
    sender, people = draft.author(each.given), draft.recipients(each.given, here.maker)
    return _drawn(each, sender, people, await _built(each.given, written))


def _plain(here: Relay, each: Asked, alike: mime.Alike) -> Drafted | RelayError:
    """As `_drafted` for an email without key, template and files: nothing of it waits, which is worth a tenth of what a batch costs."""
    given = each.given
    try:
        written = _own(given)
        sender, people = draft.author(given), draft.recipients(given, here.maker)
        return _drawn(each, sender, people, mime.composed(draft.draft(given, written), alike))
    except RelayError as error:
        return error


def _drawn(each: Asked, sender: str, people: list[Recipient], content: tuple[Header, bytes]) -> Drafted:
    return Drafted(each, sender, content, people, [], not (sender.isascii() and all([person.address.isascii() for person in people])))


def _own(given: draft.ContentInput) -> Texts:
    """The caller's own words."""
    if given.subject is None:
        raise Invalid("subject", "subject is required")
    return Texts(given.subject, given.html, given.text)


async def texts(here: Relay, who: Principal, given: draft.ContentInput) -> Texts:
    """Subject, HTML and text as they will be read: the caller's own, or the template's with the variables in place."""
    if given.template_id is None:
        return _own(given)
    number = ids.internal(given.template_id, "tpl")
    if number is None:
        raise NotFound("Template not found")
    source = await here.store.read(stored.published, who.project, number)
    return templates.render(source, given.variables or {}, templates.LATER)


async def _built(given: SendInput, written: Texts) -> tuple[Header, bytes]:
    content = draft.draft(given, written)
    if given.attachments and sum(LARGE if isinstance(a.content, Spooled) else len(a.content) for a in given.attachments) >= LARGE:
        try:
            return await asyncio.to_thread(mime.composed, content)
        except OSError:
            raise Defer(UNREADABLE, 30.0) from None
    return mime.composed(content)


async def _leave_out(here: Relay, who: Principal, drafted: Sequence[Drafted]) -> None:
    """Take out whom the door refuses for good. A "not now" is left to the admit chain, which knows for how long."""
    pairs = [(envelope, recipient) for each in drafted for envelope in (Envelope(each.sender),) for recipient in each.people]
    replies = iter(await here.door.recipients(who, pairs))
    for each in drafted:
        for recipient in tuple(each.people):
            reply = next(replies)
            if reply is not None and reply.permanent:
                each.people.remove(recipient)
                each.dropped.append((recipient, reply))


async def _admitted(here: Relay, who: Principal, origin: Origin, rows: Sequence[Any]) -> list[Any]:
    """The rows with the messages that the admit chain made of those that can be sent, not yet kept, or their errors."""
    if not here.door.prompt:
        return await _lanes(partial(_judged, here, who, origin), rows, Drafted)
    out = [_brought(here, row) if isinstance(row, Drafted) else row for row in rows]
    places = [number for number, row in enumerate(out) if isinstance(row, Brought)]
    judged = await here.door.judge_each(who, [out[number] for number in places], origin)
    for number, message in zip(places, judged, strict=True):
        out[number] = message if isinstance(message, RelayError) else await _tried(_peopled, here, (message,)) if message.dropped else (message,)
    return out


def _brought(here: Relay, each: Drafted) -> Brought | RelayError:
    given = each.asked.given
    try:
        if not each.people:
            raise _nobody(each.dropped)
        wishes = draft.wishes(given, each.asked.key, each.asked.digest, here.clock.now())
    except RelayError as error:
        return error
    return Brought(Envelope(each.sender, tuple(each.people), smtputf8=each.smtputf8), each.content, wishes, each.dropped, _facts(given))


async def _judged(here: Relay, who: Principal, origin: Origin, each: Drafted) -> tuple[Message, ...]:
    """As `_admitted` for one of a chain that may wait; raises RelayError."""
    brought = _brought(here, each)
    if isinstance(brought, RelayError):
        raise brought
    return await _peopled(here, await here.door.judge(
        who, brought.envelope, brought.content, origin, brought.wishes, dropped=brought.dropped, facts=dict(brought.facts)))


async def _peopled(here: Relay, admitted: Sequence[Message]) -> tuple[Message, ...]:
    """The messages; raises Refuse when nobody is left to send to."""
    if not any(message.recipients for message in admitted):
        await here.door.let_go(admitted)
        raise _nobody([pair for message in admitted for pair in message.dropped])
    return tuple(admitted)


def _nobody(dropped: Sequence[tuple[Recipient, Reply]]) -> Refuse:
    text = dropped[0][1].text if len(dropped) == 1 else f"all {len(dropped)} recipients are suppressed; nothing was sent"
    return Refuse(Reply(550, "5.7.1", text), "recipient_suppressed")


def _facts(given: SendInput) -> dict[str, Any]:
    """Who was named where, for the ledger: recipients alone do not say who was in copy."""
    return {name: draft.bare(said, name) for name, said in (("cc", given.cc), ("bcc", given.bcc)) if said}


def _new(receipt: Receipt | RelayError, mode: str) -> Receipt | RelayError | dict[str, Any]:
    """The answer to an email that was accepted just now, or why it was not; the receipt of one that was sent before."""
    if isinstance(receipt, Conflict) and receipt.code == "idempotency_key_reused":
        return Refuse(Reply(550, "5.7.0", REUSED), receipt.code)
    if isinstance(receipt, RelayError) or receipt.replayed:
        return receipt
    return _told(receipt.id, receipt.message.facts, [r.address for r, _ in receipt.message.dropped], mode)


async def _answer(here: Relay, who: Principal, replayed: Receipt) -> dict[str, Any]:
    return await _as_before(here, who, ids.internal(replayed.id, "em") or 0)


def _told(name: str, facts: Mapping[str, Any], suppressed: Sequence[str], mode: str) -> dict[str, Any]:
    out = {"id": name, "spam_score": facts.get("spam_score"), "spam_warnings": facts.get("spam_warnings", [])}
    if suppressed:
        out["suppressed"] = list(suppressed)
    if mode == "test":
        out["test_mode"] = True
    return out


async def _replayed(here: Relay, who: Principal, earlier: Entry, digest: str) -> dict[str, Any]:
    if earlier.hash != digest:
        raise Refuse(Reply(550, "5.7.0", REUSED), "idempotency_key_reused")
    return await _as_before(here, who, int(earlier.answer["message_id"]))


async def _as_before(here: Relay, who: Principal, number: int) -> dict[str, Any]:
    """What the first request with this key was told, marked as a replay."""
    name = ids.public("em", number)
    try:
        email = await here.store.read(emails.get, who.project, number)
    except NotFound:  # retention took it before its key expired
        return {**_told(name, {}, (), who.mode), "replayed": True}
    left_out = [r.address for r in email.recipients if r.state == "suppressed" and r.ended_at == email.row.created_at]
    return {**_told(name, email.row.facts, left_out, email.row.origin.get("mode", "live")), "replayed": True}
