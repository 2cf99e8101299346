"""/signup-forms: forms by which people sign up. What visitors see and send is relay.web.signup: /f/ID, and /signup-forms/ID/submit for scripts."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field

from relay.api.core import Core, Input, Owner, Paging, Relay, known, listed, resource
from relay.audience.signups import NAMES, TRAP, Signups
from relay.clock import iso
from relay.errors import Invalid
from relay.mail import address, ids, mime
from relay.mail.message import Principal
from relay.store.audience import forms, segments, topics
from relay.store.audience.forms import Form

URL = 2_000  # characters
OPTIONS = 100  # of a select
ASKED = {"segment_id": "seg", "topic_id": "top"}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")

router = resource("Signup forms")


class FieldInput(Input):
    """A question: `name` is email, first_name, last_name or a property."""

    name: str
    type: Literal["email", "text", "select", "checkbox"] = "text"
    label: str = Field("", max_length=128)
    required: bool = False
    placeholder: str = Field("", max_length=128)
    options: list[str] = Field(default_factory=list, max_length=OPTIONS)


class FormInput(Input):
    """A form. With `double_opt_in` a letter from `from` asks for a confirmation first."""

    name: str = Field(min_length=1, max_length=128)
    segment_id: str | None = None
    topic_id: str | None = None
    fields: list[FieldInput] = Field(min_length=1, max_length=10)
    success_message: str = Field("", max_length=500)
    redirect_url: str | None = Field(None, max_length=URL)
    double_opt_in: bool = False
    from_: str | None = Field(None, max_length=400, validation_alias=AliasChoices("from", "from_"))
    active: bool = True


class FormChange(Input):
    """What to change; what is absent stays, and null takes away."""

    name: str | None = Field(None, min_length=1, max_length=128)
    segment_id: str | None = None
    topic_id: str | None = None
    fields: list[FieldInput] | None = Field(None, min_length=1, max_length=10)
    success_message: str | None = Field(None, max_length=500)
    redirect_url: str | None = Field(None, max_length=URL)
    double_opt_in: bool | None = None
    from_: str | None = Field(None, max_length=400, validation_alias=AliasChoices("from", "from_"))
    active: bool | None = None


@router.get("/signup-forms")
async def list_forms(here: Core, who: Owner, page: Paging) -> Any:
    """List forms, newest first."""
    found = await here.store.read(forms.paged, who.project, page)
    return listed("signup_forms", found, page, lambda form: shown(here, form))


@router.post("/signup-forms", status_code=201)
async def create_form(here: Core, who: Owner, given: FormInput) -> Any:
    """Create a form; its page is at `url`, and scripts post to `submit_url`."""
    now = here.clock.now()
    blank = Form(here.maker.next(), who.project, given.name, given.active, None, None, [], "", "", False, "", now, now)
    form = await _sound(here, who, blank, given)
    return shown(here, await here.store.write(forms.add, form))


@router.get("/signup-forms/{form_id}")
async def get_form(here: Core, who: Owner, form_id: str) -> Any:
    """A form."""
    return shown(here, await here.store.read(forms.get, who.project, _id(form_id)))


@router.patch("/signup-forms/{form_id}")
async def change_form(here: Core, who: Owner, form_id: str, given: FormChange) -> Any:
    """Change a form; `active: false` stops it at once."""
    old = await here.store.read(forms.get, who.project, _id(form_id))
    new = await _sound(here, who, old, given)
    changes = {name: getattr(new, name) for name in Form.__slots__ if getattr(new, name) != getattr(old, name)}
    return shown(here, await here.store.write(forms.change, who.project, old.id, {**changes, "updated_at": here.clock.now()}))


@router.delete("/signup-forms/{form_id}")
async def delete_form(here: Core, who: Owner, form_id: str) -> Any:
    """Delete a form; who signed up by it stays."""
    await here.store.write(forms.remove, who.project, _id(form_id))
    return {"deleted": True}


async def _sound(here: Relay, who: Principal, old: Form, given: FormInput | FormChange) -> Form:
    """The form with what was given, checked; raises Invalid, and NotFound for what is another project's."""
    said = {name: getattr(given, name) for name in given.model_fields_set}
    new = {name: said[name] for name in ("name", "active", "double_opt_in") if said.get(name) is not None}
    new |= {name: said[name] or "" for name in ("success_message",) if name in said}
    if "redirect_url" in said:
        new["redirect_url"] = _url(said["redirect_url"])
    if said.get("fields"):
        new["fields"] = _fields(said["fields"])
    if "from_" in said:
        new["sender"] = await _author(here, who, said["from_"])
    if "segment_id" in said:
        new["segment_id"] = await _segment(here, who, said["segment_id"])
    if "topic_id" in said:
        new["topic_id"] = (await here.store.read(topics.get, who.project, known("top", said["topic_id"], "Topic"))).id if said["topic_id"] else None
    form = replace(old, **new)
    if form.double_opt_in and not form.sender:
        raise Invalid("from", "from is needed with double_opt_in: who writes the letter that asks for the confirmation")
    return form


async def _segment(here: Relay, who: Principal, given: str | None) -> int | None:
    if not given:
        return None
    found = await here.store.read(segments.get, who.project, known("seg", given, "Segment"))
    if found.rules is not None:
        raise Invalid("segment_id", "segment_id names a segment with rules; a form puts people on one without, which is a list")
    return found.id


async def _author(here: Relay, who: Principal, given: str | None) -> str:
    if not given:
        return ""
    boxes = mime.mailboxes(given, "from")
    if len(boxes) > 1:
        raise Invalid("from", "from takes one address")
    if who.domain and not address.within(boxes[0].domain, who.domain):
        raise Invalid("from", f"from <{boxes[0].address}> is not allowed: this key sends from {who.domain} only")
    if not await signups(here).owns(who.project, boxes[0].address):
        raise Invalid("from", f"from <{boxes[0].address}> is at no verified domain of the project; add it with POST /domains and publish its records")
    return given


def _url(given: str | None) -> str:
    """Raises Invalid for what is no web address: this is where visitors are sent."""
    if not given:
        return ""
    try:
        parts = urlsplit(given)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.username and given.isascii() and given.isprintable() and " " not in given
        _ = parts.port
    except ValueError:
        good = False
    if not good or any(letter in parts.netloc for letter in ";,'\""):
        raise Invalid("redirect_url", "redirect_url is an http or https URL")
    return given


def _fields(given: list[FieldInput]) -> list[dict[str, Any]]:
    """The questions as they are kept; raises Invalid."""
    found: dict[str, dict[str, Any]] = {}
    for number, each in enumerate(given):
        place = f"fields[{number}]"
        if not _NAME.fullmatch(each.name) or each.name == TRAP:
            raise Invalid(f"{place}.name", f"{place}.name has 1 to 64 letters, digits, _, - or ., begins with a letter, and is not {TRAP}")
        if each.name in found:
            raise Invalid(f"{place}.name", f"{place}.name: {each.name} is there twice")
        if (each.type == "email") != (each.name == "email"):
            raise Invalid(f"{place}.type", f"{place}.type: the field email is of type email, and no other is")
        if each.name in NAMES and each.type in ("select", "checkbox"):
            raise Invalid(f"{place}.type", f"{place}.type: {each.name} is a text")
        if each.type == "select" and not (each.options and all(0 < len(option) <= 128 for option in each.options)):
            raise Invalid(f"{place}.options", f"{place}.options: a select has 1 to {OPTIONS} options of 1 to 128 characters")
        label = each.label or each.name.replace("_", " ").capitalize()
        found[each.name] = each.model_dump() | {"label": label, "required": each.required or each.name == "email"}
    return list(found.values())


def _id(form_id: str) -> int:
    return known("sf", form_id, "Signup form")


def signups(here: Relay) -> Signups:
    return Signups(here.store, here.services, here.maker, lambda: here.door, here.occurred)


def shown(here: Relay, form: Form) -> dict[str, Any]:
    public = here.settings.http.public_url.rstrip("/")
    return {
        "id": form.public_id, "name": form.name, "active": form.active, "segment_id": ids.public("seg", form.segment_id) if form.segment_id else None,
        "topic_id": topics.public(form.topic_id) if form.topic_id else None, "fields": form.fields, "success_message": form.success_message,
        "redirect_url": form.redirect_url or None, "double_opt_in": form.double_opt_in, "from": form.sender or None, "url": f"{public}/f/{form.public_id}",
        "submit_url": f"{public}/signup-forms/{form.public_id}/submit", "submission_count": form.submissions,
        "created_at": iso(form.created_at), "updated_at": iso(form.updated_at),
    }


SUBMIT = {
    "tags": ["Signup forms"], "operationId": "submit_form", "summary": "What a visitor's browser sends; no key, any origin",
    "description": "The form's fields as JSON or as a posted form. With double opt-in a letter asks for a confirmation first. 30 an hour from one IP address.",
    "parameters": [{"name": "form_id", "in": "path", "required": True, "schema": {"type": "string"}}],
    "requestBody": {"required": True, "content": {"application/json": {"schema": {
        "type": "object", "required": ["email"], "properties": {"email": {"type": "string"}, "first_name": {"type": "string"}, "last_name": {"type": "string"}},
        "additionalProperties": True}}}},
    "responses": {"200": {"description": "`{success, message, redirect_url}`"}, "404": {"description": "No such form, or not active"},
                  "422": {"description": "A field is wrong"}, "429": {"description": "Too many; see Retry-After"}},
}
