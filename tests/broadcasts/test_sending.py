"""A broadcast reaches everybody in its audience who may get it, once, in their own words, with the way out always there."""

from __future__ import annotations

from collections import Counter


def addresses(mail):
    return Counter(str(m["to"]) for m in mail)


def test_each_contact_gets_one_mail_of_their_own(tenant):
    people = tenant.people(30)
    number = tenant.draft()
    assert tenant.post(f"/broadcasts/{number}/send")["status"] == "queued"
    done = tenant.sent(number)
    mail = tenant.mail(30)
    assert addresses(mail) == Counter(p.email for p in people)
    assert (done["total_recipients"], done["delivered"], done["skipped"]) == (30, 30, 0)
    by_address = {str(m["to"]): m for m in mail}
    first = by_address[people[1].email]
    assert first["subject"] == "Hello Ann1"
    assert "Your plan is pro." in first.get_body(("plain",)).get_content()
    assert "Dear Ann1, you are on pro." in first.get_body(("html",)).get_content()
    rows = tenant.ledger(number)
    assert sorted(row["contact_id"] for row in rows) == sorted(p.public_id for p in people)
    assert {row["state"] for row in rows} == {"delivered"}
