"""The use cases of the seed pages that are broadcasts, from a fresh project to the delivered mail, on a clock that the test moves."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from relay.clock import Clock
from tests.broadcasts.mailing import Mailing
from tests.broadcasts.test_sending import addresses, expected
from tests.support.served import Served

DAY = 86_400.0


class Calendar:
    """The machine's time, and what the test has added to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="module")
def calendar():
    return Calendar()


@pytest.fixture(scope="module")
def later(tmp_path_factory, calendar):
    directory = tmp_path_factory.mktemp("seed")
    with Served(directory, f"sqlite:///{directory / 'relay.db'}", Clock(now=calendar.now)) as relay:
        yield relay


@pytest.fixture
def owner(later):
    return Mailing(later.tenant())


def contact(owner, name, **given):
    return owner.post("/contacts", {"email": f"{name}@{owner.domain}", "first_name": name.title(), **given}, 201)


def test_a_newsletter_goes_to_the_subscribers_of_its_topic_when_its_time_has_come(owner, calendar):
    topic = owner.post("/subscription-topics", {"name": "Newsletter"}, 201)["id"]
    ann, bob, _ = (contact(owner, name) for name in ("ann", "bob", "cid"))
    owner.delete(f"/subscription-topics/contacts/{bob['id']}/subscriptions/{topic}")
    made = owner.post("/templates", {"name": "Monthly", "subject": "News for {{ first_name | default: 'you' }}",
                                     "html": "<p>Hi {{ first_name }}</p><a href='https://shop.example/'>Read</a>"}, 201)["id"]
    owner.post(f"/templates/{made}/publish")
    at = calendar.now() + 3 * DAY
    number = owner.draft(topic_id=topic, template_id=made, subject=None, html=None, text=None, scheduled_at=datetime.fromtimestamp(at, UTC).isoformat())
    assert owner.post(f"/broadcasts/{number}/send")["status"] == "scheduled"
    calendar.ahead += 2 * DAY
    dee = contact(owner, "dee")
    owner.post(f"/contacts/{ann['id']}/unsubscribe")
    assert owner.get(f"/broadcasts/{number}")["status"] == "scheduled"
    calendar.ahead += DAY
    done = owner.sent(number)
    assert done["skipped_by_reason"] == {"opted_out": 1, "unsubscribed": 1}
    mail = {str(m["to"]): m for m in owner.mail(2)}
    assert set(mail) == {f"cid@{owner.domain}", dee["email"]}
    assert mail[dee["email"]]["subject"] == "News for Dee"
    assert abs(mail[dee["email"]]["date"].datetime.timestamp() - at) < 3_600, "dated when it left"


def test_a_changelog_goes_to_active_plans(owner):
    """S0: a segment of custom fields, evaluated when it is sent; contacts who change their plan before are in or out by what is true then."""
    people = {name: contact(owner, name, properties={"plan": plan, "active": active}) for name, plan, active in (
        ("ann", "pro", True), ("bob", "enterprise", True), ("cid", "free", True), ("dee", "pro", False), ("eve", "free", True))}
    either = [{"filters": [{"field": "data.plan", "operator": "equals", "value": plan}, {"field": "data.active", "operator": "equals", "value": True}]}
              for plan in ("pro", "enterprise")]
    segment = owner.post("/segments", {"name": "Active plans", "rules": {"logic": "OR", "groups": either}}, 201)["id"]
    number = owner.draft(segment_id=segment, subject="What is new", html="<p>{{ first_name }}, on {{ properties.plan }}: dark mode.</p>", text=None)
    owner.patch(f"/contacts/{people['eve']['id']}", {"properties": {"plan": "enterprise"}})
    owner.post(f"/broadcasts/{number}/send")
    owner.sent(number)
    mail = {str(m["to"]).partition("@")[0]: m for m in owner.mail(3)}
    assert set(mail) == {"ann", "bob", "eve"}
    assert "Eve, on enterprise: dark mode." in mail["eve"].get_body(("html",)).get_content()
    assert all("/u/" in str(m["list-unsubscribe"]) for m in mail.values())


def test_the_delivery_matrix_of_campaigns(owner):
    """S2: campaigns reach subscribed contacts only; transactional mail reaches both."""
    people = owner.people(2)
    owner.http.patch(f"/plunk/contacts/{people[1].public_id}", json={"subscribed": False}).raise_for_status()
    number = owner.draft()
    owner.post(f"/broadcasts/{number}/send")
    owner.sent(number)
    assert addresses(owner.mail(1)) == expected(people[:1])
    for person in people:
        owner.tenant.send(to=[person.email], **{"from": owner.sender})
    assert addresses(owner.mail(3)) == expected([people[0], *people])
