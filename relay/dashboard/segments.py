"""Segments: dynamic ones with their rule built row by row, in plain words and with a live count; static ones, whose members are searched, added and removed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import HTMLResponse, JSONResponse, Response

from relay.api import contacts, properties, segments
from relay.api.segments import MembersInput, RulesInput, SegmentChange, SegmentInput
from relay.dashboard import view
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, RelayError
from relay.store.pages import Page

SEARCH = 200  # characters
FOUND = Page(1, 10)  # contacts that a search for members shows
ROWS = 50  # conditions of a form; rules may have more as JSON
DAYS = 90  # of growth
FIELDS = ("email", "first_name", "last_name", "tags", "subscribed", "suppressed", "created_at", "updated_at", "last_active", "engagement_segment",
          "email.opened", "email.clicked", "email.bounced", "email.delivered", "emails_opened", "emails_clicked", "segment", "audience", "topic")
OPERATORS = (
    ("equals", "is"), ("not_equals", "is not"), ("contains", "contains"), ("not_contains", "does not contain"), ("starts_with", "starts with"),
    ("ends_with", "ends with"), ("is_set", "is set, or was ever done"), ("is_not_set", "is not set, or was never done"),
    ("greater_than", "is more than"), ("greater_than_or_equal", "is at least"), ("less_than", "is less than"), ("less_than_or_equal", "is at most"),
    ("after", "is after"), ("before", "is before"), ("in_last_days", "is in the last days"), ("not_in_last_days", "is not in the last days"),
)
BLANK = {"field": "", "operator": "equals", "value": ""}


async def every(visit: Visit) -> Response:
    return visit.show("segments/list.html", **await segments.list_segments(visit.here, visit.who, visit.page(), audience_id=None))


async def new(visit: Visit) -> Response:
    """The form of a new segment, `kind` static or dynamic."""
    return await _form(visit, {"name": "", "description": "", "track_membership": False}, visit.asked("kind") == "static", "and", [BLANK])


async def create(visit: Visit) -> Response:
    static = visit.given("kind") == "static"

    async def made(rules: Any) -> Any:
        given = SegmentInput(name=visit.given("name"), description=visit.given("description"), type="static" if static else "dynamic", rules=rules,
                             track_membership=visit.ticked("track_membership"))
        return await segments.create_segment(visit.here, visit.who, given)

    return await _submitted(visit, static, made, "The segment is there.")


async def one(visit: Visit) -> Response:
    """A segment and its members; `find` looks for contacts to put on the list of a static one."""
    name, search, find = visit.number("segment_id"), visit.asked("search")[:SEARCH], visit.asked("find")[:SEARCH]
    segment = await segments.get_segment(visit.here, visit.who, name)
    members = await segments.list_members(visit.here, visit.who, visit.page(), name, search=search or None)
    found: Any = {"contacts": []}
    if find and segment["type"] == "static":
        found = await contacts.list_contacts(visit.here, visit.who, FOUND, search=find, segment_id=None, audience_id=None, unsubscribed=None)
    growth = await segments.get_growth(visit.here, visit.who, name, days=DAYS)
    return visit.show("segments/one.html", segment=segment, members=members["contacts"], pagination=members["pagination"], search=search, find=find,
                      found=found["contacts"], growing=growth["available"])


async def growth(visit: Visit) -> Response:
    """Members at the end of each day, for the chart."""
    daily = (await segments.get_growth(visit.here, visit.who, visit.number("segment_id"), days=DAYS))["daily"]
    return JSONResponse({"at": [_day(each["date"]) for each in daily], "series": [{"label": "members", "values": [each["members"] for each in daily]}]})


def _day(date: str) -> float:
    return datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()


async def edit(visit: Visit) -> Response:
    segment = await segments.get_segment(visit.here, visit.who, visit.number("segment_id"))
    rules = segment["rules"]
    rows = _rows(rules)
    if rules is None or rows is not None:
        return await _form(visit, segment, rules is None, *(rows or ("and", [BLANK])))
    return await _form(visit, segment, False, "and", [], _pretty(rules))


async def change(visit: Visit) -> Response:
    name = visit.number("segment_id")
    segment = await segments.get_segment(visit.here, visit.who, name)

    async def changed(rules: Any) -> Any:
        given = {"name": visit.given("name"), "description": visit.given("description"), "track_membership": visit.ticked("track_membership")}
        wanted = SegmentChange(**given) if segment["rules"] is None else SegmentChange(**given, rules=rules)
        return await segments.change_segment(visit.here, visit.who, name, wanted)

    return await _submitted(visit, segment["rules"] is None, changed, "Saved.", segment)


async def preview(visit: Visit) -> Response:
    """How many contacts the rules of the form are true of and the rules in words: a part of a page."""
    told, error = await _told(visit)
    return HTMLResponse(view.render("segments/told.html", {"told": told, "wrong": error.text if error else ""}))


async def put(visit: Visit) -> Response:
    name = visit.number("segment_id")
    done = await segments.add_members(visit.here, visit.who, name, MembersInput(contact_ids=[visit.given("contact_id")]))
    return visit.go(f"/dashboard/segments/{name}", "Added." if done["added"] else "Was on the list already.")


async def take(visit: Visit) -> Response:
    name = visit.number("segment_id")
    await segments.remove_member(visit.here, visit.who, name, visit.given("contact_id"))
    return visit.go(f"/dashboard/segments/{name}", "Removed from the list; the contact stays.")


async def delete(visit: Visit) -> Response:
    await segments.delete_segment(visit.here, visit.who, visit.number("segment_id"))
    return visit.go("/dashboard/segments", "The segment is deleted; its contacts stay.")


async def _submitted(visit: Visit, static: bool, act: Any, said: str, segment: Any = None) -> Response:
    """What the button of the form that was pressed does: save, or the form once more with a row added or gone, a count, or as JSON."""
    error: RelayError | None = None
    shown = {**(segment or {}), "name": visit.given("name"), "description": visit.given("description"), "track_membership": visit.ticked("track_membership")}
    if visit.given("do") in ("", "save"):
        try:
            made = await act(None if static else _rules(visit))
            return visit.go(f"/dashboard/segments/{made['id']}", said)
        except (RelayError, ValidationError) as wrong:
            error = visit.wrong(wrong)
    rows, text = _typed(visit), visit.given("rules") if "rules" in visit.form else None
    if visit.given("do") == "json" and text is None:
        text = _pretty(_made(visit, rows))
    told = (await _told(visit))[0] if not static and visit.given("do") in ("look", "json") else None
    if visit.given("do") == "look" and told is None:
        error = (await _told(visit))[1]
    return await _form(visit, shown, static, visit.given("match") or "and", _pressed(visit.given("do"), rows), text, told, error)


def _pressed(do: str, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows after a button: one more, or one less."""
    if do == "more":
        return [*rows, BLANK][:ROWS]
    head, _, number = do.partition(".")
    return [row for place, row in enumerate(rows) if head != "less" or str(place) != number] or [BLANK]


async def _form(visit: Visit, segment: Any, static: bool, match: str, rows: list[dict[str, str]], text: str | None = None, told: Any = None,
                error: RelayError | None = None) -> Response:
    named = [f"properties.{each['name']}" for each in (await properties.list_properties(visit.here, visit.who))["properties"]]
    place = f"/dashboard/segments/{segment['id']}/edit" if "id" in segment else "/dashboard/segments/new"
    return visit.show("segments/form.html", error=error, segment=segment, static=static, match=match, rows=rows, rules=text, told=told,
                      fields=(*FIELDS, *named), operators=OPERATORS, place=place)


async def _told(visit: Visit) -> tuple[Any, RelayError | None]:
    """Count and words of the form's rules, or what is wrong with them."""
    try:
        return await segments.preview_segment(visit.here, visit.who, RulesInput(rules=_rules(visit))), None
    except (RelayError, ValidationError) as wrong:
        return None, visit.wrong(wrong)


def _rules(visit: Visit) -> Any:
    """The rules that the form holds, as JSON or as rows; raises Invalid."""
    if "rules" not in visit.form:
        return _made(visit, _typed(visit))
    try:
        return orjson.loads(visit.given("rules"))
    except orjson.JSONDecodeError as wrong:
        raise Invalid("rules", f"the rules are no JSON: {wrong}") from None


def _made(visit: Visit, rows: list[dict[str, str]]) -> Any:
    conditions = [{name: value for name, value in row.items() if value or name != "value"} for row in rows if row["field"] or row["value"]]
    return {"operator": visit.given("match") or "and", "conditions": conditions}


def _typed(visit: Visit) -> list[dict[str, str]]:
    """The rows of the form."""
    return [{name: visit.given(f"{name}.{number}") for name in BLANK} for number in range(ROWS) if f"field.{number}" in visit.form]


def _rows(rules: Any) -> tuple[str, list[dict[str, str]]] | None:
    """How the rules look as rows: "and" or "or" and the conditions; None for what rows cannot show."""
    match, conditions = ("and", rules) if isinstance(rules, list) else ("", None)
    if isinstance(rules, dict) and set(rules) <= {"operator", "conditions"}:
        match, conditions = str(rules.get("operator", "and")).lower(), rules.get("conditions")
    if not isinstance(conditions, list) or len(conditions) > ROWS or not all(_plain(each) for each in conditions):
        return None
    return match, [{**each, "value": _written(each.get("value"))} for each in conditions]


def _plain(condition: Any) -> bool:
    """Whether a row of the form can show a condition as it is."""
    return (isinstance(condition, dict) and {"field", "operator"} <= set(condition) <= set(BLANK) and condition["operator"] in dict(OPERATORS)
            and isinstance(condition.get("value", ""), (str, int, float)))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def _pretty(rules: Any) -> str:
    return orjson.dumps(rules, option=orjson.OPT_INDENT_2).decode()


ROUTES = (
    get("/segments", every), get("/segments/new", new), post("/segments/new", create), post("/segments/preview", preview), get("/segments/{segment_id}", one),
    get("/segments/{segment_id}/growth", growth), get("/segments/{segment_id}/edit", edit), post("/segments/{segment_id}/edit", change),
    post("/segments/{segment_id}/members", put), post("/segments/{segment_id}/remove", take), post("/segments/{segment_id}/delete", delete),
)
