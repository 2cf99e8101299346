"""Workflows in Plunk's words: steps and transitions over the one engine."""

from __future__ import annotations

import pytest

from relay.clock import iso
from relay.store.audience.rules import DAY
from tests.workflows.flowing import Endpoint


class Plunk:
    def __init__(self, owner):
        self.owner = owner

    def flow(self, **given):
        return self.owner.post("/plunk/workflows", {"name": "Flow", "eventName": "come", **given}, 201)

    def step(self, flow, kind, **config):
        return self.owner.post(f"/plunk/workflows/{flow['id']}/steps", {"type": kind, "name": kind.lower(), "config": config}, 201)["id"]

    def lead(self, flow, one, other, branch=None, **given):
        body = {"fromStepId": one, "toStepId": other, **({"condition": {"branch": branch}} if branch else {}), **given}
        return self.owner.post(f"/plunk/workflows/{flow['id']}/transitions", body, 201)["id"]

    def enable(self, flow, enabled=True):
        return self.owner.patch(f"/plunk/workflows/{flow['id']}", {"enabled": enabled})

    def executions(self, flow, count, status):
        def ready(got):
            return sum(each["status"] == status for each in got["data"]) >= count

        return self.owner.until(f"/plunk/workflows/{flow['id']}/executions?status={status}", ready)["data"]


@pytest.fixture
def plunk(owner):
    return Plunk(owner)


def test_steps_and_transitions_are_shown_as_they_were_written(owner, plunk):
    flow = plunk.flow(description="What for", allowReentry=True)
    assert (flow["triggerType"], flow["triggerConfig"], flow["enabled"], flow["allowReentry"], flow["description"]) == (
        "EVENT", {"eventName": "come"}, False, True, "What for")
    trigger = flow["steps"][0]["id"]
    check = plunk.step(flow, "CONDITION", field="data.plan", operator="equals", value="pro")
    wait, gone = plunk.step(flow, "DELAY", amount=2, unit="hours"), plunk.step(flow, "EXIT", reason="free")
    plunk.lead(flow, trigger, check)
    plunk.lead(flow, check, wait, "yes")
    last = plunk.lead(flow, check, gone, "no")
    owner.patch(f"/plunk/workflows/{flow['id']}/steps/{wait}", {"config": {"amount": 3, "unit": "days"}, "position": {"x": 4, "y": 5}})
    found = owner.get(f"/plunk/workflows/{flow['id']}")
    shown = {each["id"]: each for each in found["steps"]}
    assert [each["type"] for each in found["steps"]] == ["TRIGGER", "CONDITION", "DELAY", "EXIT"]
    assert (shown[wait]["config"], shown[wait]["position"], shown[wait]["name"]) == ({"amount": 3, "unit": "days"}, {"x": 4, "y": 5}, "delay")
    assert [(each["fromStepId"], each["toStepId"], each["condition"]) for each in found["transitions"]] == [
        (trigger, check, None), (check, wait, {"branch": "yes"}), (check, gone, {"branch": "no"})]
    assert owner.http.delete(f"/plunk/workflows/{flow['id']}/transitions/{last}").status_code == 204
    assert owner.http.delete(f"/plunk/workflows/{flow['id']}/steps/{gone}").status_code == 204
    assert len(owner.get(f"/plunk/workflows/{flow['id']}")["steps"]) == 3
    native = owner.get(f"/workflows/{flow['id']}/graph")["nodes"]
    assert [(each["type"], each["config"].get("delay")) for each in native][2] == ("wait", {"amount": 3, "unit": "days"})


@pytest.mark.parametrize(("own", "general", "taken"), [
    pytest.param(0, 0, "own", id="equal: the answer's own"),
    pytest.param(1, 2, "own", id="the answer's own is lower"),
    pytest.param(-5, 0, "own", id="below nothing"),
])
def test_of_two_transitions_that_fit_the_lower_priority_is_taken(owner, plunk, own, general, taken):
    flow = plunk.flow()
    check = plunk.step(flow, "CONDITION", field="data.plan", operator="equals", value="pro")
    ends = {name: plunk.step(flow, "EXIT", reason=name) for name in ("own", "general")}
    plunk.lead(flow, flow["steps"][0]["id"], check)
    plunk.lead(flow, check, ends["general"], priority=general)
    plunk.lead(flow, check, ends["own"], "yes", priority=own)
    shown = owner.get(f"/plunk/workflows/{flow['id']}")["transitions"]
    assert {each["toStepId"]: each["priority"] for each in shown[1:]} == {ends["general"]: general, ends["own"]: own}
    plunk.enable(flow)
    for name, plan in (("ann", "pro"), ("bob", "free")):
        owner.person(name, properties={"plan": plan})
        owner.happened("come", f"{name}@{owner.domain}")
    ended = {each["contact"]["email"].partition("@")[0]: each["exitReason"] for each in plunk.executions(flow, 2, "EXITED")}
    assert ended == {"ann": taken, "bob": "general"}


def test_a_transition_that_would_never_be_taken_keeps_a_workflow_from_being_enabled(owner, plunk):
    flow = plunk.flow()
    check, gone = plunk.step(flow, "CONDITION", field="data.plan", operator="equals", value="pro"), plunk.step(flow, "EXIT")
    plunk.lead(flow, flow["steps"][0]["id"], check)
    plunk.lead(flow, check, gone, priority=1)
    plunk.lead(flow, check, gone, "yes", priority=2)
    refused = owner.http.patch(f"/plunk/workflows/{flow['id']}", json={"enabled": True})
    assert (refused.status_code, "never taken" in refused.text) == (422, True), refused.text
    assert owner.get(f"/workflows/{flow['id']}/graph")["edges"][-1]["priority"] == 2


@pytest.mark.parametrize("priority", [1_000_001, -1_000_001, 0.5, "high", None], ids=repr)
def test_a_priority_that_is_none_is_refused(owner, plunk, priority):
    flow = plunk.flow()
    gone = plunk.step(flow, "EXIT")
    body = {"fromStepId": flow["steps"][0]["id"], "toStepId": gone, "priority": priority}
    refused = owner.http.post(f"/plunk/workflows/{flow['id']}/transitions", json=body)
    assert (refused.status_code, "priority" in refused.text) == (422, True), refused.text


def test_a_workflow_of_all_steps(owner, plunk, calendar):
    flow = plunk.flow()
    steps = [flow["steps"][0]["id"], plunk.step(flow, "UPDATE_CONTACT", updates={"stage": "{{ event.stage }}"}, subscriptionAction="none"),
             plunk.step(flow, "CONDITION", mode="multi", field="data.stage", branches=[{"name": "one", "operator": "equals", "value": "1"}]),
             plunk.step(flow, "WAIT_FOR_EVENT", eventName="bought", timeout=86_400), plunk.step(flow, "EXIT", reason="bought")]
    other = plunk.step(flow, "EXIT", reason="other stage")
    late = plunk.step(flow, "EXIT", reason="too late")
    for one, two, branch in ((0, steps[1], None), (1, steps[2], None), (2, steps[3], "one"), (2, other, "no"), (3, steps[4], "yes"), (3, late, "timeout")):
        plunk.lead(flow, steps[one], two, branch)
    assert plunk.enable(flow)["enabled"] is True
    for name, stage in (("ann", "1"), ("bob", "1"), ("cid", "2")):
        owner.post("/plunk/v1/track", {"event": "come", "email": f"{name}@{owner.domain}", "data": {"stage": stage}})
    plunk.executions(flow, 2, "WAITING")
    owner.post("/plunk/v1/track", {"event": "bought", "email": f"ann@{owner.domain}"})
    plunk.executions(flow, 2, "EXITED")
    calendar.pass_(DAY)
    found = plunk.executions(flow, 3, "EXITED")
    assert {each["contact"]["email"].partition("@")[0]: each["exitReason"] for each in found} == {"ann": "bought", "bob": "too late", "cid": "other stage"}
    told = owner.get(f"/plunk/workflows/{flow['id']}/executions/{found[0]['id']}")["stepExecutions"]
    assert [each["stepId"] for each in told][:2] == steps[:2]


def test_a_segment_is_a_trigger_and_a_question(owner, plunk):
    """S2: `segment.<slug>.entry` begins a workflow, and a condition asks about membership."""
    conditions = [{"logic": "AND", "groups": [{"filters": [{"field": "data.plan", "operator": "equals", "value": plan}]}]} for plan in ("trial", "pro")]
    trial, pros = (owner.post("/plunk/segments", {"name": name, "condition": condition, "trackMembership": True}, 201)
                   for name, condition in zip(("Trial users", "Pros"), conditions, strict=True))
    flow = plunk.flow(eventName="segment.trial-users.entry")
    check = plunk.step(flow, "CONDITION", field=f"segment.{pros['id']}", operator="memberOfSegment")
    yes, no = plunk.step(flow, "EXIT", reason="pro"), plunk.step(flow, "EXIT", reason="no pro")
    plunk.lead(flow, flow["steps"][0]["id"], check)
    plunk.lead(flow, check, yes, "yes")
    plunk.lead(flow, check, no, "no")
    plunk.enable(flow)
    owner.post("/plunk/contacts", {"email": f"ann@{owner.domain}", "data": {"plan": "trial"}}, 201)
    assert trial["id"] != pros["id"]
    assert [each["exitReason"] for each in plunk.executions(flow, 1, "EXITED")] == ["no pro"]


def test_an_event_knows_the_workflows_that_need_it(owner, other, plunk):
    flow = plunk.flow(eventName="signed_up")
    plunk.step(flow, "WAIT_FOR_EVENT", eventName="bought", timeout=60)
    wanted = [{"id": flow["id"], "name": "Flow"}]
    for name, used in (("signed_up", wanted), ("bought", wanted), ("left", [])):
        found = owner.get(f"/plunk/events/{name}/usage")
        assert (found["workflows"], found["canDelete"]) == (used, not used)
    assert other.get("/plunk/events/bought/usage")["workflows"] == []
    assert owner.http.delete("/plunk/events/bought").status_code == 400


def test_a_template_knows_the_workflows_that_send_it(owner, other, plunk):
    letter = {"name": "Hi", "subject": "Hello", "body": "<p>Hi</p>", "from": owner.sender}
    made, free = (owner.post("/plunk/templates", letter, 201)["id"] for _ in range(2))
    strange = other.post("/plunk/templates", letter, 201)["id"]
    flow = plunk.flow()
    mails = [plunk.step(flow, "SEND_EMAIL", templateId=made) for _ in range(2)]
    plunk.step(flow, "SEND_EMAIL", templateId=strange)
    assert owner.get(f"/plunk/templates/{made}/usage") == {
        "workflows": [{"id": flow["id"], "name": "Flow"}], "workflowSteps": 2, "campaigns": [], "canDelete": False}
    unused = {"workflows": [], "workflowSteps": 0, "campaigns": [], "canDelete": True}
    assert owner.get(f"/plunk/templates/{free}/usage") == other.get(f"/plunk/templates/{strange}/usage") == unused
    refused = owner.http.delete(f"/plunk/templates/{made}")
    assert (refused.status_code, "the workflow Flow" in refused.text) == (409, True)
    for mail in mails:
        owner.http.delete(f"/plunk/workflows/{flow['id']}/steps/{mail}")
    assert owner.http.delete(f"/plunk/templates/{made}").status_code == 204


def test_a_template_knows_the_campaigns_that_will_send_it(owner):
    made = owner.post("/templates", {"name": "Hi", "subject": "Hello", "html": "<p>Hi</p>"}, 201)["id"]
    owner.post(f"/templates/{made}/publish")
    draft = owner.post("/broadcasts", {"name": "News", "from": owner.sender, "template_id": made, "all_contacts": True}, 201)["id"]
    found = owner.get(f"/plunk/templates/{made}/usage")
    assert (found["campaigns"], found["canDelete"]) == ([{"id": draft, "name": "News"}], False)
    assert owner.http.delete(f"/plunk/templates/{made}").status_code == 409
    assert owner.http.delete(f"/broadcasts/{draft}").status_code == 200
    assert owner.http.delete(f"/plunk/templates/{made}").status_code == 204


def test_activity_tells_what_workflows_began_and_what_they_do_next(owner, other, plunk, calendar):
    flow = plunk.flow()
    made = owner.post("/plunk/templates", {"name": "Hi", "subject": "Hello", "body": "<p>Hi</p>", "from": owner.sender}, 201)["id"]
    wait, mail = plunk.step(flow, "DELAY", amount=2, unit="days"), plunk.step(flow, "SEND_EMAIL", templateId=made)
    hope, gone = plunk.step(flow, "WAIT_FOR_EVENT", eventName="bought", timeout=86_400), plunk.step(flow, "EXIT", reason="too late")
    for one, two, branch in ((flow["steps"][0]["id"], wait, None), (wait, mail, None), (mail, hope, None), (hope, gone, "timeout")):
        plunk.lead(flow, one, two, branch)
    plunk.enable(flow)
    began = calendar.now()
    owner.post("/plunk/v1/track", {"event": "come", "email": f"ann@{owner.domain}"})
    ann, = plunk.executions(flow, 1, "WAITING")
    calendar.pass_(60.0)
    owner.post("/plunk/v1/track", {"event": "come", "email": f"bob@{owner.domain}"})
    plunk.executions(flow, 2, "WAITING")
    found = owner.get("/plunk/activity/upcoming")["activities"]
    assert [(each["type"], each["contactEmail"].partition("@")[0]) for each in found] == [("workflow.email.scheduled", name) for name in ("ann", "bob")]
    assert (found[0]["id"], found[0]["contactId"], found[0]["metadata"]) == (ann["id"], ann["contactId"], {
        "workflowId": flow["id"], "workflowName": "Flow", "stepName": "send_email", "stepType": "SEND_EMAIL", "subject": None})
    assert owner.get("/plunk/activity/upcoming?limit=1")["activities"] == found[:1]
    assert owner.get("/plunk/activity/upcoming?daysAhead=1")["activities"] == other.get("/plunk/activity/upcoming")["activities"] == []
    assert [each.get("/plunk/activity/stats")["totalWorkflowsStarted"] for each in (owner, other)] == [2, 0]
    assert owner.get(f"/plunk/activity/stats?startDate={iso(began - 60)}&endDate={iso(began + 50)}")["totalWorkflowsStarted"] == 1
    calendar.pass_(2 * DAY)
    late = owner.until("/plunk/activity/upcoming", lambda got: len(got["activities"]) == 2 and got["activities"][0]["type"] == "workflow.step.scheduled")
    assert [(each["metadata"]["stepType"], each["metadata"]["stepName"]) for each in late["activities"]] == [("EXIT", "exit")] * 2


def test_executions_are_counted_by_their_status(owner, other, plunk):
    flow = plunk.flow(triggerType="MANUAL", eventName=None)
    ask, wait = plunk.step(flow, "CONDITION", field="data.plan", operator="equals", value="pro"), plunk.step(flow, "DELAY", amount=1, unit="days")
    out = plunk.step(flow, "EXIT", reason="not theirs")
    for one, two, branch in ((flow["steps"][0]["id"], ask, None), (ask, wait, "yes"), (ask, out, "no")):
        plunk.lead(flow, one, two, branch)
    plunk.enable(flow)
    for name, plan in (("ann", "pro"), ("bob", "pro"), ("cid", "free")):
        owner.post(f"/plunk/workflows/{flow['id']}/executions", {"contactId": owner.person(name, properties={"plan": plan})["id"]}, 201)
    plunk.executions(flow, 2, "WAITING")
    plunk.executions(flow, 1, "EXITED")
    totals = {status: owner.get(f"/plunk/workflows/{flow['id']}/executions?status={status}")["total"]
              for status in ("RUNNING", "WAITING", "COMPLETED", "EXITED", "FAILED", "CANCELLED")}
    assert totals == {"RUNNING": 0, "WAITING": 2, "COMPLETED": 0, "EXITED": 1, "FAILED": 0, "CANCELLED": 0}
    first = owner.get(f"/plunk/workflows/{flow['id']}/executions?status=WAITING&pageSize=1")
    assert (len(first["data"]), first["total"]) == (1, 2)
    assert other.http.get(f"/plunk/workflows/{flow['id']}/executions?status=WAITING").status_code == 404


def test_a_webhook_follows_redirects_as_plunk_does(owner, plunk):
    with Endpoint((307, "/second"), (302, "/third"), 200) as endpoint, Endpoint((307, endpoint.url + "/in")) as first:
        flow = plunk.flow()
        hook = plunk.step(flow, "WEBHOOK", url=first.url, headers={"X-Key": "secret"}, body={"a": 1})
        plunk.lead(flow, flow["steps"][0]["id"], hook)
        plunk.enable(flow)
        owner.post("/plunk/v1/track", {"event": "come", "email": f"ann@{owner.domain}"})
        plunk.executions(flow, 1, "COMPLETED")
    assert first.asked[0][1]["X-Key"] == "secret"
    assert endpoint.methods == ["POST", "POST", "GET"]
    assert [(path, "X-Key" in fields, body) for path, fields, body in endpoint.asked] == [
        ("/in", False, b'{"a":1}'), ("/second", False, b'{"a":1}'), ("/third", False, b"")]


def test_manual_executions_are_begun_and_cancelled(owner, plunk):
    flow = plunk.flow(triggerType="MANUAL", eventName=None)
    plunk.lead(flow, flow["steps"][0]["id"], plunk.step(flow, "DELAY", amount=1, unit="days"))
    person = owner.person("ann")["id"]
    assert owner.http.post(f"/plunk/workflows/{flow['id']}/executions", json={"contactId": person}).status_code == 422
    plunk.enable(flow)
    run = owner.post(f"/plunk/workflows/{flow['id']}/executions", {"contactId": person}, 201)
    assert owner.delete(f"/plunk/workflows/{flow['id']}/executions/{run['id']}")["status"] == "CANCELLED"
    assert owner.post(f"/plunk/workflows/{flow['id']}/executions/cancel-all") == {"success": True, "cancelled": 0}
    assert plunk.enable(flow, False)["enabled"] is False
    assert owner.http.delete(f"/plunk/workflows/{flow['id']}").status_code == 204


@pytest.mark.parametrize(("kind", "config", "field"), [
    ("SEND_EMAIL", {}, "config.templateId"), ("DELAY", {"amount": 366, "unit": "days"}, "config.amount"), ("DELAY", {"amount": "x"}, "config.amount"),
    ("WAIT_FOR_EVENT", {}, "config.eventName"), ("CONDITION", {}, "config.field"),
    ("CONDITION", {"field": "data.x", "operator": "likes"}, "config.rules.groups"),
    ("WEBHOOK", {"url": "gopher://x"}, "config.url"), ("UPDATE_CONTACT", {}, "config.set")])
def test_a_step_that_means_nothing_is_a_400(owner, plunk, kind, config, field):
    answer = owner.http.post(f"/plunk/workflows/{plunk.flow()['id']}/steps", json={"type": kind, "config": config})
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["field"].startswith(field)


def test_what_would_break_an_enabled_workflow_is_refused(owner, other, plunk):
    flow = plunk.flow()
    assert owner.http.patch(f"/plunk/workflows/{flow['id']}", json={"enabled": True}).status_code == 422
    end = plunk.step(flow, "EXIT")
    plunk.lead(flow, flow["steps"][0]["id"], end)
    plunk.enable(flow)
    assert owner.http.delete(f"/plunk/workflows/{flow['id']}/steps/{end}").status_code == 422
    assert other.http.get(f"/plunk/workflows/{flow['id']}").json()["error"]["code"] == "WORKFLOW_NOT_FOUND"
    assert other.get("/plunk/workflows")["data"] == []
