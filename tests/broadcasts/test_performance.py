"""What came of a broadcast: figures by people, links, A/B tests, and a second try for those who did not open."""

from __future__ import annotations

import re
from collections import Counter

import httpx2 as httpx
import pytest
from sqlalchemy import update

from relay.store.broadcasts.schema import broadcasts
from tests.broadcasts.test_sending import addresses

BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/128.0 Safari/537.36"}
SCANNER = {"User-Agent": "Barracuda Sentinel (EE)"}
LINKED = "<p>Hi {{ first_name }}, <a href='https://shop.example/a'>a</a> or <a href='https://shop.example/b'>b</a></p>"


def follow(tenant, mail, pattern, headers=BROWSER):
    """Fetch what the mail's HTML has at this pattern."""
    url = re.search(pattern, mail.get_body(("html",)).get_content())[1]
    return httpx.get(url, headers=headers, follow_redirects=False).status_code


PIXEL, FIRST, SECOND = r'src="([^"]+/t/o/[^"]+)"', r"'?\"?(http[^'\"]+/t/c/[^'\"]+)['\"]>a<", r"(http[^'\"]+/t/c/[^'\"]+)['\"]>b<"


@pytest.fixture
def tracked(tenant):
    """A broadcast to four, delivered, with their mail by address."""
    people = tenant.people(4)
    number = tenant.draft(html=LINKED, text=None, tracking={"opens": True, "clicks": True})
    tenant.post(f"/broadcasts/{number}/send")
    tenant.sent(number)
    mail = {str(m["to"]): m for m in tenant.mail(4)}
    return number, [mail[p.email] for p in people], people


def test_figures_count_people_and_not_machines(tenant, tracked):
    number, mail, people = tracked
    for _ in range(2):
        assert follow(tenant, mail[0], PIXEL) == 200
    assert follow(tenant, mail[1], FIRST) == 302
    assert follow(tenant, mail[1], FIRST) == 302
    assert follow(tenant, mail[2], SECOND, SCANNER) == 302
    assert follow(tenant, mail[2], PIXEL) == 200
    shown = tenant.until(f"/broadcasts/{number}", lambda b: b["opened"] == 3 and b["clicked"] == 1)
    assert shown["delivered"] == 4
    told = tenant.until(f"/broadcasts/{number}/performance", lambda p: p["broadcast"]["opened"] == 3)["broadcast"]
    assert (told["open_rate"], told["click_rate"], told["in_progress"]) == (0.75, 0.25, False)
    links = tenant.until(f"/broadcasts/{number}/links", lambda answer: answer["links"] and answer["links"][0]["clicks"] == 2)["links"]
    assert links == [{"url": "https://shop.example/a", "clicks": 2, "people": 1}]
    assert [c["email"] for c in tenant.get(f"/broadcasts/{number}/non-openers")["contacts"]] == [people[3].email]
    assert tenant.get(f"/broadcasts/{number}/non-clickers", limit=2)["count"] == 3


def test_a_second_try_is_a_draft_for_those_who_did_not_open(tenant, tracked):
    number, mail, people = tracked
    follow(tenant, mail[0], PIXEL)
    tenant.until(f"/broadcasts/{number}", lambda b: b["opened"] == 1)
    made = tenant.post(f"/broadcasts/{number}/resend", {}, 201)
    assert (made["broadcast"]["status"], made["broadcast"]["subject"], made["recipient_count"]) == ("draft", "Re: Hello {{ first_name }}", 3)
    again = made["broadcast"]["id"]
    assert made["broadcast"]["segment_id"] == made["segment"]["id"]
    tenant.post(f"/broadcasts/{again}/send")
    assert tenant.sent(again)["delivered"] == 3
    assert addresses(tenant.mail(7)) == Counter({p.email: 2 for p in people}) - Counter([people[0].email])


def test_broadcasts_are_ranked(tenant, other, tracked):
    number, mail, _ = tracked
    quiet = tenant.draft(name="quiet")
    tenant.post(f"/broadcasts/{quiet}/send")
    tenant.sent(quiet)
    follow(tenant, mail[0], FIRST)
    ranked = tenant.until("/broadcasts/performance", lambda answer: answer["broadcasts"][0]["clicked"] == 1)
    assert [b["id"] for b in ranked["broadcasts"]] == [number, quiet]
    assert [b["id"] for b in tenant.get("/broadcasts/performance", since="2100-01-01")["broadcasts"]] == []
    assert other.get("/broadcasts/performance")["broadcasts"] == []
    assert other.http.get(f"/broadcasts/{number}/performance").status_code == 404


def bounced(tenant):
    """A broadcast to two, of whom one does not exist."""
    people = tenant.people(2)
    tenant.served.sink.script.rcpt[people[0].email] = "550 5.1.1 no such user"
    number = tenant.draft()
    tenant.post(f"/broadcasts/{number}/send")
    return number, people


def test_a_bounce_is_an_outcome_and_ends_marketing_to_the_address(tenant):
    number, people = bounced(tenant)
    done = tenant.sent(number)
    assert (done["delivered"], done["bounced"]) == (1, 1)
    assert [row["state"] for row in tenant.ledger(number, state="bounced")] == ["bounced"]
    again = tenant.draft()
    tenant.post(f"/broadcasts/{again}/send")
    assert tenant.sent(again)["skipped_by_reason"] == {"suppressed": 1}
    assert len(people) == 2


TEST = {"variants": [{"name": "plain", "subject": "One", "text": "1", "weight": 50}, {"name": "bold", "subject": "Two", "html": LINKED, "weight": 50}],
        "test_sample_size": 40, "test_duration_minutes": 30}


def on_trial(tenant, count=10, **more):
    """An A/B test whose sample has been delivered."""
    people = tenant.people(count)
    number = tenant.draft(ab_test={**TEST, **more}, tracking={"opens": True, "clicks": True})
    tenant.post(f"/broadcasts/{number}/send")
    tenant.until(f"/broadcasts/{number}", lambda b: b["ab_test"]["ends_at"] is not None and b["delivered"] == 4)
    return number, people


def test_a_sample_gets_the_variants_and_the_rest_the_winner(tenant):
    number, people = on_trial(tenant)
    sample = tenant.mail(4)
    assert Counter(str(m["subject"]) for m in sample) == {"One": 2, "Two": 2}
    assert tenant.get(f"/broadcasts/{number}")["pending"] == 6
    follow(tenant, next(m for m in sample if m["subject"] == "Two"), PIXEL)
    stats = tenant.until(f"/broadcasts/{number}/variant-stats", lambda answer: answer["leader_variant_id"] == 2)
    assert stats["winner_variant_id"] is None
    assert 0.5 < stats["confidence"] < 1
    assert [(v["delivered_count"], v["opened_count"], v["open_rate"]) for v in stats["variants"]] == [(2, 0, 0.0), (2, 1, 0.5)]
    assert tenant.post(f"/broadcasts/{number}/end-ab-test")["ab_test"]["winner"] == 2
    assert tenant.sent(number)["delivered"] == 10
    mail = tenant.mail(10)
    assert Counter(str(m["subject"]) for m in mail) == {"One": 2, "Two": 8}
    assert addresses(mail) == Counter(p.email for p in people)
    assert tenant.post(f"/broadcasts/{number}/end-ab-test", status=409)


def test_the_window_ends_by_itself(tenant):
    number, people = on_trial(tenant)
    row = tenant.get(f"/broadcasts/{number}")
    name = row["name"]
    over = update(broadcasts).where(broadcasts.c.name == name, broadcasts.c.project_id == tenant.number).values(test_ends_at=1.0)
    tenant.served.call(tenant.served.relay.store.write(lambda conn: conn.execute(over).rowcount))
    assert tenant.sent(number)["ab_test"]["winner"] == 1, "without any difference the first"
    assert len(tenant.mail(10)) == len(people)


def test_a_cancelled_test_keeps_the_rest_back(tenant):
    number, _ = on_trial(tenant)
    tenant.post(f"/broadcasts/{number}/cancel")
    done = tenant.sent(number, "cancelled")
    assert (done["delivered"], done["cancelled"]) == (4, 6)
