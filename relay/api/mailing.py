"""What a caller writes to say a broadcast, and how one is shown: from a request's body to columns, from a row and its figures to JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from relay import templates
from relay.api.core import Input, Relay, known
from relay.api.draft import SUBJECT, Addresses, Moment, TrackingInput
from relay.audience import grammars
from relay.errors import Invalid
from relay.mail import mime
from relay.mail.message import Principal
from relay.mail.mime import Texts
from relay.store import templates as stored_templates
from relay.store.audience import audiences, segments, topics
from relay.store.broadcasts.broadcasts import Variant


class VariantInput(Input):
    """One wording of an A/B test."""

    name: str = Field("", max_length=100)
    subject: str = Field(min_length=1, max_length=SUBJECT)
    html: str | None = None
    text: str | None = None
    weight: int = Field(ge=1, le=100)


class TestInput(Input):
    """An A/B test: a sample gets the variants by weight, and after the window the rest gets the one with the best rate."""

    variants: list[VariantInput] = Field(min_length=2, max_length=5)
    test_sample_size: float = Field(20, ge=5, le=50, description="Percent of the audience")
    test_duration_minutes: int = Field(120, ge=30, le=1440)
    winner_metric: Literal["open_rate", "click_rate"] = "open_rate"


class BroadcastChange(Input):
    """What to change of a draft; what is absent stays, null takes away."""

    name: str | None = Field(None, max_length=200)
    from_: str | None = Field(None, alias="from", max_length=1_000)
    reply_to: Addresses | None = None
    subject: str | None = Field(None, max_length=SUBJECT)
    html: str | None = None
    text: str | None = None
    template_id: str | None = None
    segment_id: str | None = None
    audience_id: str | None = None
    topic_id: str | None = None
    all_contacts: bool | None = None
    rules: Any = None
    per_minute: int | None = Field(None, ge=1, le=1_000_000, description="Copies a minute at most; without it as fast as the receiving sites allow")
    tracking: TrackingInput | None = None
    ab_test: TestInput | None = None
    scheduled_at: Moment | None = None


class BroadcastInput(BroadcastChange):
    """A new draft. Who gets it: a segment, an audience, a topic's subscribers, rules of its own, or `all_contacts`."""

    from_: str = Field(alias="from", max_length=1_000, examples=["News <news@yourdomain.com>"])


class WhenInput(Input):
    scheduled_at: Moment | None = None


class TestMailInput(Input):
    email: str = Field(max_length=1_000)
    variant: int = Field(1, ge=1, le=5)


class ResendInput(Input):
    target: Literal["non_openers", "non_clickers"] = "non_openers"
    subject: str | None = Field(None, max_length=SUBJECT)


# What was given, as columns.


async def columns(here: Relay, who: Principal, given: BroadcastChange) -> tuple[dict[str, Any], list[Variant] | None]:
    """The columns that were given, checked, and the variants of a test; raises Invalid and NotFound."""
    said = given.model_fields_set
    values: dict[str, Any] = {name: getattr(given, name) for name in ("html", "text", "per_minute", "scheduled_at", "rules") if name in said}
    for name in ("name", "subject"):
        if name in said:
            values[name] = getattr(given, name) or ""
    if given.from_ is not None:
        mime.mailboxes(given.from_, "from")
        values["sender"] = given.from_
    if "reply_to" in said:
        values["reply_to"] = given.reply_to or []
        for each in values["reply_to"]:
            mime.mailboxes(each, "reply_to")
    if "all_contacts" in said:
        values["everyone"] = bool(given.all_contacts)
    if "tracking" in said:
        values["tracking"] = given.tracking.model_dump(exclude_none=True) if given.tracking else {}
    if given.rules is not None:
        grammars.read(given.rules)
    values |= await _named(here, who, given, said)
    for field, source in Texts(given.subject or "", given.html, given.text).each():
        templates.compiled(field, source)
    if "ab_test" not in said:
        return values, None
    if given.ab_test is None:
        return {**values, "ab_test": None}, []
    return {**values, "ab_test": _test(given.ab_test)}, _variants(given.ab_test)


async def _named(here: Relay, who: Principal, given: BroadcastChange, said: set[str]) -> dict[str, int | None]:
    """The ids of what is named, which the project must have."""
    values: dict[str, int | None] = {}
    for name, prefix, what, get in (("segment_id", "seg", "Segment", segments.get), ("audience_id", "aud", "Audience", audiences.get),
                                    ("topic_id", "top", "Topic", topics.get), ("template_id", "tpl", "Template", stored_templates.get)):
        if name not in said:
            continue
        text = getattr(given, name)
        values[name] = None if text is None else _number(prefix, text, what)
        if text is not None:
            await here.store.read(get, who.project, values[name])
    return values


def _number(prefix: str, text: str, what: str) -> int:
    """The id, also as the bare number that the SDKs show; raises NotFound."""
    bare = text.isascii() and text.isdecimal() and len(text) < 19
    return int(text) if bare else known(prefix, text, what)


def _test(given: TestInput) -> dict[str, Any]:
    if sum(v.weight for v in given.variants) != 100:
        raise Invalid("ab_test.variants", "the weights of the variants add up to 100")
    return {"sample": given.test_sample_size, "minutes": given.test_duration_minutes, "metric": given.winner_metric}


def _variants(given: TestInput) -> list[Variant]:
    made = []
    for number, v in enumerate(given.variants, 1):
        for field, source in Texts(v.subject, v.html, v.text).each():
            templates.compiled(field, source)
        if v.html is None and v.text is None:
            raise Invalid(f"ab_test.variants[{number - 1}].html", "one of html and text is required")
        made.append(Variant(number, v.name or "ABCDE"[number - 1], v.subject, v.html, v.text, v.weight))
    return made
