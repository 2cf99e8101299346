"""What each step does, and what its config may say."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.clock import iso
from relay.store.audience.rules import DAY
from relay.workflows import steps, triggers
from tests.workflows.flowing import Endpoint, line, node

RULES = [{"field": "properties.plan", "operator": "equals", "value": "pro"}]


@pytest.mark.parametrize(("kind", "config", "fields"), [
    ("send_email", {}, ["subject", "html"]),
    ("send_email", {"template_id": "tpl_1", "from": "nobody", "tags": "x"}, ["template_id", "from", "tags"]),
    ("send_email", {"subject": "{{ x", "html": "{{#if y}}"}, ["subject"]),
    ("wait", {}, ["delay"]),
    ("wait", {"delay": "soon"}, ["delay"]),
    ("wait", {"delay": "3651d"}, ["delay"]),
    ("wait", {"amount": 3, "unit": "years"}, ["delay"]),
    ("wait", {"event": "x"}, ["timeout"]),
    ("wait", {"event": 'a"b', "timeout": "1d"}, ["event"]),
    ("wait", {"until": "ends_at", "offset": "x", "missing": "y"}, ["offset", "missing"]),
    ("condition", {}, ["rules"]),
    ("condition", {"rules": [{"field": "plan", "operator": "like"}]}, ["rules[0].operator"]),
    ("condition", {"branches": [{"name": "no_match", "rules": RULES}, {"name": "b"}]}, ["branches[0].name", "branches[1].rules"]),
    ("webhook", {}, ["url"]),
    ("webhook", {"url": "ftp://x", "method": "FETCH", "headers": {"Host": "y", "X-A": "b\r\nc", "é": "z"}},
     ["url", "headers.Host", "headers.X-A", "headers.é", "method"]),
    ("update_contact", {}, ["set"]),
    ("update_contact", {"subscription": "maybe", "topics": {"top_1": True}, "add_tags": "x"}, ["add_tags", "subscription", "topics.top_1"]),
    ("exit", {"reason": 7}, ["reason"]),
])
def test_every_fault_of_a_config_is_named(kind, config, fields):
    assert [field for field, _ in steps.read(kind, config)[1]] == fields


@pytest.mark.parametrize(("kind", "config"), [
    ("send_email", {"template_id": "tpl_0000000000001"}), ("send_email", {"subject": "Hi", "text": "x", "from": "a@example.com", "transactional": True}),
    ("wait", {"delay": "3d"}), ("wait", {"delay": 60}), ("wait", {"amount": 3, "unit": "hours"}), ("wait", {"until": "data.ends_at", "offset": "-3d"}),
    ("wait", {"event": "bought", "timeout": 3_600}), ("condition", {"rules": RULES}), ("condition", RULES[0]),
    ("condition", {"logic": "AND", "groups": [{"filters": [{"field": "data.plan", "operator": "equals", "value": "pro"}]}]}),
    ("condition", {"branches": [{"name": "a", "rules": RULES}]}), ("webhook", {"url": "https://x.example/{{ id }}", "method": "put"}),
    ("update_contact", {"set": {"properties": {"stage": "{{ event.stage }}"}}}), ("update_contact", {"set": {"stage": 2}, "subscription": "none"}),
    ("exit", {})])
def test_what_a_config_may_say(kind, config):
    assert steps.read(kind, config)[1] == []


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)
                     | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
_NAMES = ("delay", "until", "offset", "event", "timeout", "rules", "branches", "url", "headers", "body", "set", "topics", "template_id", "subject", "html",
          "from", "tags", "reply_to", "variables", "segment_id", "cron", "every", "at", "timezone", "property", "amount", "unit", "reason", "add_to_segment")


@given(st.sampled_from([*steps.STEPS]), st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4))
def test_no_config_makes_a_fault_of_ours(kind, config):
    steps.read(kind, config)


@given(st.sampled_from([*triggers.TRIGGERS]), st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4))
def test_no_trigger_makes_a_fault_of_ours(kind, config):
    triggers.read(kind, config)


# Waits.


def test_a_wait_for_a_date_moves_with_the_date(owner, calendar):
    number = owner.active("contact.created", [node("wait", "wait", until="ends_at", offset="-3d"), node("end", "exit")], line("wait", "end"))
    now = calendar.now()
    person = owner.person("ann", properties={"ends_at": iso(now + 10 * DAY)})
    none = owner.person("nobody")
    owner.waiting(number)
    assert [(each["contact_id"], each["reason"]) for each in owner.runs(number)] == [(none["id"], "the contact has no date ends_at")]
    sooner = iso(now + 5 * DAY)
    owner.patch(f"/contacts/{person['id']}", {"properties": {"ends_at": sooner}})
    owner.until(f"/workflows/{number}/runs?status=running", lambda got: got["runs"][0]["waiting"]["until"][:19] == iso(now + 2 * DAY)[:19])
    calendar.pass_(2 * DAY + 1)
    assert len(owner.runs(number, 2)) == 2


def test_a_wait_for_a_date_sees_what_an_import_changed_though_nobody_is_told(owner, other, calendar):
    wait = [node("wait", "wait", until="ends_at"), node("end", "exit")]
    number, theirs = (each.active("contact.created", wait, line("wait", "end")) for each in (owner, other))
    now = calendar.now()
    dates = [iso(now + days * DAY) for days in (10, 3)]
    people = [each.post("/contacts", {"email": "ann@[127.0.0.1]", "properties": {"ends_at": dates[0]}}, 201) for each in (owner, other)]
    for each, flow in ((owner, number), (other, theirs)):
        each.waiting(flow)

    def until(each, flow, date):
        return each.until(f"/workflows/{flow}/runs", lambda got: got["runs"][0]["waiting"]["until"][:19] == date[:19])

    file = {"file": ("c.csv", f"email,ends_at\nann@[127.0.0.1],{dates[1]}\n", "text/csv")}
    answer = owner.http.post("/contacts/import", files=file)
    assert answer.status_code in (200, 202), answer.text
    until(owner, number, dates[1])
    assert [each["type"] for each in owner.get("/events", contact_id=people[0]["id"])["events"]] == ["contact.created"]
    owner.post(f"/contacts/imports/{answer.json()['id']}/undo")
    until(owner, number, dates[0])
    until(other, theirs, dates[0])


@pytest.mark.parametrize("came", [True, False], ids=["it comes", "it does not"])
def test_a_wait_for_an_event(owner, calendar, came):
    wait = node("wait", "wait", event="bought", timeout="7d")
    number = owner.active("contact.created", [wait, node("yes", "exit", reason="bought"), node("no", "exit", reason="did not")],
                          [*line("wait:match", "yes"), *line("wait:no_match", "no")])
    person = owner.person("bob")
    owner.waiting(number)
    if came:
        owner.happened("bought", person["email"], item="book")
    else:
        calendar.pass_(7 * DAY)
    run, = owner.runs(number)
    assert run["reason"] == ("bought" if came else "did not")
    assert owner.history(number, run)[1:3] == [("wait", "waiting"), ("wait", "event" if came else "timeout")]


def test_a_condition_about_membership_and_what_was_done(owner):
    segment = owner.post("/segments", {"name": "Pros", "rules": RULES}, 201)["id"]
    branches = [{"name": "pro", "rules": [{"field": "segment", "operator": "equals", "value": segment}]},
                {"name": "did", "rules": [{"field": "event.signed_up", "operator": "is_set"}]}]
    check = node("check", "condition", branches=branches)
    ends = [node(name, "exit", reason=name) for name in ("pro", "did", "no_match")]
    number = owner.active("custom", [check, *ends], [edge for name in ("pro", "did", "no_match") for edge in line(f"check:{name}", name)],
                          {"event": "signed_up"})
    people = {name: owner.person(name, properties={"plan": plan})["email"] for name, plan in (("ann", "pro"), ("bob", "free"))}
    for email in people.values():
        owner.happened("signed_up", email)
    assert {each["email"]: each["reason"] for each in owner.runs(number, 2)} == {people["ann"]: "pro", people["bob"]: "did"}


# Changes.


def test_a_contact_is_changed_through_its_own_rules(owner):
    topic = owner.post("/subscription-topics", {"name": "News"}, 201)["id"]
    club = owner.post("/segments", {"name": "Club"}, 201)["id"]
    change = node("change", "update_contact", set={"properties": {"stage": "{{ event.stage }}", "seats": 3}, "last_name": "Lee"}, add_tags=["vip"],
                  topics={topic: False}, add_to_segment=club)
    number = owner.active("custom", [change], (), {"event": "grew"})
    person = owner.person("cid")
    owner.happened("grew", person["email"], stage="two")
    run, = owner.runs(number)
    found = owner.get(f"/contacts/{person['id']}")
    assert (found["properties"], found["tags"], found["last_name"]) == ({"stage": "two", "seats": 3}, ["vip"], "Lee")
    assert [each["contact_id"] for each in owner.get(f"/contacts/{person['id']}/topics")["subscriptions"] if not each["subscribed"]] == [person["id"]]
    assert [each["id"] for each in owner.get(f"/segments/{club}/members")["contacts"]] == [person["id"]]
    assert owner.history(number, run)[1] == ("change", "changed")


def test_a_change_that_is_refused_fails_the_run_and_changes_nothing(owner):
    owner.post("/contact-properties", {"name": "seats", "label": "Seats", "type": "number"}, 201)
    number = owner.active("contact.created", [node("change", "update_contact", set={"properties": {"seats": "many"}}, add_tags=["x"]), node("end", "exit")],
                          line("change", "end"))
    person = owner.person("dee")
    run, = owner.runs(number, 1, "failed")
    assert run["reason"].startswith("properties.seats is a number, which ")
    assert owner.get(f"/contacts/{person['id']}")["tags"] == []


def test_a_contact_begins_a_workflow_so_often_within_an_hour(owner, calendar):
    """Two workflows that set each other off come to rest."""
    number = owner.active("custom", [node("end", "exit")], config={"event": "ping"}, reentry="always")
    person = owner.person("eve")["email"]
    for _ in range(25):
        owner.happened("ping", person)
    last = owner.active("custom", [node("end", "exit")], config={"event": "last"})
    owner.happened("last", person)
    owner.runs(last, within=60)  # the log is heard in its order
    assert len(owner.runs(number, 20)) == 20
    calendar.pass_(3_600)
    owner.happened("ping", person)
    assert len(owner.runs(number, 21)) == 21


def test_who_unsubscribes_gets_no_more_marketing_mail_and_the_run_goes_on(owner):
    number = owner.active("contact.created", [owner.letter("one", "First"), node("wait", "wait", event="go", timeout="1d"), owner.letter("two", "Second"),
                                              owner.letter("three", "Third", transactional=True)], line("one", "wait", "two", "three"))
    person = owner.person("fay")
    owner.waiting(number)
    owner.mail(1)  # it has left; what still waits would be stopped
    owner.post(f"/contacts/{person['id']}/unsubscribe")
    owner.happened("go", person["email"])
    run, = owner.runs(number)
    told = {each["node_id"]: each for each in owner.get(f"/workflows/{number}/runs/{run['id']}")["steps"]}
    assert (told["two"]["outcome"], told["two"]["detail"]) == ("skipped", {"reason": "unsubscribed"})
    mail = owner.mail(2)
    assert sorted(m["subject"] for m in mail) == ["First", "Third"]
    assert [m["list-unsubscribe"] is None for m in sorted(mail, key=lambda m: m["subject"])] == [False, True]


# Requests.


def test_a_webhook_is_tried_again_with_the_same_key(owner, calendar):
    with Endpoint(503) as endpoint:
        hook = node("hook", "webhook", url=endpoint.url + "/in?e={{ email | url_encode }}", headers={"X-Name": "{{ first_name }}"})
        number = owner.active("contact.created", [hook])
        person = owner.person("gus", properties={"plan": "pro"})
        held = owner.until(f"/workflows/{number}/runs", lambda got: got["runs"] and got["runs"][0]["waiting"]["why"])["runs"][0]
        assert held["waiting"]["why"] == "it answered 503"
        calendar.pass_(15)
        run, = owner.runs(number)
    (path, fields, body), (_, again, _) = endpoint.asked
    assert path == "/in?e=" + person["email"]
    assert fields["Idempotency-Key"] == again["Idempotency-Key"] == f"{run['id']}.hook"
    assert (fields["X-Name"], fields["Content-Type"]) == ("Gus", "application/json")
    told = orjson.loads(body)
    assert told["contact"] == {"id": person["id"], "email": person["email"], "subscribed": True, "data": {"plan": "pro"}}
    assert (told["workflow"]["id"], told["execution"]["id"], told["event"]["name"]) == (number, run["id"], "contact.created")
    assert owner.get(f"/workflows/{number}/runs/{run['id']}")["steps"][1]["detail"] == {"status": 200, "tries": 2}


@pytest.mark.parametrize(("status", "branch"), [(204, "yes"), (404, "no"), (302, "no")])
def test_what_a_webhook_answers_leads_on(owner, status, branch):
    with Endpoint(status) as endpoint:
        hook = node("hook", "webhook", url=endpoint.url, body={"say": ["{{ contact.data.plan }}"]})
        number = owner.active("contact.created", [hook, node("yes", "exit", reason="yes"), node("no", "exit", reason="no")],
                              [*line("hook:match", "yes"), *line("hook:no_match", "no")])
        owner.person("hal", properties={"plan": "p\"ro"})
        assert owner.runs(number)[0]["reason"] == branch
    assert orjson.loads(endpoint.asked[0][2]) == {"say": ['p"ro']}
