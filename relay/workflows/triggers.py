"""TRIGGERS: what begins a run, a row each.

    contact.created  contact.updated     that event; imports are silent unless they were asked to tell of each contact
    contact.subscribed  {"topic_id": "top_..."}: to this topic; without one, to marketing mail
    property.changed    {"property": "plan", "from": "free", "to": "pro"}: a change of one property, to and from any value unless said
    custom              {"event": "signed_up"}: an event of this name, exactly; also ours, such as email.clicked
    segment.entry  segment.exit     {"segment_id": "seg_..."}: of a segment whose membership is tracked
    schedule            {"cron": "0 9 * * 1", "timezone": "Europe/Berlin"}  {"every": "1d", "start": "2026-03-01T09:00:00Z"}  {"at": "2026-03-01T09:00:00Z"}:
                        for each member of `segment_id`, or for all contacts with "all_contacts": true
    manual              only by POST /workflows/{id}/trigger

`read` gives what is wanted of an event; `matches` is a plain question about one; `following` says when a schedule comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from relay.mail import ids
from relay.store.audience import topics
from relay.store.audience.rules import Moment
from relay.workflows.form import Form
from relay.workflows.steps import event_name

MANUAL, SCHEDULE, CUSTOM, SUBSCRIBED = "manual", "schedule", "custom", "contact.subscribed"
LEAST = 60.0  # seconds between two starts of a schedule


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times in UTC seconds: a cron expression, every so many seconds from a start, or once."""

    cron: str = ""
    zone: str = "UTC"
    every: float = 0.0
    start: float | None = None
    once: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`type` of the event, "" for none; the property with its values as JSON has them (`before`, `after` where `compared` says so); the segment's
    and the topic's number."""

    type: str = ""
    property: str = ""
    compared: tuple[tuple[str, Any], ...] = ()
    segment: int | None = None
    edge: str = ""  # entry | exit
    schedule: Schedule | None = None
    everyone: bool = False
    topic: int | None = None


def matches(wanted: Wanted, kind: str, data: Mapping[str, Any]) -> bool:
    """Whether an event of this type and data is the wanted one."""
    if wanted.edge:
        return kind.startswith("segment.") and kind.endswith(f".{wanted.edge}") and data.get("segment_id") == ids.public("seg", wanted.segment or 0)
    if not wanted.type or kind != wanted.type:
        return False
    if wanted.property:
        changes = data.get("properties")
        changed = changes.get(wanted.property) if isinstance(changes, Mapping) else None
        return isinstance(changed, Mapping) and all(name in changed and _same(changed[name], value) for name, value in wanted.compared)
    if kind == SUBSCRIBED:
        scope = str(data.get("scope", ""))
        return not scope.startswith("topic:") if wanted.topic is None else scope == topics.scope(wanted.topic)
    return True


def _same(one: Any, other: Any) -> bool:
    """JSON's equality, in which true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


# How configs read.


def _event(name: str) -> Callable[[Form], Wanted]:
    return lambda form: Wanted(name)


def _custom(form: Form) -> Wanted:
    return Wanted(event_name(form))


def _subscribed(form: Form) -> Wanted:
    return Wanted(SUBSCRIBED, topic=form.id("top", "topic_id", "topicId"))


def _property(form: Form) -> Wanted:
    name = form.text("property", "property_name", "field", required=True, longest=64).removeprefix("properties.").removeprefix("data.")
    compared = tuple((name, form.given[name]) for name in ("from", "to") if name in form.given)
    return Wanted("contact.updated", property=name, compared=compared)


def _segment(edge: str) -> Callable[[Form], Wanted]:
    def read(form: Form) -> Wanted:
        number = form.id("seg", "segment_id", "segmentId")
        if number is None and form.has("segment_id", "segmentId") is None:
            form.wrong("segment_id", "is required")
        return Wanted(segment=number, edge=edge)

    return read


def _schedule(form: Form) -> Wanted:
    zone = form.text("timezone", longest=64) or "UTC"
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        form.wrong("timezone", "is the name of a time zone, such as Europe/Berlin")
        zone = "UTC"
    cron, every, once, start = form.text("cron", longest=100), form.seconds("every"), _moment(form, "at"), _moment(form, "start")
    if sum(form.has(name) is not None for name in ("cron", "every", "at")) != 1:
        form.wrong("cron", 'is required: when it begins, such as "0 9 * * 1"; or every, such as "1d"; or at, a time')
    if every is not None and every < LEAST:
        form.wrong("every", "is a minute at least")
    if cron:
        try:
            CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError:
            form.wrong("cron", 'is a cron expression of five fields, such as "0 9 * * 1": minute hour day month weekday')
    segment, everyone = form.id("seg", "segment_id", "segmentId"), bool(form.flag("all_contacts"))
    if segment is None and not everyone and form.has("segment_id", "segmentId") is None:
        form.wrong("segment_id", "is required: whose members begin; or all_contacts: true")
    return Wanted(segment=segment, everyone=everyone, schedule=Schedule(cron, zone, every or 0.0, start, once))


def _moment(form: Form, name: str) -> float | None:
    found = form.text(name, longest=40)
    moment = Moment.read(found) if found else None
    if found and moment is None:
        form.wrong(name, "is a time such as 2026-03-01T09:00:00Z")
    return moment.start if moment else None


TRIGGERS: dict[str, Callable[[Form], Wanted]] = {
    "contact.created": _event("contact.created"), "contact.updated": _event("contact.updated"), SUBSCRIBED: _subscribed,
    CUSTOM: _custom, "property.changed": _property, "segment.entry": _segment("entry"), "segment.exit": _segment("exit"),
    SCHEDULE: _schedule, MANUAL: lambda form: Wanted()}


def read(trigger: str, config: Mapping[str, Any]) -> tuple[Wanted, list[tuple[str, str]]]:
    """What begins a run, and all that is wrong with the config."""
    form = Form(config)
    return TRIGGERS[trigger](form), form.faults


def following(schedule: Schedule, after: float) -> float | None:
    """When the schedule comes next after a time; None when it does not any more."""
    if schedule.once is not None:
        return schedule.once if schedule.once > after else None
    if schedule.every:
        start = schedule.start if schedule.start is not None else after
        return start if start > after else start + (int((after - start) // schedule.every) + 1) * schedule.every
    try:
        return next(CronSim(schedule.cron, datetime.fromtimestamp(after, ZoneInfo(schedule.zone)))).timestamp()
    except (StopIteration, CronSimError):
        return None
