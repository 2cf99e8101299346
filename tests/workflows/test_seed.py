"""The use cases of the seed pages that are workflows, from a fresh project to the delivered mail, on a clock that the test moves."""

from __future__ import annotations

import pytest

from relay.clock import iso
from relay.store.audience.rules import DAY
from tests.workflows.flowing import line, node


def subjects(owner, count):
    return sorted((str(m["to"]).partition("@")[0], m["subject"]) for m in owner.mail(count))


def test_an_onboarding_sequence(owner, calendar):
    """S0: welcome at once, a hint after a day, and after three days more a nudge to those who have done nothing yet."""
    did = [{"field": "event.project_created", "operator": "is_set"}]
    nodes = [owner.letter("welcome", "Welcome, {{ first_name }}", topic_id=owner.post("/subscription-topics", {"name": "Tips"}, 201)["id"]),
             node("day", "wait", delay="1d"), owner.letter("hint", "A first hint"), node("three", "wait", delay="3d"), node("check", "condition", rules=did),
             node("done", "exit", reason="active"), owner.letter("nudge", "Shall we help, {{ first_name }}?")]
    number = owner.active("contact.created", nodes, [*line("welcome", "day", "hint", "three", "check:match", "done"), *line("check:no_match", "nudge")])
    ann, bob = owner.person("ann", properties={"plan": "free"}), owner.person("bob", properties={"plan": "free"})
    owner.waiting(number, 2)
    assert subjects(owner, 2) == [("ann", "Welcome, Ann"), ("bob", "Welcome, Bob")]
    calendar.pass_(DAY)
    assert len(owner.mail(4)) == 4
    heard = owner.active("custom", [node("end", "exit")], config={"event": "project_created"})
    owner.happened("project_created", ann["email"])
    owner.runs(heard)  # counted before the days pass
    owner.until(f"/workflows/{number}/runs", lambda got: all(each["current_node_id"] == "three" for each in got["runs"]))
    calendar.pass_(3 * DAY)
    assert {each["contact_id"]: each["reason"] for each in owner.runs(number, 2)} == {ann["id"]: "active", bob["id"]: None}
    mail = {str(m["subject"]): m for m in owner.mail(5)}
    assert str(mail["Shall we help, Bob?"]["to"]) == bob["email"]
    assert all("/u/" in str(m["list-unsubscribe"]) for m in mail.values())
    assert "List-Unsubscribe=One-Click" in str(mail["A first hint"]["list-unsubscribe-post"])


def test_dormant_contacts_are_won_back(owner, calendar):
    """S0: who comes to the segment of the dormant is written to; who is active again within a week is left in peace."""
    rules = [{"field": "properties.status", "operator": "equals", "value": "dormant"}]
    segment = owner.post("/segments", {"name": "Dormant users", "rules": rules, "track_membership": True}, 201)["id"]
    nodes = [owner.letter("miss", "We miss you, {{ first_name }}"), node("week", "wait", event="signed_in", timeout="7d"),
             node("back", "update_contact", set={"properties": {"status": "active"}}, add_tags=["won-back"]), owner.letter("last", "A last word")]
    number = owner.active("segment.entry", nodes, [*line("miss", "week"), *line("week:match", "back"), *line("week:no_match", "last")],
                          {"segment_id": segment}, reentry="after_exit")
    ann, bob = owner.person("ann"), owner.person("bob")
    for person in (ann, bob):
        owner.patch(f"/contacts/{person['id']}", {"properties": {"status": "dormant"}})
    owner.waiting(number, 2)
    owner.happened("signed_in", ann["email"])
    owner.runs(number, 1)
    calendar.pass_(7 * DAY)
    owner.runs(number, 2)
    assert subjects(owner, 3) == [("ann", "We miss you, Ann"), ("bob", "A last word"), ("bob", "We miss you, Bob")]
    found = owner.get(f"/contacts/{ann['id']}")
    assert (found["properties"]["status"], found["tags"]) == ("active", ["won-back"])
    owner.patch(f"/contacts/{ann['id']}", {"properties": {"status": "dormant"}})
    owner.until(f"/workflows/{number}", lambda got: got["runs"]["running"] == 1)


def test_a_reminder_before_a_trial_ends(owner, calendar):
    """S0, S2: three days before `trialEndsAt`, but not to who has bought; a trial that is extended moves its reminder."""
    nodes = [node("until", "wait", until="trialEndsAt", offset="-3d"), node("bought", "condition", rules=[
        {"field": "properties.plan", "operator": "not_equals", "value": "trial"}]), node("paid", "exit", reason="has bought"),
             owner.letter("remind", "Your trial ends soon", html="<p>{{ first_name }}, your trial ends {{ trialEndsAt | date: '%Y-%m-%d' }}.</p>")]
    number = owner.active("property.changed", nodes, [*line("until", "bought"), *line("bought:match", "paid"), *line("bought:no_match", "remind")],
                          {"property": "plan", "to": "trial"})
    ends = calendar.now() + 14 * DAY
    people = [owner.person(name) for name in ("ann", "bob", "cid")]
    for person in people:
        owner.patch(f"/contacts/{person['id']}", {"properties": {"plan": "trial", "trialEndsAt": iso(ends)}})
    owner.waiting(number, 3)
    owner.patch(f"/contacts/{people[1]['id']}", {"properties": {"plan": "pro"}})
    owner.patch(f"/contacts/{people[2]['id']}", {"properties": {"trialEndsAt": iso(ends + 7 * DAY)}})
    owner.until(f"/workflows/{number}/runs", lambda got: len({each["waiting"]["until"] for each in got["runs"] if each["waiting"]}) == 2)
    calendar.pass_(11 * DAY + 60)
    owner.runs(number, 2)
    mail, = owner.mail(1)
    assert str(mail["to"]) == people[0]["email"]
    assert f"your trial ends {iso(ends)[:10]}." in mail.get_body(("html",)).get_content()
    calendar.pass_(7 * DAY)
    assert {each["contact_id"]: each["reason"] for each in owner.runs(number, 3)} == {
        people[0]["id"]: None, people[1]["id"]: "has bought", people[2]["id"]: None}
    assert len(owner.mail(2)) == 2


@pytest.mark.parametrize(("kind", "wanted"), [("TRANSACTIONAL", {"ann", "bob"}), ("MARKETING", {"ann"})])
def test_the_delivery_matrix_of_workflows(owner, kind, wanted):
    """S2: a transactional template reaches subscribed and unsubscribed contacts, a marketing template subscribed ones only."""
    body = {"name": kind, "subject": "Hello", "body": "<p>Hi</p>", "from": f"news@{owner.domain}", "type": kind}
    template = owner.post("/plunk/templates", body, 201)
    template = template.get("data", template)
    flow = owner.post("/plunk/workflows", {"name": kind, "eventName": "come"}, 201)
    step = owner.post(f"/plunk/workflows/{flow['id']}/steps", {"type": "SEND_EMAIL", "name": "Mail", "config": {"templateId": template["id"]}}, 201)
    trigger = next(each["id"] for each in flow["steps"] if each["type"] == "TRIGGER")
    owner.post(f"/plunk/workflows/{flow['id']}/transitions", {"fromStepId": trigger, "toStepId": step["id"]}, 201)
    assert owner.patch(f"/plunk/workflows/{flow['id']}", {"enabled": True})["enabled"] is True
    for name, subscribed in (("ann", True), ("bob", False)):
        owner.post("/plunk/v1/track", {"event": "come", "email": f"{name}@{owner.domain}", "subscribed": subscribed})
    owner.until(f"/plunk/workflows/{flow['id']}/executions", lambda got: sum(each["status"] == "COMPLETED" for each in got["data"]) == 2)
    assert {name for name, _ in subjects(owner, len(wanted))} == wanted
