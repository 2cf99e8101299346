"""What changes while a broadcast is on its way: the segment, the template, the domain, limits, a fault, another broadcast."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from relay.store.broadcasts.schema import broadcasts
from tests.broadcasts.mailing import Mailing
from tests.broadcasts.test_sending import addresses, expected
from tests.support.served import Served

ASKED = [{"field": "properties.plan", "operator": "equals", "value": "vip"}]


def test_a_segment_that_changes_under_way_neither_adds_nor_loses(tenant):
    people, others = tenant.people(6, properties={"plan": "vip"}), tenant.people(3, properties={"plan": "free"})
    segment = tenant.post("/segments", {"name": "VIP", "rules": ASKED}, 201)["id"]
    number = tenant.draft(segment_id=segment, per_minute=1)
    tenant.post(f"/broadcasts/{number}/send")
    tenant.mail(1)
    tenant.patch(f"/segments/{segment}", {"rules": [{**ASKED[0], "value": "free"}]})
    tenant.patch(f"/contacts/{others[0].public_id}", {"properties": {"plan": "vip"}})
    tenant.post(f"/broadcasts/{number}/pause")
    tenant.post(f"/broadcasts/{number}/resume")
    tenant.delete(f"/segments/{segment}")
    tenant.patch(f"/broadcasts/{number}", {"per_minute": None})
    assert tenant.sent(number)["delivered"] == 6
    assert addresses(tenant.mail(6)) == expected(people)


def test_two_broadcasts_take_turns(tenant):
    """A large one does not hold up a small one that begins after it."""
    tenant.people(40)
    slow, quick = tenant.draft(per_minute=60), tenant.draft(name="quick")
    tenant.post(f"/broadcasts/{slow}/send")
    tenant.mail(1)
    tenant.post(f"/broadcasts/{quick}/send")
    assert tenant.sent(quick)["delivered"] == 40
    assert tenant.get(f"/broadcasts/{slow}")["pending"] > 0
    tenant.post(f"/broadcasts/{slow}/cancel")


def test_transactional_mail_goes_ahead_of_what_waits(tenant):
    """The site takes one message at a time; a password reset that comes later than forty copies is among the first to leave."""
    tenant.people(40)
    tenant.served.sink.script.delays["dot"] = 0.05
    try:
        number = tenant.draft()
        tenant.post(f"/broadcasts/{number}/send")
        tenant.mail(1)
        tenant.tenant.send(to=[f"reset@{tenant.domain}"], subject="Your password", **{"from": tenant.sender})
        mail = tenant.mail(41)
    finally:
        tenant.served.sink.script.delays.clear()
    place = [str(m["subject"]) for m in mail].index("Your password")
    assert place < 35, "it did not wait for all of them"


def test_a_broken_property_fails_one_copy(tenant):
    people = tenant.people(3)
    for each, n in zip(people, "011", strict=True):
        tenant.patch(f"/contacts/{each.public_id}", {"properties": {"n": n}})
    number = tenant.draft(text="{% if n %}{{ 5 | divided_by: n }}{% endif %}", html=None)
    tenant.post(f"/broadcasts/{number}/send")
    done = tenant.sent(number)
    assert (done["delivered"], done["failed"]) == (2, 1)
    row, = tenant.ledger(number, state="failed")
    assert row["contact_id"] == people[0].public_id
    assert "text cannot be rendered" in row["reason"]


def test_what_is_wrong_with_one_pauses_it_and_stops_nothing_else(tenant):
    people = tenant.people(2)
    number = tenant.draft(rules=ASKED)
    broken = update(broadcasts).where(broadcasts.c.project_id == tenant.number).values(rules={"logic": "odd"})
    tenant.served.call(tenant.served.relay.store.write(lambda conn: conn.execute(broken).rowcount))
    tenant.post(f"/broadcasts/{number}/send")
    paused = tenant.until(f"/broadcasts/{number}", lambda b: b["status"] == "paused")
    assert paused["error"]
    beside = tenant.draft()
    tenant.post(f"/broadcasts/{beside}/send")
    assert tenant.sent(beside)["delivered"] == len(people)


def test_what_fails_for_everybody_is_refused_before_anybody_gets_it(tenant):
    tenant.people(1)
    number = tenant.draft(text="{{ 5 | divided_by: 0 }}", html=None)
    assert tenant.post(f"/broadcasts/{number}/send", status=422)["field"] == "text"


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    directory = tmp_path_factory.mktemp("strict")
    with Served(directory, f"sqlite:///{directory / 'relay.db'}", RELAY_DOMAINS__REQUIRE_VERIFIED="true") as relay:
        yield relay


def test_a_domain_that_is_not_verified_is_refused_at_once(strict):
    mailing = Mailing(strict.tenant())
    mailing.people(1)
    number = mailing.draft()
    answer = mailing.http.post(f"/broadcasts/{number}/send")
    assert (answer.status_code, answer.json()["code"]) == (422, "domain_not_verified")
    assert mailing.get(f"/broadcasts/{number}")["status"] == "draft"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    directory = tmp_path_factory.mktemp("few")
    with Served(directory, f"sqlite:///{directory / 'relay.db'}", RELAY_LIMIT__PROJECT_PER_HOUR="3") as relay:
        yield relay


def test_a_limit_of_the_project_lets_as_many_go_as_it_allows(few):
    mailing = Mailing(few.tenant())
    mailing.people(5)
    number = mailing.draft()
    assert mailing.get(f"/broadcasts/{number}/forecast")["limited_by"] == "project limit an hour"
    mailing.post(f"/broadcasts/{number}/send")
    shown = mailing.until(f"/broadcasts/{number}", lambda b: b["delivered"] == 3)
    assert (shown["status"], shown["pending"], shown["failed"]) == ("sending", 2, 0), "the others wait for the next hour"
    mailing.post(f"/broadcasts/{number}/cancel")
