"""Emails, one and many, as the SDK sends and reads them."""


import pytest
from poststack import types

from relay.mail import ids
from tests.compat.poststack import EMAIL, meta, refused

LATER = {**EMAIL, "scheduled_at": "2027-03-25T09:00:00.000Z"}


def test_send_and_read(live):
    sent = live.emails.send(EMAIL)
    found = types.Email.model_validate(live.emails.get(sent["id"])["email"])
    assert (found.public_id, found.id) == (sent["id"], ids.internal(sent["id"]))
    assert (found.from_address, found.from_name, found.to_addresses) == ("you@yourdomain.com", "PostStack", ["user@example.com"])
    assert (found.subject, found.tags, found.test_mode) == ("Hello", ["welcome"], False)
    assert found.events
    assert found.events[0].type == "queued"


def test_batch(live):
    told = live.emails.batch({"emails": [EMAIL, {**EMAIL, "to": []}]})["data"]
    assert told[0]["id"].startswith("em_")
    assert "to" in told[1]["error"]


def test_a_replay_is_the_first_answer(live):
    first, again = (live.emails.send({**EMAIL, "idempotency_key": "order-1"}) for _ in range(2))
    assert (again["id"], again["replayed"]) == (first["id"], True)


def test_list_emails(live):
    sent = {live.emails.send(EMAIL)["id"] for _ in range(3)}
    found = live.emails.list({"per_page": 2})
    rows = [types.Email.model_validate(row) for row in found["data"]]
    assert (len(rows), meta(found).total, meta(found).total_pages) == (2, 3, 2)
    assert {row.public_id for row in rows} < sent
    assert [row["publicId"] for row in live.emails.list({"to": "user@example.com", "tag": "welcome", "per_page": 100})["data"]] == sorted(sent, reverse=True)


@pytest.mark.parametrize(("query", "found"), [
    ({"to": "USER@"}, ["Hello", "Invoice 7"]), ({"to": "user@example.com"}, ["Hello", "Invoice 7"]), ({"to": "example.org"}, ["100% off"]),
    ({"from": "billing"}, ["Invoice 7"]), ({"subject": "invoice"}, ["Invoice 7"]), ({"subject": "0%"}, ["100% off"]), ({"subject": "%"}, ["100% off"]),
    ({"from": "yourdomain", "subject": "hel"}, ["Hello"]), ({"subject": "nothing"}, []), ({"subject": "hello", "status": "bounced"}, []),
])
def test_emails_by_parts_of_texts(live, query, found):
    for change in ({}, {"subject": "Invoice 7", "from": "billing@yourdomain.com"}, {"subject": "100% off", "to": ["someone@example.org"]}):
        live.emails.send({**EMAIL, **change})
    answer = live.emails.list(query)
    assert (sorted(row["subject"] for row in answer["data"]), meta(answer).total) == (sorted(found), len(found))


@pytest.mark.parametrize("query", [{"provider": "gmail"}, {"country": "DK"}, {"device": "mobile"}, {"subject": "x", "page": 0}, {"to": "x" * 201}])
def test_filters_that_mean_nothing_are_refused(live, query):
    assert refused(live.emails.list, query).status_code == 422


@pytest.mark.parametrize("by", ["id", "publicId"])
def test_emails_of_a_domain(live, by):
    domain = live.domains.create({"name": "yourdomain.example"})["domain"]
    live.emails.send(EMAIL)
    sent = live.emails.send({**EMAIL, "from": "you@yourdomain.example"})
    assert [row["publicId"] for row in live.emails.list({"domain_id": domain[by]})["data"]] == [sent["id"]]


def test_what_the_enumerations_do_not_have_is_mapped_and_named(live):
    sent = live.emails.send(LATER)
    shown = live.emails.get(sent["id"])["email"]
    assert (shown["status"], shown["relayStatus"]) == ("queued", "scheduled")
    assert types.Email.model_validate(shown).scheduled_at == "2027-03-25T09:00:00.000Z"
    assert live.emails.reschedule(sent["id"], "2027-04-01T09:00:00Z")["success"] is True
    assert live.emails.cancel(sent["id"])["success"] is True
    shown = live.emails.get(sent["id"])["email"]
    assert (types.Email.model_validate(shown).status, shown["relayStatus"]) == ("failed", "cancelled")


def test_events_and_insights(live):
    sent = live.emails.send(EMAIL)
    events = live.emails.get_events(sent["id"])["events"]
    assert next(types.EmailEvent.model_validate(each).type for each in events) == "queued"
    assert {"eventType", "createdAt", "metadata"} <= events[0].keys()
    for warning in live.emails.get_insights(sent["id"])["warnings"]:
        assert types.EmailInsightWarning.model_validate(warning).code == warning["type"]


def test_previews(live):
    shown = live.emails.preview({**EMAIL, "to": ["user@example.com"]})
    assert (shown["rendered_subject"], shown["spam"]["skipped"]) == ("Hello", True)
    assert live.emails.spam_preview({**EMAIL, "to": ["user@example.com"]})["skipped"] is True
