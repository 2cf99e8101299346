"""POST /emails, /emails/send, /emails/batch: from a request to a Receipt of the door.

    body ─► SendInput ─► had this key before? ─► template ─► recipients ─► message ─► admit chain ─► commit ─► answer

The two routes read their body themselves, since FastAPI's way costs as much as all the rest; they are in the OpenAPI document like every other. What the
answer says was on the disk before.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import ValidationError

from relay import templates
from relay.api import draft, errors, limits
from relay.api.core import Json, Relay, principal, relay
from relay.api.draft import SendInput
from relay.errors import Conflict, Invalid, Malformed, NotFound, Refuse, RelayError
from relay.mail import ids, mime
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient
from relay.mail.mime import Spooled, Texts
from relay.mail.reply import Reply
from relay.store import emails, idempotency
from relay.store import templates as stored
from relay.submission import Receipt

BATCH = 100  # emails of one request
LARGE = 500_000  # characters of attachments from which a message is built in a thread
TOGETHER = 20  # emails of a batch that are under way at once
HEADER_KEY = 255  # characters of an Idempotency-Key field
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL, not an escaped backslash before "u0000"
REPLAY = {"X-Idempotent-Replay": "true"}

REUSED = "this idempotency key was used for a different email"

router = APIRouter(tags=["Emails"])


async def send(here: Relay, who: Principal, given: SendInput, header_key: str = "", client: str = "") -> dict[str, Any]:
    """The answer to one email, committed; raises RelayError.

    header_key  the Idempotency-Key field; the body's own key wins
    client      the caller's IP address
    """
    key = given.idempotency_key or header_key
    digest = draft.fingerprint(given) if key else ""
    now = here.clock.now()
    if key:
        earlier = await here.store.point(idempotency.get, who.project, "http", key, now)
        if earlier is not None:
            return await _replayed(here, who, earlier, digest)
    texts = await _texts(here, who, given)
    sender = draft.author(given)
    people = draft.recipients(given, here.maker)
    kept, dropped = await _allowed(here, who, sender, people)
    content = await _built(given, texts)
    wishes = draft.wishes(given, key, digest, now)
    smtputf8 = not (sender.isascii() and all(r.address.isascii() for r in people))
    admitted = await here.door.judge(
        who, Envelope(sender, tuple(kept), smtputf8=smtputf8), content, Origin("http", client), wishes, dropped=dropped, facts=_facts(given))
    await _somebody(here, admitted)
    receipt = await _kept(here, admitted)
    if receipt.replayed:
        return await _earlier(here, who, ids.internal(receipt.id, "em") or 0)
    return _answer(receipt.id, receipt.message.facts, [r.address for r, _ in receipt.message.dropped], who.mode)


def _answer(name: str, facts: dict[str, Any], suppressed: Sequence[str], mode: str) -> dict[str, Any]:
    out = {"id": name, "spam_score": facts.get("spam_score"), "spam_warnings": facts.get("spam_warnings", [])}
    if suppressed:
        out["suppressed"] = list(suppressed)
    if mode == "test":
        out["test_mode"] = True
    return out


async def _replayed(here: Relay, who: Principal, earlier: idempotency.Entry, digest: str) -> dict[str, Any]:
    if earlier.hash != digest:
        raise Refuse(Reply(550, "5.7.0", REUSED), "idempotency_key_reused")
    return await _earlier(here, who, int(earlier.answer["message_id"]))


async def _earlier(here: Relay, who: Principal, number: int) -> dict[str, Any]:
    """What the first request with this key was told, marked as a replay."""
    name = ids.public("em", number)
    try:
        email = await here.store.read(emails.get, who.project, number)
    except NotFound:  # retention took it before its key expired
        return {**_answer(name, {}, (), who.mode), "replayed": True}
    left_out = [r.address for r in email.recipients if r.state == "suppressed" and r.ended_at == email.row.created_at]
    return {**_answer(name, email.row.facts, left_out, email.row.origin.get("mode", "live")), "replayed": True}


async def _texts(here: Relay, who: Principal, given: SendInput) -> Texts:
    """Subject, HTML and text as they will be read: the caller's own, or the template's with the variables in place."""
    if given.template_id is None:
        if given.subject is None:
            raise Invalid("subject", "subject is required")
        return Texts(given.subject, given.html, given.text)
    number = ids.internal(given.template_id, "tpl")
    if number is None:
        raise NotFound("Template not found")
    source = await here.store.read(stored.published, who.project, number)
    return templates.render(source, given.variables or {}, templates.LATER)


async def _allowed(here: Relay, who: Principal, sender: str, people: Sequence[Recipient]) -> tuple[list[Recipient], list[tuple[Recipient, Reply]]]:
    """Who may get it, and who may not and why; raises Refuse when nobody may. A "not now" is left to the admit chain, which knows for how long."""
    kept, dropped = [], []
    envelope = Envelope(sender)
    for recipient in people:
        reply = await here.door.recipient(who, envelope, recipient)
        if reply is not None and reply.permanent:
            dropped.append((recipient, reply))
        else:
            kept.append(recipient)
    if not kept:
        raise _nobody(dropped)
    return kept, dropped


async def _somebody(here: Relay, admitted: Sequence[Message]) -> None:
    """Raises Refuse when the admit chain left nobody to send to; then nothing is kept."""
    if not any(message.recipients for message in admitted):
        await here.door.let_go(admitted)
        raise _nobody([pair for message in admitted for pair in message.dropped])


def _nobody(dropped: Sequence[tuple[Recipient, Reply]]) -> Refuse:
    text = dropped[0][1].text if len(dropped) == 1 else f"all {len(dropped)} recipients are suppressed; nothing was sent"
    return Refuse(Reply(550, "5.7.1", text), "recipient_suppressed")


async def _built(given: SendInput, texts: Texts) -> bytes:
    content = draft.draft(given, texts)
    if sum(LARGE if isinstance(a.content, Spooled) else len(a.content) for a in given.attachments) >= LARGE:
        return await asyncio.to_thread(mime.build, content)
    return mime.build(content)


def _facts(given: SendInput) -> dict[str, Any]:
    """Who was named where, for the ledger: recipients alone do not say who was in copy."""
    return {name: draft.bare(getattr(given, name), name) for name in ("cc", "bcc") if getattr(given, name)}


async def _kept(here: Relay, admitted: Sequence[Message]) -> Receipt:
    try:
        return await here.door.keep(admitted)
    except Conflict as error:
        if error.code == "idempotency_key_reused":
            raise Refuse(Reply(550, "5.7.0", REUSED), error.code) from None
        raise


def parsed(octets: bytes | Any) -> Any:
    """The JSON of a body, or of a large one that was parsed already; raises Malformed, or Invalid for a NUL in any text, which no column takes."""
    if not isinstance(octets, bytes):
        return octets
    if b"\\u0000" in octets and _NUL.search(octets):
        raise Invalid("body", "a text contains a NUL")
    try:
        return orjson.loads(octets)
    except orjson.JSONDecodeError:
        raise Malformed from None


def shaped(value: Any) -> SendInput:
    """Raises Invalid naming the field at fault."""
    try:
        return SendInput.model_validate(value)
    except ValidationError as error:
        raise errors.invalid(error) from None


def _header_key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if len(key) > HEADER_KEY:
        raise Invalid("Idempotency-Key", f"Idempotency-Key has at most {HEADER_KEY} characters")
    return key


async def send_one(request: Request) -> Json:
    """Send a single email: sender names, CC/BCC, attachments, scheduling, templates, idempotency keys."""
    try:
        here, who = relay(request), await principal(request)
        async with here.spool.body(request) as body:
            answer = await send(here, who, shaped(parsed(body)), _header_key(request), _client(request))
        room = await limits.headers(here, who)
    except RelayError as error:
        return errors.answer(error)
    return Json(answer, 202, {**room, **(REPLAY if answer.get("replayed") else {})})


async def send_batch(request: Request) -> Json:
    """Send up to 100 emails in a single request, each independent of the others: an element that fails says why in its place."""
    try:
        here, who = relay(request), await principal(request)
        async with here.spool.body(request) as body:
            data = await _each(here, who, _rows(parsed(body)), _header_key(request), _client(request))
        room = await limits.headers(here, who)
    except RelayError as error:
        return errors.answer(error)
    return Json({"data": data}, 202, {**room, **(REPLAY if all(each.get("replayed") for each in data) else {})})


def _rows(given: Any) -> list[Any]:
    """The emails of a batch; raises Invalid or Refuse."""
    rows = given.get("emails") if isinstance(given, dict) else None
    if not isinstance(rows, list) or not rows:
        raise Invalid("emails", "emails is a list of 1 to 100 emails")
    if len(rows) > BATCH:
        raise Refuse(Reply(552, "5.3.4", "Batch size exceeds limit"), "batch_too_large")
    return rows


async def _each(here: Relay, who: Principal, rows: list[Any], header_key: str, client: str) -> list[dict[str, Any]]:
    """The answer to each email of a batch, in their order."""
    turns = asyncio.Semaphore(TOGETHER)

    async def one(number: int, row: Any) -> dict[str, Any]:
        async with turns:
            try:
                return await send(here, who, shaped(row), f"{header_key}#{number}" if header_key else "", client)
            except RelayError as error:
                return errors.body(error)

    return await asyncio.gather(*(one(number, row) for number, row in enumerate(rows)))


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


for path in ("/emails", "/emails/send"):
    router.add_route(path, send_one, methods=["POST"])
router.add_route("/emails/batch", send_batch, methods=["POST"])
