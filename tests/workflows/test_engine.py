"""Workflows as they run: what begins a run, what each step does, where the run goes and what its history says of it."""

from __future__ import annotations

import pytest

from tests.workflows.flowing import DAY, line, node


def test_a_contact_that_is_created_gets_a_mail(owner):
    number = owner.active("contact.created", [owner.letter("hello")])
    person = owner.person("ann", properties={"plan": "pro"})
    run, = owner.runs(number)
    mail, = owner.mail(1)
    assert (mail["to"], mail["subject"]) == (person["email"], "Hello Ann")
    assert "you are on pro" in mail.get_body(("html",)).get_content()
    assert "/u/" in str(mail["list-unsubscribe"])
    assert (run["contact_id"], run["status"], run["waiting"], run["current_node_id"]) == (person["id"], "completed", None, None)
    told = owner.get(f"/workflows/{number}/runs/{run['id']}")["steps"]
    assert [(each["node_id"], each["outcome"]) for each in told] == [("trigger", "began"), ("hello", "sent")]
    assert owner.get(f"/emails/{told[1]['detail']['email_id']}")["to"] == [person["email"]]
    assert owner.get(f"/workflows/{number}")["runs"] == {"running": 0, "completed": 1, "failed": 0, "stopped": 0}
    assert owner.get(f"/workflows/{number}/graph")["nodes"][1]["counts"] == {"sent": 1}


def test_a_manual_workflow_takes_a_contact_once_when_it_says_so(owner):
    number = owner.active("manual", [node("end", "exit", reason="just so")])
    person = owner.person("bob")
    run = owner.post(f"/workflows/{number}/trigger", {"contact_id": person["id"]}, 201)
    assert (run["status"], run["contact_id"]) == ("running", person["id"])
    done, = owner.runs(number)
    assert done["reason"] == "just so"
    assert owner.post(f"/workflows/{number}/trigger", {"email": person["email"]}, 409)["code"] == "workflow_again"


def test_a_wait_is_a_row_until_its_time(owner, calendar):
    number = owner.active("contact.created", [node("wait", "wait", delay="365d"), owner.letter("hello")], line("wait", "hello"))
    owner.person("cid")
    run, = owner.waiting(number)
    assert run["current_node_id"] == "wait"
    calendar.pass_(364 * DAY)
    assert owner.mail(0) == []
    calendar.pass_(DAY)
    done, = owner.runs(number)
    assert owner.history(number, done) == [("trigger", "began"), ("wait", "waiting"), ("wait", "waited"), ("hello", "sent")]
    assert len(owner.mail(1)) == 1


@pytest.mark.parametrize(("plan", "subject", "branch"), [("pro", "For pros", "match"), ("free", "For all", "no_match")])
def test_a_condition_asks_as_a_segment_asks(owner, plan, subject, branch):
    check = node("check", "condition", rules=[{"field": "properties.plan", "operator": "equals", "value": "pro"}])
    number = owner.active("contact.created", [check, owner.letter("yes", "For pros"), owner.letter("no", "For all")],
                          [*line("check:match", "yes"), *line("check:no_match", "no")])
    owner.person("dee", properties={"plan": plan})
    run, = owner.runs(number)
    assert owner.history(number, run)[1] == ("check", branch)
    mail, = owner.mail(1)
    assert mail["subject"] == subject
