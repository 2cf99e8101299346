"""Workflows edited by forms: what a step does as fields and back, steps added, changed, led elsewhere and taken out, without a word of JSON or JavaScript."""

from __future__ import annotations

import pytest
from selectolax.lexbor import LexborHTMLParser

from relay.dashboard import steps
from relay.errors import Invalid
from tests.support.visitor import visiting, words
from tests.workflows.flowing import Flows, line, node

LIST = "/dashboard/workflows"
HOSTILE = "<script>alert(1)</script>\"' onload=x"
PRO = [{"field": "plan", "operator": "equals", "value": "pro"}]
CONFIGS = {
    "a template": ("send_email", {"template_id": "tpl_0000000000001"}),
    "texts": ("send_email", {"subject": "Hi", "html": "<p>\n  Hi</p>", "text": "Hi", "from": "a@b.example", "reply_to": ["c@d.example", "e@f.example"],
                             "topic_id": "top_0000000000001", "transactional": False, "tags": ["x", "y"], "variables": {"code": 7}}),
    "other spellings": ("send_email", {"templateId": 1, "replyTo": "c@d.example", "topicId": 2}),
    "a delay": ("wait", {"delay": "3d"}), "a delay in units": ("wait", {"delay": {"amount": 3, "unit": "days"}}),
    "an amount": ("wait", {"amount": 3, "unit": "days"}),
    "seconds": ("wait", {"delay": 90}), "a date": ("wait", {"until": "trial_ends_at", "offset": "-3d", "missing": "continue"}),
    "an event": ("wait", {"event": "bought", "timeout": "7d"}),
    "a call": ("webhook", {"url": "https://a.example/", "method": "put", "headers": {"X-Token": "a: b"}, "body": {"id": "{{ id }}", "n": [1, None]}}),
    "fields": ("update_contact", {"set": {"first_name": "Ann", "properties": {"zip": "01067", "n": 3, "on": True, "two": "a\nb"}}, "add_tags": ["a"]}),
    "loose fields": ("update_contact", {"updates": {"data.plan": "pro", "lastName": "Lee"}, "subscription": "unsubscribe"}),
    "topics and lists": ("update_contact", {"topics": {"top_0000000000001": True, "top_0000000000002": False}, "add_to_segment": "seg_0000000000001"}),
    "an end": ("exit", {"reason": "done"}), "nothing": ("exit", {}), "what nobody knows": ("wait", {"delay": "3d", "note": {"by": "us"}}),
    "nonsense": ("update_contact", {"set": 7, "topics": [], "add_tags": "x"}),
}


@pytest.fixture
def owner(tenant):
    return Flows(tenant)


@pytest.mark.parametrize(("kind", "config"), CONFIGS.values(), ids=CONFIGS)
def test_what_nobody_touches_stays_to_the_letter(kind, config):
    form = steps.FORMS[kind]
    shown = form.shown(config)
    assert form.kept(config, shown) == config
    assert form.kept(config, {name: text.replace("\n", "\r\n") + " " for name, text in shown.items()}) == config  # as a browser sends it


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "nonsense"])
def test_what_a_form_makes_shows_the_same_again(name):
    kind, config = CONFIGS[name]
    form = steps.FORMS[kind]
    assert form.shown(form.config(form.shown(config))) == form.shown(config)


@pytest.mark.parametrize(("kind", "old", "fields", "wanted"), [
    ("send_email", {}, {"subject": "Hi", "text": "x"}, {"subject": "Hi", "text": "x"}),
    ("send_email", {"variables": {"a": 1}, "templateId": 1}, {"template_id": "", "subject": "Hi"}, {"variables": {"a": 1}, "subject": "Hi"}),
    ("send_email", {}, {"transactional": "true", "reply_to": "a@b.example", "tags": "x, y"},
     {"transactional": True, "reply_to": "a@b.example", "tags": ["x", "y"]}),
    ("wait", {"delay": "3d"}, {"how": "event", "event": "bought", "timeout": "7d"}, {"event": "bought", "timeout": "7d"}),
    ("wait", {"event": "bought", "timeout": "7d"}, {"how": "delay", "delay": "1h"}, {"delay": "1h"}),
    ("wait", {}, {"how": "until", "until": "renews_at", "offset": "-3d"}, {"until": "renews_at", "offset": "-3d"}),
    ("webhook", {}, {"url": "https://a.example/", "headers": "X-A: b:c\nX-D: e", "body": "[1]"},
     {"url": "https://a.example/", "method": "post", "headers": {"X-A": "b:c", "X-D": "e"}, "body": [1]}),
    ("update_contact", {}, {"properties": 'plan = pro\nseats = 3\nzip = "01067"\non = true'},
     {"set": {"properties": {"plan": "pro", "seats": 3, "zip": "01067", "on": True}}}),
    ("update_contact", {"add_tags": ["a"]}, {"add_tags": "", "subscription": "subscribe", "subscribe": "top_1", "unsubscribe": "top_2"},
     {"subscription": "subscribe", "topics": {"top_1": True, "top_2": False}}),
], ids=str)
def test_fields_become_a_config(kind, old, fields, wanted):
    form = steps.FORMS[kind]
    assert form.kept(old, {**form.shown(old), **fields}) == wanted


@pytest.mark.parametrize(("kind", "fields", "field"), [
    ("webhook", {"headers": "nonsense"}, "headers"), ("webhook", {"body": "{"}, "body"), ("update_contact", {"properties": "plan"}, "properties"),
], ids=["no header", "no JSON", "no property"])
def test_what_is_no_config_names_its_field(kind, fields, field):
    form = steps.FORMS[kind]
    with pytest.raises(Invalid) as wrong:
        form.kept({}, {**form.shown({}), **fields})
    assert wrong.value.field == field


def graph(owner, number):
    found = owner.get(f"/workflows/{number}/graph")
    return ({each["public_id"]: each["config"] for each in found["nodes"] if each["type"] != "trigger"},
            {(each["from_public_id"], each["branch"], each["to_public_id"]) for each in found["edges"]})


def test_a_workflow_is_built_step_by_step_without_javascript(owner, visitor):
    place = str(visitor.submit("/workflows/new", f"{LIST}/new", name="Greeting", trigger_type="custom", **{"begins.event": "signed_up"}).url.path)
    number = place.rpartition("/")[2]
    assert owner.get(f"/workflows/{number}")["trigger_config"] == {"event": "signed_up"}
    assert visitor.see(place).css_first(".empty a").attributes["href"] == f"{place}/add"
    kinds = [each.attributes["href"].rpartition("=")[2] for each in visitor.see(f"{place}/add").css("ul.kinds a")]
    assert kinds == ["send_email", "wait", "condition", "update_contact", "webhook", "exit"]

    visitor.submit(f"{place}/add?type=condition", f"{place}/add", do="save",
                   **{"g.0.field": "properties.", "g.0.name": "plan", "g.0.operator": "equals", "g.0.value": "pro"})
    assert graph(owner, number) == ({"ask": {"rules": {"operator": "and", "conditions": [{**PRO[0], "field": "properties.plan"}]}}},
                                    {("trigger", None, "ask")})
    said = words(visitor.submit(f"{place}/add?after=ask&branch=match&type=send_email", f"{place}/add", subject="Thank you", text="Hi", do="save",
                                **{"from": owner.sender}).text)
    assert "The step is there." in said
    visitor.submit(f"{place}/add?after=ask&branch=no_match&type=wait", f"{place}/add", delay="3d", do="save")
    visitor.submit(f"{place}/add?after=wait&type=update_contact", f"{place}/add", properties="plan = trial", do="save")
    configs, ways = graph(owner, number)
    assert configs["change"] == {"set": {"properties": {"plan": "trial"}}}
    assert ways == {("trigger", None, "ask"), ("ask", "match", "send"), ("ask", "no_match", "wait"), ("wait", None, "change")}

    visitor.submit(f"{place}/steps/wait", f"{place}/steps/wait", how="event", event="bought", timeout="7d", do="save")
    visitor.submit(f"{place}/steps/change", f"{place}/steps/change/lead", target="send")
    configs, ways = graph(owner, number)
    assert configs["wait"] == {"event": "bought", "timeout": "7d"}
    assert ("change", None, "send") in ways
    visitor.submit(f"{place}/steps/change", f"{place}/steps/change/remove")
    assert ("wait", None, "send") in graph(owner, number)[1]
    assert "Nothing is in its way." in visitor.text(place, part="findings")


def test_a_condition_has_more_answers_than_two(owner, visitor):
    number = owner.draft("manual", [node("ask", "condition", rules=PRO), node("end", "exit")], line("ask:match", "end"))
    place = f"{LIST}/{number}/steps/ask"
    visitor.submit(place, f"{place}/split", name="gold")
    page = visitor.see(place, answer="gold")
    assert [each.text() for each in page.css("nav[aria-label=Answers] a")] == ["match", "gold"]
    visitor.submit(f"{place}?answer=gold", place, do="save", **{"g.0.field": "email", "g.0.operator": "ends_with", "g.0.value": "@gold.example"})
    configs, ways = graph(owner, number)
    assert [each["name"] for each in configs["ask"]["branches"]] == ["match", "gold"]
    assert configs["ask"]["branches"][0]["rules"] == PRO
    assert configs["ask"]["branches"][1]["rules"]["conditions"][0]["value"] == "@gold.example"
    assert ("ask", "match", "end") in ways
    visitor.submit(place, f"{place}/lead", way="gold", target="end")
    assert "an answer has a name of its own" in words(visitor.submit(place, f"{place}/split", name="gold").text)
    visitor.submit(place, f"{place}/join", name="gold")
    configs, ways = graph(owner, number)
    assert ([each["name"] for each in configs["ask"]["branches"]], ways) == (["match"], {("trigger", None, "ask"), ("ask", "match", "end")})


def test_rows_of_a_rule_come_and_go_without_javascript(owner, visitor):
    number = owner.draft("manual", [node("ask", "condition", rules=PRO)], [])
    place = f"{LIST}/{number}/steps/ask"
    page = LexborHTMLParser(visitor.submit(place, place, do="rule:g").text)
    assert len(page.css("div.condition")) == 2
    owner.person("ann", properties={"plan": "pro"})
    assert "It holds for 1 contact now: contacts whose plan is pro." in words(visitor.submit(place, place, do="look").text)
    wrong = visitor.submit(place, place, do="save", **{"g.0.field": "created_at", "g.0.operator": "in_last_days", "g.0.value": "soon", "g.0.raw": ""})
    assert (wrong.status_code, "Rule 1:" in words(wrong.text)) == (422, True)
    assert graph(owner, number)[0]["ask"] == {"rules": PRO}  # nothing is saved by any of it


@pytest.mark.parametrize(("kind", "fields", "said"), [
    ("webhook", {"url": "https://a.example/", "body": "{"}, "body is no JSON"), ("update_contact", {"properties": "plan"}, 'lines such as "plan = pro"'),
], ids=["no JSON", "no property"])
def test_what_is_wrong_is_said_and_what_was_typed_stays(owner, visitor, kind, fields, said):
    number = owner.draft("manual", [], [])
    place = f"{LIST}/{number}/add"
    answer = visitor.submit(f"{place}?type={kind}", place, do="save", **fields)
    assert (answer.status_code, said in words(answer.text)) == (422, True)
    page = LexborHTMLParser(answer.text)
    name, typed = list(fields.items())[-1]
    field = page.css_first(f"[name={name}]")
    assert (field.text() if field.tag == "textarea" else field.attributes["value"]).strip() == typed
    assert graph(owner, number) == ({}, set())


def test_an_active_workflow_takes_only_what_is_sound(owner, visitor):
    number = owner.active("manual", [node("rest", "wait", delay="3d")])
    place = f"{LIST}/{number}"
    answer = visitor.submit(f"{place}/add?after=rest&type=send_email", f"{place}/add", subject="", do="save")
    assert (answer.status_code, "subject is required" in words(answer.text)) == (422, True)
    assert set(graph(owner, number)[0]) == {"rest"}


def test_who_was_slower_overwrites_nothing(owner, visitor):
    number = owner.draft("manual", [node("rest", "wait", delay="3d")], [])
    place = f"{LIST}/{number}/steps/rest"
    page = visitor.see(place)
    held = {each.attributes["name"]: each.attributes["value"] for each in page.css("main input[type=hidden]") if each.attributes["name"] in ("token", "mark")}
    visitor.submit(place, place, delay="5d", do="save")
    answer = visitor.http.post(place, data={**held, "how": "delay", "delay": "7d", "do": "save"})
    assert (answer.status_code, "somebody changed this graph meanwhile" in words(answer.text)) == (409, True)
    assert graph(owner, number)[0]["rest"] == {"delay": "5d"}


def test_boxes_and_pluses_lead_to_forms(owner, visitor):
    number = owner.draft("manual", [node("ask", "condition", rules=PRO), node("end", "exit", reason="x")], line("ask", "end"))
    place = f"{LIST}/{number}"
    links = [each.attributes["href"] for each in visitor.see(place).css("svg a")]
    assert links == [f"{place}/steps/trigger", f"{place}/steps/ask", f"{place}/steps/end", f"{place}/add?after=trigger",
                     f"{place}/add?after=ask&branch=match", f"{place}/add?after=ask&branch=no_match"]
    for link in links:
        visitor.see(link)


@pytest.mark.parametrize(("trigger", "fields", "config"), [
    ("custom", {"event": "bought"}, {"event": "bought"}), ("property.changed", {"property": "plan", "to": "pro"}, {"property": "plan", "to": "pro"}),
    ("property.changed", {"property": "seats", "from": "1", "to": '"2"'}, {"property": "seats", "from": 1, "to": "2"}),
    ("schedule", {"cron": "0 9 * * 1", "timezone": "Europe/Berlin", "whom": "all"}, {"cron": "0 9 * * 1", "timezone": "Europe/Berlin", "all_contacts": True}),
    ("manual", {"event": "left over"}, None),
], ids=["an event", "to a value", "numbers and texts", "each Monday", "what the trigger does not have"])
def test_what_begins_it_is_said_by_fields(owner, visitor, trigger, fields, config):
    number = owner.draft("contact.created", [], [])
    place = f"{LIST}/{number}"
    visitor.submit(place, place, trigger_type=trigger, **{f"begins.{name}": text for name, text in fields.items()})
    told = owner.get(f"/workflows/{number}")
    assert (told["trigger_type"], told["trigger_config"]) == (trigger, config)
    visitor.submit(place, place, name="Renamed")
    assert owner.get(f"/workflows/{number}")["trigger_config"] == config  # as the fields show it again


def test_what_steps_say_is_never_run(owner, visitor):
    owner.post("/templates", {"name": HOSTILE, "subject": HOSTILE, "text": "x"}, 201)
    nodes = [node("a", "wait", event=HOSTILE, timeout="1d"), node("b", "update_contact", set={"first_name": HOSTILE}), node("c", "condition", rules=[
        {"field": HOSTILE[:20], "operator": "equals", "value": HOSTILE}]), node("d", "exit", reason=HOSTILE)]
    number = owner.draft("custom", nodes, line("a:match", "b", "c"), {"event": HOSTILE[:60]}, name=HOSTILE)
    place = f"{LIST}/{number}"
    for path in (f"{place}/steps/trigger", f"{place}/steps/a", f"{place}/steps/b", f"{place}/steps/c", f"{place}/steps/d", f"{place}/add?after=b"):
        page = visitor.see(path)
        assert HOSTILE in page.body.text() or any(HOSTILE in (field.attributes.get("value") or "") for field in page.css("input"))
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")


def test_another_project_s_steps_are_not_there(served, owner):
    number = owner.draft("manual", [node("rest", "wait", delay="3d")], [])
    stranger = visiting(served.tenant())
    place = f"{LIST}/{number}"
    token = stranger.see("/workflows/new").css_first("main input[name=token]").attributes["value"]
    for path in ("/add", "/add?type=wait", "/steps/rest"):
        stranger.see(place + path, 404)
    fields = {"token": token, "type": "wait", "after": "rest", "delay": "1d", "how": "delay", "do": "save", "mark": "x", "target": "", "name": "x"}
    for act in ("/add", "/steps/rest", "/steps/rest/lead", "/steps/rest/remove", "/steps/rest/split", "/steps/rest/join"):
        assert stranger.http.post(place + act, data=fields).status_code == 404, act
    assert graph(owner, number)[0] == {"rest": {"delay": "3d"}}
