"""/forms in the Plunk dialect: signup forms, and the two public routes by which a site shows one and sends what visitors fill in.

A form's `id` is its `publicId` too. The email is always asked and stands in no list of fields. As natively, a submission changes no consent that somebody gave
or took back; with `settings.doubleOptIn` a letter from `settings.from` asks first. `slug` follows from the name; a form's page is at `url`.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from relay.api import forms as native
from relay.api.core import Core, Input, Json, Owner, Relay, Shape, known, resource
from relay.api.forms import FieldInput, FormChange
from relay.api.forms import FormInput as NativeInput
from relay.audience import segments as segment_acts
from relay.audience.membership import slug
from relay.audience.signups import TRAP
from relay.clock import iso
from relay.consent import Act
from relay.errors import Invalid
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.audience import forms, segments
from relay.store.audience.forms import Form
from relay.store.audience.segments import Segment

router = resource("Forms")

FIELDS = 9  # beside the email

Type = Literal["text", "textarea", "email", "number", "url", "tel", "date", "select", "checkbox"]


class FormField(Shape):
    """A question; what is answered becomes `data.<key>`."""

    key: str = Field(min_length=1, max_length=64)
    label: str = Field("", max_length=128)
    type: Type = "text"
    required: bool = False
    placeholder: str = Field("", max_length=128)
    options: list[str] = Field(default_factory=list, max_length=native.OPTIONS)


class FormSettings(Shape):
    """What is absent stays as it is."""

    success_message: str | None = Field(None, max_length=500)
    redirect_url: str | None = Field(None, max_length=native.URL)
    email_placeholder: str | None = Field(None, max_length=128)
    double_opt_in: bool | None = None
    sender: str | None = Field(None, alias="from", max_length=400)


class FormInput(Input):
    """A form; with `createSegment` a new static segment takes who signs up."""

    name: str | None = Field(None, min_length=1, max_length=128)
    fields: list[FormField] | None = Field(None, max_length=FIELDS)
    settings: FormSettings | None = None
    segment_id: str | None = None
    enabled: bool | None = None
    create_segment: bool = False


class Submission(Input):
    """What a visitor filled in; `hp` is a field that people do not see."""

    email: str = Field(max_length=320)
    data: dict[str, Any] | None = None
    hp: str | None = None


@router.get("/forms/public/{public_id}")
async def get_public_form(here: Core, public_id: str) -> Any:
    """What a site needs to show the form; no key."""
    form = await here.store.read(forms.living, _id(public_id))
    senders = here.services.senders
    language = (await senders.of(form.project_id)).language if senders else "en"
    said = shown(here, form, None)
    return {name: said[name] for name in ("publicId", "name", "fields", "settings")} | {"language": language}


@router.post("/forms/public/{public_id}/submit")
async def submit_form(here: Core, request: Request, public_id: str, given: Submission) -> Any:
    """What a visitor filled in; no key, any origin, 30 an hour from one IP address."""
    act = Act("page", request.client.host if request.client else "", request.headers.get("user-agent", ""), here.clock.now())
    filled = {**(given.data or {}), "email": given.email, **({TRAP: given.hp} if given.hp else {})}
    answer = await native.signups(here).submit(_id(public_id), filled, act)
    return {"success": True} | ({"redirectUrl": answer.form.redirect_url} if answer.form.redirect_url and not answer.pending else {})


@router.get("/forms")
async def list_forms(here: Core, who: Owner) -> Any:
    """All forms, newest first."""
    rows = await here.store.read(forms.every, who.project)
    return Json([shown(here, form, await _segment(here, form)) for form in rows])


@router.post("/forms", status_code=201)
async def create_form(here: Core, who: Owner, given: FormInput) -> Any:
    """Create a form."""
    if given.name is None:
        raise Invalid("name", "name is required")
    said = await _said(here, who, given, None)
    return await _one(here, who, await native.create_form(here, who, NativeInput.model_validate(said)))


@router.get("/forms/{form_id}")
async def get_form(here: Core, who: Owner, form_id: str) -> Any:
    """One form."""
    form = await here.store.read(forms.get, who.project, _id(form_id))
    return shown(here, form, await _segment(here, form))


@router.patch("/forms/{form_id}")
async def change_form(here: Core, who: Owner, form_id: str, given: FormInput) -> Any:
    """Change a form; `enabled: false` stops it at once."""
    old = await here.store.read(forms.get, who.project, _id(form_id))
    return await _one(here, who, await native.change_form(here, who, old.public_id, FormChange.model_validate(await _said(here, who, given, old))))


@router.delete("/forms/{form_id}", status_code=204)
async def delete_form(here: Core, who: Owner, form_id: str) -> Response:
    """Delete a form; who signed up by it stays."""
    await here.store.write(forms.remove, who.project, _id(form_id))
    return Response(status_code=204)


async def _said(here: Relay, who: Principal, given: FormInput, old: Form | None) -> dict[str, Any]:
    """The request in the words of the native API."""
    settings = given.settings or FormSettings()
    said: dict[str, Any] = {"name": given.name, "active": given.enabled, "double_opt_in": settings.double_opt_in, "success_message": settings.success_message,
                            "redirect_url": settings.redirect_url, "from": settings.sender, "segment_id": given.segment_id}
    said = {name: value for name, value in said.items() if value is not None}
    if old is None or given.fields is not None or settings.email_placeholder is not None:
        said["fields"] = _asked(given, old)
    if given.create_segment:
        said["segment_id"] = await _new_segment(here, who, given.name or (old.name if old else ""))
    elif "segment_id" in given.model_fields_set:
        said["segment_id"] = given.segment_id
    return said


def _asked(given: FormInput, old: Form | None) -> list[dict[str, Any]]:
    """The native questions: the email, and what the request asks, or the form asked before."""
    before = {field["name"]: field for field in old.fields} if old else {}
    settings = given.settings or FormSettings()
    placeholder = settings.email_placeholder if settings.email_placeholder is not None else before.get("email", {}).get("placeholder", "")
    email = {"name": "email", "type": "email", "required": True, "placeholder": placeholder}
    if given.fields is None:
        return [email, *(field for name, field in before.items() if name != "email")]
    kinds = {"select": "select", "checkbox": "checkbox"}
    return [email, *(FieldInput(name=each.key, type=kinds.get(each.type, "text"), label=each.label, required=each.required, placeholder=each.placeholder,
                                options=each.options).model_dump() for each in given.fields)]


async def _new_segment(here: Relay, who: Principal, name: str) -> str:
    now = here.clock.now()
    made = Segment(here.maker.next(), who.project, f"Form: {name}"[:100], f'Who signed up by the form "{name}"'[:500], None, None, False, now, now)
    return (await here.store.write(segment_acts.create, made)).public_id


async def _segment(here: Relay, form: Form) -> Segment | None:
    return await here.store.read(segments.find, form.project_id, form.segment_id) if form.segment_id is not None else None


async def _one(here: Relay, who: Principal, made: dict[str, Any]) -> dict[str, Any]:
    form = await here.store.read(forms.get, who.project, _id(made["id"]))
    return shown(here, form, await _segment(here, form))


def _id(form_id: str) -> int:
    return known("sf", form_id, "Form")


def shown(here: Relay, form: Form, segment: Segment | None) -> dict[str, Any]:
    email: dict[str, Any] = next((field for field in form.fields if field["name"] == "email"), {})
    questions = [{"key": field["name"], **{name: field[name] for name in ("label", "type", "required", "placeholder", "options")}}
                 for field in form.fields if field["name"] != "email"]
    settings = {"successMessage": form.success_message or None, "redirectUrl": form.redirect_url or None, "doubleOptIn": form.double_opt_in,
                "emailPlaceholder": email.get("placeholder") or None, "from": form.sender or None}
    listed = None if segment is None else {"id": segment.public_id, "name": segment.name, "type": "STATIC"}
    return {"id": form.public_id, "publicId": form.public_id, "name": form.name, "slug": slug(form.name), "fields": questions, "settings": settings,
            "segmentId": listed["id"] if listed else None, "segment": listed, "enabled": form.active, "submissions": form.submissions,
            "url": f"{here.settings.http.public_url.rstrip('/')}/f/{form.public_id}", "projectId": ids.public("prj", form.project_id),
            "createdAt": iso(form.created_at), "updatedAt": iso(form.updated_at)}
