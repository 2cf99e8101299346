"""/templates in the Plunk dialect: a subject, a body and a sender, at once ready to send; MARKETING for subscribed contacts, TRANSACTIONAL for all.

They are native templates, published with each change: Liquid, `{{ key }}`, `{{ data.key }}`, `{{ key ?? fallback }}`. A draft made natively is sent once it
is published.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from relay import templates
from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.letter import box
from relay.api.compat.plunk.paging import Paging, paged
from relay.api.core import Core, Input, Owner, resource
from relay.api.draft import SUBJECT
from relay.clock import iso
from relay.errors import Conflict, Invalid
from relay.mail import ids, mailbox
from relay.mail.message import MARKETING, TRANSACTIONAL
from relay.mail.mime import Texts
from relay.store import templates as stored
from relay.store.broadcasts import broadcasts
from relay.store.templates import Template
from relay.store.workflows import workflows

router = resource("Templates")

STREAMS = {"MARKETING": MARKETING, "TRANSACTIONAL": TRANSACTIONAL}
TYPES = {stream: kind for kind, stream in STREAMS.items()}

Kind = Literal["MARKETING", "TRANSACTIONAL"]


class TemplateInput(Input):
    """A template and who mail by it comes from."""

    name: str = Field(min_length=1, max_length=100)
    description: str | None = Field(None, max_length=500)
    subject: str = Field(min_length=1, max_length=SUBJECT)
    body: str = Field(min_length=1)
    sender: str = Field(validation_alias="from", min_length=1, max_length=320)
    from_name: str | None = Field(None, max_length=100)
    reply_to: str | None = Field(None, max_length=320)
    type: Kind = "MARKETING"


class TemplateChange(Input):
    """What to change; what is absent stays."""

    name: str | None = Field(None, min_length=1, max_length=100)
    description: str | None = Field(None, max_length=500)
    subject: str | None = Field(None, min_length=1, max_length=SUBJECT)
    body: str | None = Field(None, min_length=1)
    sender: str | None = Field(None, validation_alias="from", min_length=1, max_length=320)
    from_name: str | None = Field(None, max_length=100)
    reply_to: str | None = Field(None, max_length=320)
    type: Kind | None = None


@router.post("/templates", status_code=201)
async def create_template(here: Core, who: Owner, given: TemplateInput) -> Any:
    """Create a template; it can be sent with at once."""
    now = here.clock.now()
    made = Template(here.maker.next(), who.project, given.name, given.subject, given.body, None, 1, None, None, now, now, given.description or "",
                    _sender(given.sender, given.from_name), _reply(given.reply_to), STREAMS[given.type])
    _sound(made.texts)
    return _shown(await here.store.write(_added, made, now))


def _added(conn: Any, made: Template, now: float) -> Template:
    stored.add(conn, made)
    return stored.publish(conn, made.project_id, made.id, now)


@router.get("/templates")
async def list_templates(
    here: Core, who: Owner, page: Paging, type: Kind | None = None, search: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[Literal["createdAt"], Query()] = "createdAt", direction: Annotated[Literal["asc", "desc"], Query(alias="dir")] = "desc",
) -> Any:
    """A page of templates."""
    found = await here.store.read(stored.page, who.project, page, search, None, STREAMS[type] if type else "", direction == "asc")
    return paged(found, page, _shown)


@router.get("/templates/{template_id}")
async def get_template(here: Core, who: Owner, template_id: str) -> Any:
    """One template."""
    return _shown(await here.store.read(stored.get, who.project, _id(template_id)))


@router.patch("/templates/{template_id}")
async def change_template(here: Core, who: Owner, template_id: str, given: TemplateChange) -> Any:
    """Change a template; mail that is sent from now on has the new texts."""
    old = await here.store.read(stored.get, who.project, _id(template_id))
    changes: dict[str, Any] = {name: getattr(given, name) for name in ("name", "subject", "description") if getattr(given, name) is not None}
    if given.body is not None:
        changes |= {"html": given.body, "text": None}
    if given.sender is not None or given.from_name is not None:
        address, name = _parted(old.sender)
        changes["sender"] = _sender(given.sender or address, name if given.from_name is None else given.from_name)
    if given.reply_to is not None:
        changes["reply_to"] = _reply(given.reply_to)
    if given.type is not None:
        changes["stream"] = STREAMS[given.type]
    _sound(replace(old, **changes).texts)
    return _shown(await here.store.write(_changed, old, changes, here.clock.now()))


def _changed(conn: Any, old: Template, changes: dict[str, Any], now: float) -> Template:
    stored.change(conn, old.project_id, old.id, changes, now)
    return stored.publish(conn, old.project_id, old.id, now)


@router.delete("/templates/{template_id}", status_code=204)
async def delete_template(here: Core, who: Owner, template_id: str) -> Response:
    """Delete a template; sent mail stays as it is. 409 while a workflow or a campaign that has not begun sends it."""
    await here.store.write(_removed, who.project, _id(template_id))
    return Response(status_code=204)


@router.post("/templates/{template_id}/duplicate", status_code=201)
async def duplicate_template(here: Core, who: Owner, template_id: str) -> Any:
    """The same under another name."""
    old, now = await here.store.read(stored.get, who.project, _id(template_id)), here.clock.now()
    copy = replace(old, id=here.maker.next(), name=f"{old.name[:93]} (copy)", version=1, published=None, published_at=None, created_at=now, updated_at=now)
    return _shown(await here.store.write(_added, copy, now))


@router.get("/templates/{template_id}/usage")
async def get_usage(here: Core, who: Owner, template_id: str) -> Any:
    """The workflows that send a template, in how many steps, and the campaigns that will."""
    number = _id(template_id)
    await here.store.read(stored.get, who.project, number)
    flows, steps, campaigns = await here.store.read(sending, who.project, number)
    return {"workflows": flows, "workflowSteps": steps, "campaigns": campaigns, "canDelete": not flows and not campaigns}


def sending(conn: Any, project: int, number: int) -> tuple[list[dict[str, str]], int, list[dict[str, str]]]:
    """The workflows that send a template, their steps that do, and the campaigns that have not begun with it."""
    public = ids.public("tpl", number)
    steps = [flow for flow, version in workflows.using(conn, project) for node in version.nodes
             if public in (node["config"].get("template_id"), node["config"].get("templateId"))]
    flows = {flow.public_id: flow.name for flow in steps}
    campaigns = [{"id": each.public_id, "name": each.name} for each in broadcasts.to_send(conn, project, number)]
    return [{"id": flow, "name": name} for flow, name in flows.items()], len(steps), campaigns


def _removed(conn: Any, project: int, number: int) -> None:
    flows, _, campaigns = sending(conn, project, number)
    for kind, used in (("workflow", flows), ("campaign", campaigns)):
        if used:
            raise Conflict(f"the template is used by the {kind} {used[0]['name']}")
    stored.remove(conn, project, number)


def _id(template_id: str) -> int:
    number = ids.internal(template_id, "tpl")
    return -1 if number is None else number  # no template's, so that the store says what is not found


def _sound(texts: Texts) -> None:
    """Raises Bad for what could never be rendered."""
    try:
        templates.variables(texts)
    except Invalid as error:
        raise Bad(error.field, error.text) from None


def _sender(address: str, name: str | None) -> str:
    found = box(address, "from")
    return mailbox.text(name, found.address) if name else found.text


def _reply(address: str | None) -> str:
    return box(address, "replyTo").text if address else ""


def _parted(sender: str) -> tuple[str, str]:
    """Address and name of a From field, "" for what is not there."""
    found = mailbox.mailboxes(sender)[0] if sender else None
    return ("", "") if found is None else (found.address, found.name)


def _shown(each: Template) -> dict[str, Any]:
    address, name = _parted(each.sender)
    return {"id": each.public_id, "name": each.name, "description": each.description or None, "subject": each.subject,
            "body": each.html if each.html is not None else each.text, "from": address or None, "fromName": name or None, "replyTo": each.reply_to or None,
            "type": TYPES[each.stream], "projectId": ids.public("prj", each.project_id), "createdAt": iso(each.created_at), "updatedAt": iso(each.updated_at)}
