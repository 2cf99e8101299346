"""POST /emails/preview and /emails/spam-preview: what an email would look like and how it would be judged. Nothing is stored or sent."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from relay.api import draft, insights, outbox
from relay.api.core import Core, Input, Relay, Sender, resource
from relay.api.draft import Addresses, ContentInput
from relay.errors import Invalid
from relay.mail import header, ids, mime
from relay.mail.message import Principal
from relay.mail.mime import Draft, Texts
from relay.scoring import Score, Scorer

SKIPPED = {"score": None, "action": "no_action", "symbols": [], "skipped": True}

router = resource("Emails")


class PreviewInput(ContentInput, Input):
    """An email as it would be sent, to at most five."""

    to: Addresses = Field(min_length=1, max_length=5)


@router.post("/emails/preview")
async def preview_email(here: Core, who: Sender, given: PreviewInput) -> Any:
    """The rendered texts, their size, the spam filter's judgement and warnings."""
    texts = await outbox.texts(here, who, given)
    content, author = _built(here, given, texts)
    spam = await _scored(here, who, author, given.to, content)
    domain = author.rpartition("@")[2]
    subject = insights.Subject(texts.html, texts.text, len(content), await insights._domain(here, who, domain), domain, False, False, spam["score"],
                               insights.links(texts.html), await insights.nameless(here))
    return {
        "rendered_subject": texts.subject, "rendered_html": texts.html, "rendered_text": texts.text,
        "size": {"html_bytes": len((texts.html or "").encode("utf-8", "replace")), "text_bytes": len((texts.text or "").encode("utf-8", "replace"))},
        "spam": spam, "warnings": [warning.shown() for warning in insights.of(subject)],
    }


@router.post("/emails/spam-preview")
async def preview_spam(here: Core, who: Sender, given: PreviewInput) -> Any:
    """The spam filter's judgement alone."""
    content, author = _built(here, given, await outbox.texts(here, who, given))
    return await _scored(here, who, author, given.to, content)


def _built(here: Relay, given: PreviewInput, texts: Texts) -> tuple[bytes, str]:
    """The octets with what the door would add, whose absence has a price with rspamd, and the author's address."""
    author = draft.author(given)
    fields, body = mime.composed(Draft(given.from_, given.to, texts.subject, texts.html, texts.text))
    name = ids.public("em", here.maker.next())
    added = header.make("Date", header.date(here.clock.now())), header.make("Message-ID", f"<{name}@{here.settings.hostname}>")
    return b"".join((*fields.prepend(*added).raws(), b"\r\n", body)), author


async def _scored(here: Relay, who: Principal, author: str, to: list[str], content: bytes) -> dict[str, Any]:
    """What rspamd says; skipped when there is none or it does not answer."""
    settings = here.settings.rspamd
    headers = {"From": author, "Rcpt": ",".join(draft.bare(to, "to")), "User": who.name or f"key {who.key_id}"}
    if any(not value.isprintable() for value in headers.values()):
        raise Invalid("to", "to cannot be read")
    found = await Scorer(here.services.fetch, here.clock, settings.url, settings.timeout).score(content, headers)
    if not isinstance(found, Score):
        return SKIPPED
    return {"score": found.score, "action": (found.action or "no action").replace(" ", "_"), "symbols": found.symbols, "skipped": False}
