"""What begins a run, once: events, changes, segments, schedules, hands; and what does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from relay.store.audience.rules import DAY
from relay.workflows import triggers
from relay.workflows.triggers import Schedule
from tests.workflows.flowing import node

END = [node("end", "exit")]
MONDAY = datetime(2026, 3, 2, 8, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("schedule", "after", "wanted"), [
    pytest.param(Schedule(cron="0 9 * * 1"), MONDAY, MONDAY + 3_600, id="cron, today"),
    pytest.param(Schedule(cron="0 9 * * 1"), MONDAY + 3_600, MONDAY + 3_600 + 7 * DAY, id="cron, a week on"),
    pytest.param(Schedule(cron="0 9 * * 1", zone="Europe/Berlin"), MONDAY - 3_600, MONDAY, id="cron in a zone"),
    pytest.param(Schedule(cron="0 9 29 3 *", zone="Europe/Berlin"), MONDAY, MONDAY + 27 * DAY - 3_600, id="cron on the day on which the clocks change"),
    pytest.param(Schedule(every=DAY), MONDAY, MONDAY + DAY, id="every day from now"),
    pytest.param(Schedule(every=DAY, start=MONDAY), MONDAY + 2.5 * DAY, MONDAY + 3 * DAY, id="every day from a start"),
    pytest.param(Schedule(every=DAY, start=MONDAY), MONDAY - 9, MONDAY, id="the start itself"),
    pytest.param(Schedule(once=MONDAY), MONDAY - 1, MONDAY, id="once"),
    pytest.param(Schedule(once=MONDAY), MONDAY, None, id="once, and over"),
])
def test_when_a_schedule_comes(schedule, after, wanted):
    assert triggers.following(schedule, after) == wanted


CHANGE = {"changed": ["properties"], "properties": {"plan": {"from": "free", "to": "pro"}, "seats": {"from": 1, "to": None}}}


@pytest.mark.parametrize(("trigger", "config", "kind", "data", "wanted"), [
    ("contact.updated", {}, "contact.updated", CHANGE, True),
    ("contact.created", {}, "contact.updated", CHANGE, False),
    ("contact.subscribed", {}, "contact.subscribed", {}, True),
    ("contact.subscribed", {}, "contact.subscribed", {"scope": "topic:top_1"}, False),
    ("contact.subscribed", {"topic_id": "top_0000000000001"}, "contact.subscribed", {"scope": "topic:top_0000000000001"}, True),
    ("contact.subscribed", {"topicId": "top_0000000000001"}, "contact.subscribed", {"scope": "topic:top_0000000000002"}, False),
    ("contact.subscribed", {"topic_id": "top_0000000000001"}, "contact.subscribed", {}, False),
    ("custom", {"event": "signed_up"}, "signed_up", {}, True),
    ("custom", {"event": "signed_up"}, "Signed_up", {}, False),
    ("custom", {"event": "email.clicked"}, "email.clicked", {}, True),
    ("property.changed", {"property": "plan"}, "contact.updated", CHANGE, True),
    ("property.changed", {"property": "plan", "to": "pro"}, "contact.updated", CHANGE, True),
    ("property.changed", {"property": "plan", "from": "free", "to": "pro"}, "contact.updated", CHANGE, True),
    ("property.changed", {"property": "plan", "to": "free"}, "contact.updated", CHANGE, False),
    ("property.changed", {"property": "seats", "to": None}, "contact.updated", CHANGE, True),
    ("property.changed", {"property": "seats", "from": True}, "contact.updated", CHANGE, False),
    ("property.changed", {"property": "name"}, "contact.updated", CHANGE, False),
    ("segment.entry", {"segment_id": "seg_0000000000001"}, "segment.x.entry", {"segment_id": "seg_0000000000001"}, True),
    ("segment.entry", {"segment_id": "seg_0000000000001"}, "segment.x.exit", {"segment_id": "seg_0000000000001"}, False),
    ("segment.entry", {"segment_id": "seg_0000000000001"}, "segment.x.entry", {"segment_id": "seg_0000000000002"}, False),
    ("manual", {}, "manual", {}, False),
])
def test_which_event_is_the_wanted_one(trigger, config, kind, data, wanted):
    what, faults = triggers.read(trigger, config)
    assert (faults, triggers.matches(what, kind, data)) == ([], wanted)


def test_events_begin_runs_once_each_and_only_here(owner, other):
    number = owner.active("custom", END, config={"event": "signed_up"}, reentry="always")
    theirs = other.active("custom", END, config={"event": "signed_up"}, reentry="always")
    ann = owner.person("ann")["email"]
    assert [owner.happened("signed_up", ann), owner.happened("signed_up", ann), owner.happened("Signed_up", ann)] == [1, 1, 0]
    track = owner.post("/plunk/v1/track", {"event": "signed_up", "email": ann, "data": {"from": "page"}})
    assert track["success"] is True
    runs = owner.runs(number, 3)
    assert len(runs) == 3
    assert {each["email"] for each in runs} == {ann}
    assert other.get(f"/workflows/{theirs}/runs")["runs"] == []
    assert other.http.get(f"/workflows/{number}/runs").status_code == 404
    assert other.http.post("/workflows/events", json={"event": "signed_up", "email": ann}).status_code == 404


def test_reentry(owner):
    person = owner.person("bob")["email"]
    flows = {rule: owner.active("custom", [node("wait", "wait", event="go", timeout="9d")], config={"event": "come"}, reentry=rule)
             for rule in ("once", "after_exit", "always")}

    def begun(rule, count, status="running"):
        return len(owner.until(f"/workflows/{flows[rule]}/runs?status={status}", lambda got: len(got["runs"]) >= count)["runs"])

    for _ in range(2):
        owner.happened("come", person)
    assert [begun("always", 2), begun("after_exit", 1), begun("once", 1)] == [2, 1, 1]
    owner.happened("go", person)
    for rule, count in (("always", 2), ("after_exit", 1), ("once", 1)):
        owner.runs(flows[rule], count)
    owner.happened("come", person)
    assert [begun("always", 1), begun("after_exit", 1)] == [1, 1]
    assert owner.get(f"/workflows/{flows['once']}")["runs"] == {"running": 0, "completed": 1, "failed": 0, "stopped": 0}


def test_a_property_that_changes(owner):
    number = owner.active("property.changed", END, config={"property": "plan", "to": "pro"})
    person = owner.person("cid", properties={"plan": "free"})
    owner.patch(f"/contacts/{person['id']}", {"properties": {"seats": 3}})
    owner.patch(f"/contacts/{person['id']}", {"properties": {"plan": "pro"}})
    run, = owner.runs(number)
    told = owner.get(f"/workflows/{number}/runs/{run['id']}")
    assert told["event"]["properties"] == {"plan": {"from": "free", "to": "pro"}}


def test_contacts_that_subscribe(owner):
    number = owner.active("contact.subscribed", END)
    person = owner.person("dee")
    owner.post(f"/contacts/{person['id']}/unsubscribe")
    owner.patch(f"/contacts/{person['id']}", {"unsubscribed": False})
    assert owner.runs(number)[0]["contact_id"] == person["id"]


def test_contacts_that_subscribe_to_a_topic(owner, other):
    topic, unlike = (owner.post("/subscription-topics", {"name": name}, 201)["id"] for name in ("News", "Offers"))
    number, plain = owner.active("contact.subscribed", END, config={"topic_id": topic}), owner.active("contact.subscribed", END)
    ann, bob = owner.person("ann"), owner.person("bob")
    for person, wanted in ((ann, unlike), (ann, topic), (bob, unlike)):
        owner.delete(f"/subscription-topics/{wanted}/subscribers/{person['id']}")
        owner.post(f"/subscription-topics/{wanted}/subscribers", {"contact_id": person["id"]})
    owner.post(f"/contacts/{bob['id']}/unsubscribe")
    owner.patch(f"/contacts/{bob['id']}", {"unsubscribed": False})
    assert [each["contact_id"] for each in owner.runs(plain)] == [bob["id"]]  # the last event of all: what came before has been heard
    assert [each["contact_id"] for each in owner.runs(number)] == [ann["id"]]
    strange = other.draft("contact.subscribed", END, (), {"topic_id": topic})
    wrong = other.http.post(f"/workflows/{strange}/activate")
    assert (wrong.status_code, f"there is no topic {topic}" in wrong.text) == (422, True)


def test_segments_that_contacts_come_to_and_go_from(owner):
    rules = [{"field": "properties.plan", "operator": "equals", "value": "pro"}]
    segment = owner.post("/segments", {"name": "Pros", "rules": rules, "track_membership": True}, 201)["id"]
    came = owner.active("segment.entry", END, config={"segment_id": segment})
    went = owner.active("segment.exit", END, config={"segment_id": segment})
    person = owner.person("eve", properties={"plan": "pro"})
    assert owner.runs(came)[0]["contact_id"] == person["id"]
    owner.patch(f"/contacts/{person['id']}", {"properties": {"plan": "free"}})
    assert owner.runs(went)[0]["contact_id"] == person["id"]


def test_an_import_begins_none_unless_asked(owner):
    number = owner.active("contact.created", END)
    for name, asked in (("quiet", {}), ("loud", {"events": "true"})):
        file = {"file": ("c.csv", f"email\n{name}@[127.0.0.1]\n", "text/csv")}
        answer = owner.http.post("/contacts/import", files=file, data=asked)
        assert answer.status_code in (200, 202), answer.text
    assert [each["email"] for each in owner.runs(number)] == ["loud@[127.0.0.1]"]
    changed = owner.active("property.changed", END, config={"property": "plan", "to": "pro"})
    file = {"file": ("c.csv", "email,plan\nquiet@[127.0.0.1],free\nloud@[127.0.0.1],pro\n", "text/csv")}
    assert owner.http.post("/contacts/import", files=file, data={"events": "true"}).status_code in (200, 202)
    assert [each["email"] for each in owner.runs(changed)] == ["loud@[127.0.0.1]"]


def test_a_schedule_takes_the_members_of_a_segment(owner, calendar):
    people = owner.people(3)
    segment = owner.post("/segments", {"name": "Pros", "rules": [{"field": "properties.plan", "operator": "equals", "value": "pro"}]}, 201)["id"]
    number = owner.active("schedule", END, config={"every": "1d", "segment_id": segment}, reentry="always")
    assert owner.get(f"/workflows/{number}")["next_start_at"] is not None
    calendar.pass_(DAY)
    first, = owner.runs(number)
    assert first["contact_id"] == people[1].public_id
    calendar.pass_(5 * DAY)
    assert len(owner.runs(number, 2)) == 2, "what was missed is one start"


def test_pause_lets_runs_go_on_and_begins_none(owner, calendar):
    number = owner.active("contact.created", [node("wait", "wait", delay="1d")])
    first = owner.person("fay")
    owner.waiting(number)
    assert owner.post(f"/workflows/{number}/pause")["status"] == "paused"
    owner.person("gus")
    calendar.pass_(DAY)
    assert [each["contact_id"] for each in owner.runs(number)] == [first["id"]]
    assert owner.post(f"/workflows/{number}/activate")["status"] == "active"
    hal = owner.person("hal")
    assert [each["contact_id"] for each in owner.waiting(number)] == [hal["id"]], "who came during the pause is not caught up on"
