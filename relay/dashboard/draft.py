"""The form of a broadcast: what it says, as the API takes it; what there is to choose from; and the wordings of an A/B test, row by row."""

from __future__ import annotations

from typing import Any

from relay.dashboard import preview
from relay.dashboard.visit import Visit
from relay.errors import Invalid
from relay.mail import ids
from relay.store import templates
from relay.store.audience import audiences, segments, topics
from relay.store.broadcasts import broadcasts
from relay.store.pages import Page

CHOICES = Page(1, 200)  # newest of a kind that a form offers; one that was chosen is offered too
WORDINGS = 5  # of an A/B test
LETTERS = "ABCDE"
EMPTY = {"name": "", "subject": "", "html": "", "text": "", "weight": ""}
TRACKED = (("", "as the domain has it"), ("on", "yes"), ("off", "no"))
METRICS = (("open_rate", "more opens"), ("click_rate", "more clicks"))
BLANK: dict[str, Any] = {
    "name": "", "from": "", "reply_to": [], "subject": "", "html": "", "text": "", "template_id": None, "segment_id": None, "audience_id": None,
    "topic_id": None, "all_contacts": False, "rules": None, "per_minute": None, "tracking": {}, "ab_test": None,
}


def said(visit: Visit) -> dict[str, Any]:
    """What the form says, every field of it; raises Invalid."""
    to, _, chosen = visit.given("to").partition(":")
    given: dict[str, Any] = {
        "name": visit.given("name"), "from": visit.given("from"), "reply_to": [each for each in map(str.strip, visit.given("reply_to").split(",")) if each],
        "subject": visit.given("subject"), "html": preview.written(visit, "html"), "text": preview.written(visit, "text"),
        "template_id": visit.given("template_id") or None, "segment_id": chosen if to == "segment" else None,
        "audience_id": chosen if to == "audience" else None, "all_contacts": to == "all", "topic_id": visit.given("topic_id") or None,
        "per_minute": whole(visit, "per_minute"), "tracking": {name: visit.given(name) == "on" for name in ("opens", "clicks") if visit.given(name)},
        "ab_test": _test(visit) if "test" in visit.form else None,
    }
    return given if to == "rules" else {**given, "rules": None}


def _test(visit: Visit) -> dict[str, Any]:
    rows = [{**row, "weight": whole(visit, f"weight.{number}"), "html": row["html"] or None, "text": row["text"] or None}
            for number, row in enumerate(wordings(visit), 1)]
    sample, minutes, metric = (visit.given(name) for name in ("sample", "minutes", "metric"))
    return {"variants": rows, "test_sample_size": sample, "test_duration_minutes": minutes, "winner_metric": metric}


def whole(visit: Visit, name: str) -> int | None:
    """A number of the form, None for nothing; raises Invalid."""
    text = visit.given(name)
    if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Invalid(name, f"{name.partition('.')[0].replace('_', ' ')} is a whole number")
    return int(text) if text else None


def wordings(visit: Visit) -> list[dict[str, str]]:
    """The rows of the form's A/B test."""
    numbers = [number for number in range(1, WORDINGS + 1) if f"subject.{number}" in visit.form]
    return [{name: (preview.written(visit, f"{name}.{number}") or "") for name in EMPTY} for number in numbers]


def pressed(visit: Visit) -> list[dict[str, Any]]:
    """The rows after a button of the form: a test begun, a row more or less, or none: one wording again."""
    do, rows = visit.given("do"), wordings(visit)
    if do == "single":
        return []
    if do == "test":
        rows = [{name: visit.given(name) for name in EMPTY}, dict(EMPTY)]
    if do == "more" and len(rows) < WORDINGS:
        rows.append(dict(EMPTY))
    if do.startswith("less."):
        rows = [row for number, row in enumerate(rows, 1) if do != f"less.{number}"]
    return _even(rows) if do == "test" or len(rows) != len(wordings(visit)) else rows


def alone(visit: Visit) -> dict[str, Any]:
    """What the form shows when its test was taken back: the first wording where there were several."""
    rows = wordings(visit)
    if visit.given("do") != "single" or not rows:
        return {}
    return {"given": {**{name: visit.given(name) for name in visit.form}, **{name: rows[0][name] for name in ("subject", "html", "text")}}}


def _even(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Named anew, with equal weights that add up to 100."""
    share, more = divmod(100, max(1, len(rows)))
    return [{**row, "name": LETTERS[place], "weight": share + (place < more)} for place, row in enumerate(rows)]


async def choices(visit: Visit, broadcast: Any) -> dict[str, Any]:
    """What the form offers for whom, topic and template."""
    asked = {"segment_id": (segments.paged_list, segments.get), "audience_id": (audiences.paged, audiences.get),
             "topic_id": (topics.paged, topics.get), "template_id": (templates.page, templates.get)}
    found = {}
    for name, (paged, get) in asked.items():
        more = ("", True) if name == "template_id" else ()
        rows = (await visit.here.store.read(paged, visit.who.project, CHOICES, *more)).rows
        number = ids.internal(broadcast[name], name[:3].replace("tem", "tpl")) if broadcast[name] else None
        if number is not None and all(row.id != number for row in rows):
            rows = [await visit.here.store.read(get, visit.who.project, number), *rows]
        found[name] = [(row.public_id, row.name) for row in rows]
    whom = [("", "choose"), ("all", "Everybody"), *((f"segment:{each}", f"Segment: {name}") for each, name in found["segment_id"]),
            *((f"audience:{each}", f"Audience: {name}") for each, name in found["audience_id"])]
    if broadcast["rules"] is not None:
        whom.append(("rules", "Rules of its own, made over the API"))
    return {"whom": whom, "topics": [("", "none"), *found["topic_id"]], "letters": [("", "none: what stands below"), *found["template_id"]],
            "to": chosen(broadcast), "tracked": TRACKED, "metrics": METRICS}


def chosen(broadcast: Any) -> str:
    """For whom it is, as the form says it."""
    for kind in ("segment", "audience"):
        if broadcast[f"{kind}_id"]:
            return f"{kind}:{broadcast[f'{kind}_id']}"
    return "rules" if broadcast["rules"] is not None else "all" if broadcast["all_contacts"] else ""


async def latest_sender(visit: Visit) -> str:
    """From whom the newest broadcast was, which the next one is likely to be from too."""
    found = (await visit.here.store.read(broadcasts.paged, visit.who.project, Page(1, 1))).rows
    return found[0].sender if found else ""
