"""The pages of broadcasts: written, looked over, sent or scheduled, paused, resumed and cancelled, followed to their results, and sent to non-openers again."""

from __future__ import annotations

import re

import pytest
from selectolax.lexbor import LexborHTMLParser

from relay.clock import iso
from tests.broadcasts.mailing import Mailing
from tests.support.visitor import visiting, words

NEW, LIST = "/dashboard/broadcasts/new", "/dashboard/broadcasts"
HOSTILE = "<script>alert(1)</script>\"' onload=x"


@pytest.fixture
def mailing(tenant):
    return Mailing(tenant)


@pytest.fixture
def people(mailing):
    return mailing.people(3)


def letter(mailing, **given):
    return {"name": "March", "from": mailing.sender, "to": "all", "subject": "Hello {{ first_name }}", "html": "<p>Dear {{ first_name }}</p>",
            "text": "Dear {{ first_name }}", **given}


def only(tenant):
    (found,) = tenant.get("/broadcasts")["broadcasts"]
    return tenant.get(f"/broadcasts/{found['id']}")


def test_a_broadcast_is_written_to_a_segment_reviewed_and_sent(mailing, visitor, tenant, people):
    segment = tenant.post("/segments", {"name": "Pro", "rules": [{"field": "plan", "operator": "equals", "value": "pro"}]}, 201)["id"]
    topic = tenant.post("/subscription-topics", {"name": "News"}, 201)["id"]
    reviewed = words(visitor.submit("/broadcasts/new", NEW, **letter(mailing, to=f"segment:{segment}", topic_id=topic, per_minute="600", opens="off"),
                                    do="review").text)
    assert "Segment: Pro, without those who left News" in reviewed
    made = only(tenant)
    assert (made["segment_id"], made["topic_id"], made["per_minute"], made["tracking"]) == (segment, topic, 600, {"opens": False})
    place = f"{LIST}/{made['id']}"
    checked = words(visitor.see(f"{place}/review", part="check").css_first("#check").html)
    assert "Subject Hello Ann2 Spam score not asked" in checked
    asked = visitor.see(f"{place}/review", part="people")
    assert asked.css_first(f'form[action="{place}/send"] button').text() == "Send to 1 person now"
    assert "It is on its way." in words(visitor.submit(f"{place}/review?part=people", f"{place}/send").text)
    mailing.sent(made["id"])
    assert [each["Subject"] for each in mailing.mail(1)] == ["Hello Ann1"]
    assert "1 of 1 are done" in visitor.text(place)
    assert mailing.sender.partition("@")[2].strip(">") in visitor.text(f"{place}/people", state="delivered")
    assert "Nobody." in visitor.text(f"{place}/people", state="bounced")
    assert "left, for about" in visitor.text(f"{place}/forecast")


@pytest.mark.parametrize(("fields", "said", "marked"), [
    ({"from": "x"}, "from", "from"), ({"subject": "{% if %}"}, "subject is not a template", "subject"), ({"per_minute": "soon"}, "whole number", "per_minute"),
    ({"per_minute": "0"}, "per_minute", "per_minute"), ({"html": "{{#if x}}"}, "Handlebars", "html"),
], ids=["no sender", "no template", "no number", "no speed", "Handlebars"])
def test_what_is_wrong_is_said_and_what_was_typed_stays(mailing, visitor, tenant, fields, said, marked):
    answer = visitor.submit("/broadcasts/new", NEW, **letter(mailing, **fields))
    assert answer.status_code == 422
    page = LexborHTMLParser(answer.text)
    assert said in words(page)
    assert [each.attributes["name"] for each in page.css("[aria-invalid]")] == [marked]
    assert "Dear {{ first_name }}" in page.css_first("#f-text").text()
    assert tenant.get("/broadcasts")["broadcasts"] == []


@pytest.mark.parametrize(("fields", "said"), [
    ({"to": ""}, "say who gets it"), ({"subject": ""}, "subject is required"), ({"html": "", "text": ""}, "one of html and text is required"),
], ids=["for nobody", "no subject", "nothing to say"])
def test_a_draft_that_cannot_be_sent_says_why(mailing, visitor, tenant, people, fields, said):
    visitor.submit("/broadcasts/new", NEW, **letter(mailing, **fields))
    place = f"{LIST}/{only(tenant)['id']}"
    answer = visitor.submit(f"{place}/review", f"{place}/send")
    assert (answer.status_code, said in words(answer.text)) == (422, True)
    assert only(tenant)["status"] == "draft"


def test_wordings_are_added_removed_and_taken_back(mailing, visitor, tenant):
    page = LexborHTMLParser(visitor.submit("/broadcasts/new", NEW, **letter(mailing), do="test").text)
    assert [each.attributes["value"] for each in page.css('input[name^="weight."]')] == ["50", "50"]
    assert page.css_first('input[name="subject.1"]').attributes["value"] == "Hello {{ first_name }}"
    test = {"test": "1", "sample": "50", "minutes": "30", "metric": "click_rate"}
    for number, subject in enumerate(("One", "Two"), 1):
        test |= {f"name.{number}": "AB"[number - 1], f"subject.{number}": subject, f"text.{number}": subject, f"html.{number}": "", f"weight.{number}": "50"}
    more = LexborHTMLParser(visitor.submit("/broadcasts/new", NEW, **letter(mailing), **test, do="more").text)
    assert [each.attributes["value"] for each in more.css('input[name^="weight."]')] == ["34", "33", "33"]
    less = LexborHTMLParser(visitor.submit("/broadcasts/new", NEW, **letter(mailing), **test, do="less.1").text)
    assert [each.attributes["value"] for each in less.css('input[name^="subject."]')] == ["Two"]
    single = LexborHTMLParser(visitor.submit("/broadcasts/new", NEW, **letter(mailing), **test, do="single").text)
    assert single.css_first("#f-subject").attributes["value"] == "One"
    odd = visitor.submit("/broadcasts/new", NEW, **letter(mailing), **{**test, "weight.2": "60"})
    assert (odd.status_code, "add up to 100" in odd.text) == (422, True)
    visitor.submit("/broadcasts/new", NEW, **letter(mailing), **test)
    made = only(tenant)["ab_test"]
    assert [(each["name"], each["subject"], each["weight"]) for each in made["variants"]] == [("A", "One", 50), ("B", "Two", 50)]
    assert (made["test_sample_size"], made["test_duration_minutes"], made["winner_metric"]) == (50, 30, "click_rate")
    place = f"{LIST}/{only(tenant)['id']}"
    visitor.submit(place, place, name="April")  # a form that nobody touched says the same
    assert (only(tenant)["name"], only(tenant)["ab_test"]) == ("April", made)
    token = visitor.see("/broadcasts/new").css_first("main input[name=token]").attributes["value"]
    seen = visitor.http.post("/dashboard/preview/words", data={"token": token, **letter(mailing), **test, "variant": "2"})
    assert "Subject Two" in words(seen.text)


def test_a_test_runs_ends_early_and_tells_how_sure_it_is(mailing, visitor, tenant):
    mailing.people(6)
    made = mailing.draft(ab_test={"variants": [{"name": each, "subject": each, "text": each, "weight": 50} for each in "AB"], "test_sample_size": 50})
    place = f"{LIST}/{made}"
    visitor.submit(f"{place}/review", f"{place}/send", scheduled_at="")
    mailing.mail(3)
    tenant.until(f"/broadcasts/{made}", lambda told: told["delivered"] == 3)
    page = visitor.text(place)
    assert "leads" in page
    assert re.search(r"better than the second best is \d+\.\d % sure", page)
    assert "the rest gets wording" in words(visitor.submit(place, f"{place}/decide").text)
    mailing.sent(made)
    assert "winner" in visitor.text(place)
    assert "End the test" not in visitor.text(place)


def test_it_is_scheduled_moved_and_cancelled(mailing, visitor, tenant, people):
    place = f"{LIST}/{mailing.draft()}"
    later = tenant.served.clock.now() + 86_400 * 30
    assert "It is scheduled." in words(visitor.submit(f"{place}/review", f"{place}/send", scheduled_at=iso(later)[:16]).text)
    assert only(tenant)["scheduled_at"][:16] == iso(later)[:16]
    visitor.submit(place, f"{place}/send", scheduled_at=iso(later + 3_600)[:16])
    assert only(tenant)["scheduled_at"][:16] == iso(later + 3_600)[:16]
    assert "The speed is changed." in words(visitor.submit(place, f"{place}/pace", per_minute="7").text)
    assert only(tenant)["per_minute"] == 7
    assert "Cancelled: nobody else gets it." in words(visitor.submit(place, f"{place}/cancel").text)
    assert only(tenant)["status"] == "cancelled"
    assert visitor.http.post(f"{place}/cancel", data={"token": _token(visitor)}).status_code == 409
    visitor.submit(place, f"{place}/delete")
    assert tenant.get("/broadcasts")["broadcasts"] == []


def _token(visitor):
    return visitor.see("/broadcasts/new").css_first("main input[name=token]").attributes["value"]


def test_one_that_runs_is_paused_and_resumed(mailing, visitor, tenant, people):
    made = mailing.draft(per_minute=1)
    place = f"{LIST}/{made}"
    visitor.submit(f"{place}/review", f"{place}/send", scheduled_at="")
    mailing.mail(1)
    assert visitor.see(place).css_first("#broadcast").attributes["hx-trigger"] == "every 2s"
    assert "Paused" in words(visitor.submit(place, f"{place}/pause").text)
    assert only(tenant)["status"] == "paused"
    visitor.submit(place, f"{place}/pace", per_minute="")
    visitor.submit(place, f"{place}/resume")
    mailing.sent(made)
    assert "3 of 3 are done" in visitor.text(place)
    assert "hx-trigger" not in visitor.see(place).css_first("#broadcast").attributes


def test_results_name_links_and_non_openers_get_a_second_draft(mailing, visitor, tenant, people):
    made = mailing.draft(html='<p>{{ first_name }} <a href="https://shop.example/sale">sale</a></p>', tracking={"opens": True, "clicks": True})
    place = f"{LIST}/{made}"
    tenant.post(f"/broadcasts/{made}/send")
    mailing.sent(made)
    mail = mailing.mail(3)[0]
    link = re.search(r'href="(http[^"]+/t/[^"]+|http[^"]+/c/[^"]+)"', mail.get_body(("html",)).get_content())
    assert link, mail.get_body(("html",)).get_content()
    visitor.http.get(link[1], headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "accept": "text/html"})
    tenant.until(f"/broadcasts/{made}", lambda told: told["clicked"] == 1)
    page = visitor.see(place)
    assert [cell.text() for cell in page.css("tbody td")] == ["https://shop.example/sale", "1", "1"]
    assert "1 Clicked, 33.3 %" in words(page)
    said = words(visitor.submit(place, f"{place}/resend", subject="Once more").text)
    assert "A draft for 2 people" in said
    drafts = [each for each in tenant.get("/broadcasts")["broadcasts"] if each["status"] == "draft"]
    assert [(each["subject"], each["segment_id"] is not None) for each in drafts] == [("Once more", True)]


def test_a_test_copy_goes_to_one_address(mailing, visitor, tenant, people):
    place = f"{LIST}/{mailing.draft()}"
    said = words(visitor.submit(place, f"{place}/test", email=people[0].email).text)
    assert f"A test copy for {people[0].email} is under way" in said
    assert [each["Subject"] for each in mailing.mail(1)] == ["[Test] Hello Ann0"]
    wrong = visitor.submit(place, f"{place}/test", email="nobody")
    assert (wrong.status_code, "Dear {{ first_name" in wrong.text) == (422, True)


def test_a_template_speaks_for_a_broadcast(mailing, visitor, tenant, people):
    template = tenant.post("/templates", {"name": "Offer", "subject": "An offer", "html": "<p>To {{ first_name }}</p>"}, 201)["id"]
    tenant.post(f"/templates/{template}/publish")
    page = visitor.see("/broadcasts/new", template=template)
    assert page.css_first("#f-template_id option[selected]").text() == "Offer"
    visitor.submit(f"/broadcasts/new?template={template}", NEW, **letter(mailing, subject="", html="", text=""))
    seen = visitor.http.post("/dashboard/preview/frame", data={"token": _token(visitor), "template_id": template, "contact": people[1].email})
    assert seen.text == "<p>To Ann1</p>"
    place = f"{LIST}/{only(tenant)['id']}"
    assert "Subject An offer" in words(visitor.see(f"{place}/review", part="check").css_first("#check").html)


def test_rules_that_came_over_the_api_stay(mailing, visitor, tenant, people):
    rules = [{"field": "plan", "operator": "equals", "value": "pro"}]
    made = mailing.draft(rules=rules)
    place = f"{LIST}/{made}"
    visitor.submit(place, place, name="April")
    assert (only(tenant)["rules"], only(tenant)["name"]) == (rules, "April")
    visitor.submit(place, place, to="all")
    assert (only(tenant)["rules"], only(tenant)["all_contacts"]) == (None, True)


def test_broadcasts_are_found_and_duplicated(mailing, visitor, tenant):
    place = f"{LIST}/{mailing.draft()}"
    visitor.submit(place, f"{place}/duplicate")
    assert "March (copy)" in visitor.text("/broadcasts", search="copy")
    assert "No broadcast matches." in visitor.text("/broadcasts", status="sent")


def test_what_broadcasts_say_is_never_run(mailing, visitor, tenant, people):
    segment = tenant.post("/segments", {"name": HOSTILE}, 201)["id"]
    made = mailing.draft(name=HOSTILE, subject=HOSTILE, html=HOSTILE, text=HOSTILE, segment_id=segment)
    for path in ("", f"/{made}", f"/{made}/review", f"/{made}/review?part=check", f"/{made}/people"):
        page = visitor.see(f"{LIST}{path}")
        assert HOSTILE in page.body.text() or path.endswith("people")
        assert not [each for each in page.css("script") if "src" not in each.attributes]
        assert not page.css("[onload]")


def test_another_project_s_broadcasts_are_not_there(served, mailing, tenant, people):
    made = mailing.draft()
    stranger = visiting(served.tenant())
    token, place = _token(stranger), f"{LIST}/{made}"
    for path in ("", "/review", "/review?part=people", "/forecast", "/people"):
        stranger.see(place + path, 404)
    fields = {"token": token, "from": "a@b.example", "to": "all", "email": "a@b.example", "target": "non_openers"}
    for act in ("", "/send", "/test", "/pause", "/resume", "/cancel", "/decide", "/pace", "/duplicate", "/resend", "/delete"):
        assert stranger.http.post(place + act, data=fields).status_code == 404, act
    segment = tenant.post("/segments", {"name": "Mine"}, 201)["id"]
    assert "Mine" not in stranger.text("/broadcasts/new")
    assert stranger.http.post(NEW, data={**fields, "to": f"segment:{segment}"}).status_code == 404
    assert stranger.http.get(NEW, params={"segment": segment}).status_code == 404
    assert only(tenant)["status"] == "draft"
