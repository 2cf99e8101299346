"""The queue's pages: what waits by site and why, curves, and who may move what."""

from __future__ import annotations

import pytest

from tests.support.visitor import visiting, words

LATER = "2027-01-01T00:00:00Z"


@pytest.fixture
def waiting(tenant):
    return tenant.send(to=["a@slow.example", "b@slow.example"], scheduled_at=LATER)["id"]


def test_the_page_counts_what_waits_by_site(visitor, tenant, waiting):
    tenant.send(to=["c@other.example"], scheduled_at=LATER)
    text = visitor.text("/queue")
    assert "slow.example" in text
    assert "other.example" in text
    assert visitor.see("/queue").css_first(".tile .figure").text() == "3"
    listed = visitor.text("/queue/waiting", domain="slow.example")
    assert "a@slow.example" in listed
    assert "c@other.example" not in listed


def test_mail_is_held_released_and_tried(visitor, tenant, waiting):
    page = "/queue/waiting?domain=slow.example"
    assert "2 are held." in words(visitor.submit(page, "/dashboard/queue/hold").text)
    assert "2 held" in visitor.text("/queue")
    assert "2 are held no longer." in words(visitor.submit(page, "/dashboard/queue/release").text)
    assert "2 are tried again now." in words(visitor.submit(page, "/dashboard/queue/retry").text)
    tenant.until(f"/emails/{waiting}", lambda email: email["status"] == "delivered")


def test_the_curves_show_what_was_delivered(visitor, tenant):
    name = tenant.send()["id"]
    tenant.until(f"/emails/{name}", lambda email: email["status"] == "delivered")
    rates, latency = visitor.get("/queue/curves").json(), visitor.get("/queue/curves", of="latency").json()
    assert [each["label"] for each in rates["series"]] == ["delivered", "deferred", "failed"]
    assert sum(rates["series"][0]["values"]) == pytest.approx(1 / 15)
    assert len(rates["at"]) == len(rates["series"][0]["values"]) == 60
    assert [value >= 0 for value in latency["series"][0]["values"] if value is not None] == [True]


def test_another_projects_queue_is_not_seen_or_moved(served, tenant, waiting):
    other = visiting(served.tenant())
    assert "slow.example" not in other.text("/queue")
    assert "a@slow.example" not in other.text("/queue/waiting")
    assert sum(other.get("/queue/curves").json()["series"][0]["values"]) == 0
    token = other.see("/queue").css_first("input[name=token]").attributes["value"]
    for act in ("hold", "release", "retry"):
        answer = other.http.post(f"/dashboard/queue/{act}", data={"token": token, "domain": "slow.example"}, follow_redirects=True)
        assert "0 are" in words(answer.text)
    assert tenant.get(f"/emails/{waiting}")["status"] == "scheduled"


def test_only_the_operator_suspends_a_site(served, visitor):
    assert "Suspend a site" not in visitor.text("/queue")
    token = visitor.see("/queue").css_first("input[name=token]").attributes["value"]
    for act in ("suspend", "resume"):
        assert visitor.http.post(f"/dashboard/queue/{act}", data={"token": token, "site": "mx.slow.example", "for": "1h"}).status_code == 403
    operator = visiting(served.tenant(project="default"))
    said = operator.submit("/queue", "/dashboard/queue/suspend", site="[mx.far.example]:25", reason="they asked for rest", **{"for": "10m"})
    assert "is suspended; its mail waits." in words(said.text)
    assert "bound by: suspended: they asked for rest until 20" in operator.text("/queue")
    assert "gets mail again" in words(operator.submit("/queue", "/dashboard/queue/resume", site="[mx.far.example]:25").text)
    assert "[mx.far.example]:25" not in operator.text("/queue")


@pytest.mark.parametrize(("act", "fields", "said"), [
    ("suspend", {"site": "x", "for": "1y"}, "suspend for 10m"), ("suspend", {"site": "", "for": "1h"}, "name a site"),
    ("resume", {"site": "nope"}, "not suspended"),
], ids=["how long", "which", "not suspended"])
def test_what_cannot_be_done_says_why(served, act, fields, said):
    operator = visiting(served.tenant(project="default"))
    token = operator.see("/queue").css_first("input[name=token]").attributes["value"]
    answer = operator.http.post(f"/dashboard/queue/{act}", data={"token": token, **fields})
    assert answer.status_code in (404, 422)
    assert said in words(answer.text)
