"""/templates: texts with variables, their versions, and a few to begin with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from msgspec.structs import replace
from pydantic import Field

from relay import presets, templates
from relay.api.core import Core, Input, Owner, Paging, Relay, known, listed, resource, whole
from relay.clock import iso
from relay.errors import Invalid, NotFound
from relay.mail.message import Principal
from relay.mail.mime import Texts
from relay.store import templates as stored
from relay.store.templates import Template

SUBJECT = 998  # characters

router = resource("Templates")


class TemplateInput(Input):
    """A new template, a draft until it is published."""

    name: str = Field(min_length=1, max_length=128)
    subject: str = Field(min_length=1, max_length=SUBJECT)
    html: str | None = None
    text: str | None = None
    variables: list[str] | None = Field(None, description="Read from the texts; accepted and ignored")
    builder_type: Literal["html", "visual"] = "html"


class TemplateChange(Input):
    """What to change; what is absent stays."""

    name: str | None = Field(None, min_length=1, max_length=128)
    subject: str | None = Field(None, min_length=1, max_length=SUBJECT)
    html: str | None = None
    text: str | None = None


class RenderInput(Input):
    """Values for the variables."""

    variables: dict[str, Any] = Field(default_factory=dict)
    version: int | None = Field(None, ge=1)


def number_of(text: str) -> int:
    return known("tpl", text, "Template")


def shown(template: Template) -> dict[str, Any]:
    return {
        "id": template.public_id, "name": template.name, "subject": template.subject, "html": template.html, "text": template.text,
        "variables": templates.variables(template.texts), "status": "draft" if template.published is None else "published",
        "published": template.published is not None, "version": template.version, "published_version": template.published,
        "published_at": iso(template.published_at), "created_at": iso(template.created_at), "updated_at": iso(template.updated_at),
    }


def _checked(texts: Texts) -> None:
    """Raises Invalid for texts that could never be rendered, or that say nothing."""
    if texts.html is None and texts.text is None:
        raise Invalid("html", "one of html and text is required")
    templates.variables(texts)


async def _add(here: Relay, who: Principal, name: str, texts: Texts) -> Template:
    _checked(texts)
    now = here.clock.now()
    return await here.store.write(stored.add, Template(
        here.maker.next(), who.project, name[:128], texts.subject, texts.html, texts.text, 1, None, None, now, now))


@router.post("/templates", status_code=201)
async def create_template(here: Core, who: Owner, given: TemplateInput) -> Any:
    """Create a template. It is a draft; only published templates are sent with."""
    return shown(await _add(here, who, given.name, Texts(given.subject, given.html, given.text)))


@router.get("/templates")
async def list_templates(
    here: Core, who: Owner, page: Paging, search: Annotated[str, Query(max_length=200, description="Part of the name or subject")] = "",
    published: bool | None = None,
) -> Any:
    """List templates, newest first."""
    found = await here.store.read(stored.page, who.project, page, search, published)
    return listed("templates", found, page, shown)


@router.get("/templates/presets")
async def list_presets(_here: Core, _who: Owner) -> Any:
    """Templates to begin with."""
    return whole("presets", [_preset(each) for each in presets.PRESETS.values()])


def _preset(preset: presets.Preset) -> dict[str, Any]:
    texts = preset.texts
    return {"id": preset.id, "name": preset.name, "description": preset.description, "subject": texts.subject, "html": texts.html, "text": texts.text,
            "variables": templates.variables(texts)}


@router.post("/templates/presets/{preset_id}/use", status_code=201)
async def use_preset(here: Core, who: Owner, preset_id: str) -> Any:
    """A new template, a draft, with the texts of a preset."""
    preset = presets.PRESETS.get(preset_id)
    if preset is None:
        raise NotFound("Preset not found")
    return shown(await _add(here, who, preset.name, preset.texts))


@router.get("/templates/{template_id}")
async def get_template(here: Core, who: Owner, template_id: str) -> Any:
    """One template."""
    return shown(await here.store.read(stored.get, who.project, number_of(template_id)))


@router.patch("/templates/{template_id}")
async def change_template(here: Core, who: Owner, template_id: str, given: TemplateChange) -> Any:
    """Change a template. A published one goes on being sent as it was until it is published again, as its next version."""
    number, changes = number_of(template_id), given.model_dump(exclude_unset=True)
    for name in ("name", "subject"):
        if name in changes and changes[name] is None:
            raise Invalid(name, f"{name} is a text")
    template = await here.store.read(stored.get, who.project, number)
    _checked(replace(template.texts, **{name: value for name, value in changes.items() if name != "name"}))
    return shown(await here.store.write(stored.change, who.project, number, changes, here.clock.now()))


@router.delete("/templates/{template_id}")
async def delete_template(here: Core, who: Owner, template_id: str) -> Any:
    """Delete a template and its versions; sent mail stays as it is."""
    await here.store.write(stored.remove, who.project, number_of(template_id))
    return {"deleted": True}


@router.post("/templates/{template_id}/publish")
async def publish_template(here: Core, who: Owner, template_id: str) -> Any:
    """Send with these texts from now on."""
    return shown(await here.store.write(stored.publish, who.project, number_of(template_id), here.clock.now()))


@router.post("/templates/{template_id}/unpublish")
async def unpublish_template(here: Core, who: Owner, template_id: str) -> Any:
    """Make it a draft again: sends with it are refused."""
    return shown(await here.store.write(stored.unpublish, who.project, number_of(template_id)))


@router.post("/templates/{template_id}/duplicate", status_code=201)
async def duplicate_template(here: Core, who: Owner, template_id: str) -> Any:
    """A new draft with the same texts."""
    template = await here.store.read(stored.get, who.project, number_of(template_id))
    return shown(await _add(here, who, f"{template.name[:121]} (copy)", template.texts))


@router.get("/templates/{template_id}/versions")
async def list_versions(here: Core, who: Owner, template_id: str) -> Any:
    """The published versions, newest first."""
    rows = await here.store.read(stored.history, who.project, number_of(template_id))
    return whole("versions", [_version(template_id, row) for row in rows])


def _version(template_id: str, row: Any) -> dict[str, Any]:
    return {"template_id": template_id, "version": row.version, "subject": row.subject, "html": row.html, "text": row.text, "created_at": iso(row.created_at)}


@router.post("/templates/{template_id}/versions/{version}/restore")
async def restore_version(here: Core, who: Owner, template_id: str, version: int) -> Any:
    """Put the texts of a published version back, to edit or to publish again."""
    number = number_of(template_id)
    template = await here.store.read(stored.get, who.project, number)
    texts = await here.store.read(stored.version, template, version)
    changes = {"subject": texts.subject, "html": texts.html, "text": texts.text}
    return shown(await here.store.write(stored.change, who.project, number, changes, here.clock.now()))


@router.post("/templates/{template_id}/render")
async def render_template(here: Core, who: Owner, template_id: str, given: RenderInput | None = None) -> Any:
    """What a mail with these values would say, and which variables have none."""
    values = given.variables if given else {}
    template = await here.store.read(stored.get, who.project, number_of(template_id))
    texts = template.texts if given is None or given.version is None else await here.store.read(stored.version, template, given.version)
    rendered = templates.render(texts, values)
    return {"subject": rendered.subject, "html": rendered.html, "text": rendered.text, "missing_variables": templates.missing(texts, values),
            "template_variables": templates.variables(texts)}


