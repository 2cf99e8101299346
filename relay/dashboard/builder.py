"""The form of a segment: its rule built from rows and groups, with a count and plain words as it is edited; or as JSON, for who prefers that.

Each button of the rule gives the form back with that done, whole or, where htmx asks, the rule alone. A field that is chosen anew gets its own operators, and
an operator its own input, the same way; without JavaScript the button that says so does it, or the next one pressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import HTMLResponse, Response

from relay.api import contacts, properties, segments
from relay.api.segments import MembersInput, RulesInput, SegmentChange, SegmentInput
from relay.dashboard import rules, view
from relay.dashboard.questions import CHOICE, DATE, ENGAGEMENT, EVENT, FLAG, MEMBERS, PROPERTY, RANGE, VALUE, WORD, Row
from relay.dashboard.rules import Form, Group
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, RelayError
from relay.store.audience import audiences, topics
from relay.store.audience import contacts as stored_contacts
from relay.store.audience import segments as stored
from relay.store.audience.rules import Moment
from relay.store.pages import Page

CHOICES = Page(1, 500)  # segments, audiences and topics to choose from; others are written as JSON
SEARCH, PICKED = 200, 500  # characters; contacts that a new static segment begins with
FOUND = Page(1, 10)
BUTTONS = ("rule", "group", "less", "set", "json", "rows", "look")  # what does not save
KINDS = {"number": "number", "boolean": FLAG, "date": DATE, "select": CHOICE}  # inputs of values by the type of their property
LEVELS = (("active", "active, in the last 30 days"), ("at_risk", "at risk, in the last 90 days"), ("dormant", "dormant, longer ago or never"))


@dataclass(frozen=True, slots=True)
class Ground:
    """What the project has that rules ask about: definitions of properties by name; segments, audiences and topics as pairs of id and name."""

    types: Mapping[str, Any]
    members: Mapping[str, list[tuple[str, str]]]


async def new(visit: Visit) -> Response:
    """The form of a new segment, `kind` static or dynamic."""
    blank = {"name": "", "description": "", "track_membership": False, "audience_id": None}
    return await _page(visit, blank, None if visit.asked("kind") == "static" else rules.BLANK)


async def create(visit: Visit) -> Response:
    static = visit.given("kind") == "static"

    async def act(wanted: Any) -> Any:
        given = SegmentInput(**_given(visit), type="static" if static else "dynamic", rules=wanted)
        members = MembersInput(contact_ids=[str(each) for each in visit.form.getlist("member")]) if static and "member" in visit.form else None
        made = await segments.create_segment(visit.here, visit.who, given)
        if members is not None:
            await segments.add_members(visit.here, visit.who, made["id"], members)
        return made

    return await _submitted(visit, {}, static, act, "The segment is there.")


async def edit(visit: Visit) -> Response:
    segment = await segments.described(visit.here, visit.who, visit.number("segment_id"))
    return await _page(visit, segment, None if segment["rules"] is None else rules.shown(segment["rules"]))


async def change(visit: Visit) -> Response:
    name = visit.number("segment_id")
    segment = await segments.described(visit.here, visit.who, name)

    async def act(wanted: Any) -> Any:
        given = SegmentChange(**_given(visit)) if segment["rules"] is None else SegmentChange(**_given(visit), rules=wanted)
        return await segments.change_segment(visit.here, visit.who, name, given)

    return await _submitted(visit, segment, segment["rules"] is None, act, "Saved.")


async def preview(visit: Visit) -> Response:
    """How many contacts the form's rules are true of, and the rules in words: a part of a page."""
    found, error, _ = await told(visit)
    return HTMLResponse(view.render("segments/told.html", {"told": found, "wrong": error.text if error else "", "asks": visit.given("asks")}))


async def rule(visit: Visit) -> Response:
    """The rule after a button, or with a field or an operator chosen anew: a part of a page."""
    form = rules.pressed(rules.typed(visit), visit.given("do"))
    ground = await surveyed(visit)
    return HTMLResponse(view.render("segments/rule.html", {"rule": looks(form, ground, ""), "told": None, "wrong": "", "added": visit.given("do")}))


async def people(visit: Visit) -> Response:
    """Contacts to be the first members of a static segment: those that are picked, and those that the search finds: a part of a page."""
    return HTMLResponse(view.render("segments/pick.html", await _people(visit)))


async def _people(visit: Visit) -> dict[str, Any]:
    find, numbers = visit.given("find")[:SEARCH], [contacts.number(str(each)) for each in visit.form.getlist("member")[:PICKED]]
    picked = [contacts.brief(each) for each in await visit.here.store.read(stored_contacts.by_ids, visit.who.project, numbers)]  # type: ignore[union-attr]
    found: Any = {"contacts": []}
    if find:
        found = await contacts.list_contacts(visit.here, visit.who, FOUND, search=find, segment_id=None, audience_id=None, unsubscribed=None)
    chosen = {each["id"] for each in picked}
    return {"find": find, "picked": picked, "found": [each for each in found["contacts"] if each["id"] not in chosen]}


async def _submitted(visit: Visit, segment: Any, static: bool, act: Any, said: str) -> Response:
    """What the button that was pressed does: save, or the form once more with a row added or gone, with a count, as JSON or as rows again."""
    shown = {**segment, **_given(visit)}
    do = visit.given("do").partition(":")[0]
    if do in BUTTONS and not static:
        return await _pressed(visit, shown, do)
    places: Mapping[str, str] = {}
    if do == "find":
        return await _page(visit, shown, None)
    try:
        if static:
            made = await act(None)
        else:
            wanted, places = _rules(visit, segment.get("rules"))
            made = await act(wanted)
        return visit.go(f"/dashboard/segments/{made['id']}", said)
    except (RelayError, ValidationError) as wrong:
        place, error = placed(visit.wrong(wrong), places)
    form = None if static else rules.typed(visit)
    return await _page(visit, shown, form, _text(visit), error=error, wrong=place)


async def _pressed(visit: Visit, shown: Any, do: str) -> Response:
    text = _text(visit)
    form = rules.BLANK if text is not None else rules.pressed(rules.typed(visit), visit.given("do"))
    count, error, place = await told(visit) if do in ("look", "json", "rows") else (None, None, "")
    if do == "json" and text is None:
        text = orjson.dumps(rules.made(form)[0], option=orjson.OPT_INDENT_2).decode()
    if do == "rows" and text is not None and error is None:
        form, text = rules.shown(orjson.loads(text)), None
    return await _page(visit, shown, form, text, count, error if do != "json" else None, place)


async def _page(visit: Visit, segment: Any, form: Form | None, text: str | None = None, told: Any = None, error: RelayError | None = None,
                wrong: str = "") -> Response:
    """The form; `form` None for a static segment, `text` the rules as JSON."""
    ground = await surveyed(visit)
    place = f"/dashboard/segments/{segment['id']}/edit" if "id" in segment else "/dashboard/segments/new"
    return visit.show("segments/form.html", error=error, segment=segment, static=form is None, text=text, told=told, place=place, wrong="", added="",
                      rule=None if form is None else looks(form, ground, wrong), audiences=ground.members["audience"], **await _people(visit))


def _given(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = {"name": visit.given("name"), "description": visit.given("description"), "track_membership": visit.ticked("track_membership")}
    return {**found, "audience_id": visit.given("audience_id") or None} if "audience_id" in visit.form else found


def _text(visit: Visit) -> str | None:
    return visit.given("rules") if "rules" in visit.form else None


def _rules(visit: Visit, old: Any = None) -> tuple[Any, Mapping[str, str]]:
    """The rules that the form holds, as JSON or as rows, with the places of their parts; raises Invalid."""
    text = _text(visit)
    if text is None:
        return rules.kept(rules.typed(visit), old)
    try:
        return orjson.loads(text), {}
    except orjson.JSONDecodeError as wrong:
        raise Invalid("rules", f"the rules are no JSON: {wrong}") from None


async def told(visit: Visit) -> tuple[Any, RelayError | None, str]:
    """Count and words of the form's rules, or what is wrong with them and where."""
    places: Mapping[str, str] = {}
    try:
        wanted, places = _rules(visit)
        given = RulesInput(rules=wanted, audience_id=visit.given("audience_id") or None)
        return await segments.preview_segment(visit.here, visit.who, given), None, ""
    except (RelayError, ValidationError) as wrong:
        place, error = placed(visit.wrong(wrong), places)
        return None, error, place


def placed(error: RelayError, places: Mapping[str, str]) -> tuple[str, RelayError]:
    if not isinstance(error, Invalid):
        return "", error
    place, text = rules.placed(error, places)
    return place, Invalid(error.field, text)


# What the template shows.


async def surveyed(visit: Visit) -> Ground:
    """What the project's rules may ask about."""
    read, project = visit.here.store.read, visit.who.project  # type: ignore[union-attr]
    found = {"segment": await read(stored.paged_list, project, CHOICES), "audience": await read(audiences.paged, project, CHOICES),
             "topic": await read(topics.paged, project, CHOICES)}
    types = {each["name"]: each for each in (await properties.list_properties(visit.here, visit.who))["properties"]}
    return Ground(types, {kind: sorted(((each.public_id, each.name) for each in page.rows), key=lambda each: each[1].lower()) for kind, page in found.items()})


def looks(form: Form, ground: Ground, wrong: str) -> dict[str, Any]:
    """The rule as segments/rule.html shows it; `wrong` is the place of what is wrong."""
    return {**_group(form, form.group, rules.ROOT, ground, wrong), "grammar": form.grammar}


def _group(form: Form, group: Group, place: str, ground: Ground, wrong: str) -> dict[str, Any]:
    inside = [_group(form, each, f"{place}.{number}", ground, wrong) if isinstance(each, Group) else _row(form, each, f"{place}.{number}", ground, wrong)
              for number, each in enumerate(group.inside)]
    return {"place": place, "label": rules.label(place), "match": group.match, "inside": inside, "deep": place.count(".") + 1 >= rules.DEEPEST,
            "wrong": place == wrong}


def _row(form: Form, row: Row, place: str, ground: Ground, wrong: str) -> dict[str, Any]:
    row = form.vocabulary.settled(row)
    needed, options = _input(form, row, ground)
    offered = form.vocabulary.operators.get(form.vocabulary.kind(row.field), ())
    return {"place": place, "label": rules.label(place), "row": row, "fields": _fields(form, row, ground), "named": row.field in (PROPERTY, EVENT),
            "operators": [(name, words) for name, words, _ in offered], "input": needed, "options": options, "wrong": place == wrong}


def _fields(form: Form, row: Row, ground: Ground) -> list[tuple[str, list[tuple[str, str]]]]:
    """The fields to choose from, that of the row among them."""
    typed = [(f"{PROPERTY}{name}", each["label"]) for name, each in ground.types.items()]
    known = {field for _, fields in form.vocabulary.fields for field, _ in fields} | {field for field, _ in typed} | {"", PROPERTY, EVENT}
    own = [] if row.field in known else [(row.field, row.field.removeprefix(PROPERTY).removeprefix(EVENT))]
    other = [(PROPERTY, "A property by its name"), (EVENT, "An event by its name")]
    return [*((heading, list(fields)) for heading, fields in form.vocabulary.fields), ("Properties and events", [*typed, *own, *other])]


def _input(form: Form, row: Row, ground: Ground) -> tuple[str, list[tuple[str, str]]]:
    """The input that the row's value needs, and what there is to choose for it; a text for a value that no other would show."""
    needed, options = form.vocabulary.input(row), []
    definition = ground.types.get(row.name if row.field == PROPERTY else row.field.removeprefix(PROPERTY), {})
    if needed in (VALUE, RANGE):
        kind = KINDS.get(definition.get("type", ""), WORD)
        needed = kind if needed == VALUE or kind in ("number", DATE) else WORD
    if needed == CHOICE:
        options = list(LEVELS) if row.field == ENGAGEMENT else [(each, each) for each in definition.get("options") or ()]
        options = ground.members[row.field] if row.field in MEMBERS else options
        options = options if row.value in dict(options) or not row.value else [*options, (row.value, row.value)]
    if needed == DATE and row.value and not (len(row.value) == 10 and Moment.read(row.value)):
        needed = WORD
    if (needed == "number" and row.value and not _number(row.value)) or (needed == FLAG and row.value not in ("", "true", "false")):
        needed = WORD
    return needed, options


def _number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


ROUTES = (
    get("/segments/new", new), post("/segments/new", create), post("/segments/preview", preview), post("/segments/rule", rule),
    post("/segments/people", people), get("/segments/{segment_id}/edit", edit), post("/segments/{segment_id}/edit", change),
)
