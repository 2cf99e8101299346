"""The preference page, fresh links for old ones, and the contact's own language; from a send over HTTP to what the next send may do."""

import re
import time
from datetime import datetime

import httpx2 as httpx
import pytest

from relay.clock import iso
from relay.mail.tokens import UNSUBSCRIBE, Tokens, pack, unpack
from relay.web import fresh
from relay.words import WORDS
from tests.api.test_people import token
from tests.support.served import arrived, email


@pytest.fixture
def visitor(served):
    with httpx.Client(base_url=served.public, headers={"User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/140.0"}) as client:
        yield client


@pytest.fixture
def topics(tenant):
    """Ids of two topics."""
    return [tenant.post("/subscription-topics", {"name": name, "description": f"About <{name}>"}, 201)["id"] for name in ("News", "Offers")]


def mail(served, tenant, **given):
    """The token in a mail to user@example.com."""
    message, _ = arrived(served, tenant, tenant.send(**{"unsubscribe": True, **given}))
    return token(message)


def seconds(moment):
    return datetime.fromisoformat(moment).timestamp()


def ticked(page):
    return re.findall(r'name="topic" value="(top_\w+)" checked', page.text)


def save(visitor, link, shown, wanted):
    return visitor.post(f"/p/{link}", data={"act": "save", "shown": shown, "topic": wanted})


def test_the_page_shows_every_topic_and_never_acts(served, tenant, visitor, topics):
    link = mail(served, tenant)
    assert f'href="/p/{link}"' in visitor.get(f"/u/{link}").text
    for _ in range(2):
        page = visitor.get(f"/p/{link}", params={"act": "leave"})
        assert (page.status_code, sorted(ticked(page)), page.headers["cache-control"]) == (200, sorted(topics), "no-store")
    assert "set-cookie" not in page.headers
    assert "<script" not in page.text
    assert "About &lt;News&gt;" in page.text
    assert page.text.count('class="beside"') == page.text.count('type="checkbox"') == 2
    assert page.text.count("<label") == page.text.count('type="checkbox"') + page.text.count("<select")
    assert tenant.get("/suppressions")["suppressions"] == []


@pytest.mark.parametrize("contact", [True, False], ids=["a contact", "an address"])
def test_a_topic_is_left_and_taken_back(served, tenant, visitor, topics, contact):
    if contact:
        made = tenant.post("/contacts", {"email": "user@example.com"}, 201)
    link = mail(served, tenant)
    assert ticked(save(visitor, link, topics, topics[:1])) == topics[:1]
    (entry,) = tenant.get("/suppressions")["suppressions"]
    assert (entry["scope"], entry["evidence"]["source"]) == (f"topic:{topics[1]}", "preferences")
    assert tenant.http.post("/emails", json=email(topic_id=topics[1])).json()["code"] == "recipient_suppressed"
    tenant.send(topic_id=topics[0])
    if contact:
        assert [each["type"] for each in tenant.get(f"/contacts/{made['id']}/history")["history"]].count("topic_unsubscribed") == 1
    assert sorted(ticked(save(visitor, link, topics, topics))) == sorted(topics)
    assert tenant.get("/suppressions")["suppressions"] == []
    tenant.send(topic_id=topics[1])


def test_a_topic_that_the_form_did_not_show_stays(served, tenant, visitor, topics):
    link = mail(served, tenant)
    save(visitor, link, topics[:1], [])
    assert ticked(visitor.get(f"/p/{link}")) == topics[1:]


def test_everything_is_left_at_once_and_taken_back(served, tenant, visitor, topics):
    link = mail(served, tenant)
    save(visitor, link, topics, topics[1:])
    waiting = tenant.send(scheduled_at="2027-06-01T09:00:00Z")
    page = visitor.post(f"/p/{link}", data={"act": "leave"})
    assert ticked(page) == []
    assert WORDS["en"]["back"] in page.text
    assert tenant.get(f"/emails/{waiting['id']}")["status"] == "suppressed"
    assert tenant.http.post("/emails", json=email()).json()["code"] == "recipient_suppressed"
    assert ticked(visitor.post(f"/p/{link}", data={"act": "return"})) == topics[1:]
    tenant.send()


def test_who_comes_back_after_being_deleted_is_no_longer_held_to_having_left(served, tenant, visitor, topics):
    """What a hash remembers is taken back by the person alone; an import or the API alone would find them unsubscribed."""
    made = tenant.post("/contacts", {"email": "user@example.com"}, 201)
    link = mail(served, tenant)
    save(visitor, link, topics, topics[1:])
    visitor.post(f"/p/{link}", data={"act": "leave"})
    tenant.delete(f"/contacts/{made['id']}")
    visitor.post(f"/p/{link}", data={"act": "return"})
    again = tenant.post("/contacts", {"email": "user@example.com"}, 201)
    assert again["unsubscribed"] is False
    assert [each["subscribed"] for each in tenant.get(f"/contacts/{again['id']}/topics")["subscriptions"]] == [False, True], "one topic was not taken back"


@pytest.mark.parametrize(("length", "days"), [("2w", 14), ("1m", 30), ("6m", 182), ("1y", 365)])
def test_marketing_mail_pauses_for_a_while(served, tenant, visitor, length, days):
    made, link = tenant.post("/contacts", {"email": "user@example.com"}, 201), mail(served, tenant)
    marketing = {"stream": "marketing", "unsubscribe": True}
    waiting = tenant.send(scheduled_at=iso(time.time() + 86_400), **marketing)
    page = visitor.post(f"/p/{link}", data={"act": "snooze", "for": length})
    (entry,) = tenant.get("/suppressions")["suppressions"]
    assert (entry["reason"], entry["scope"], entry["evidence"]["source"]) == ("snooze", "marketing", "preferences")
    assert seconds(entry["expires_at"]) - seconds(entry["created_at"]) == days * 86_400
    assert entry["expires_at"][:10] in page.text
    assert WORDS["en"]["wake"] in page.text
    assert tenant.get(f"/emails/{waiting['id']}")["status"] == "suppressed"
    assert tenant.http.post("/emails", json=email(**marketing)).json()["code"] == "recipient_suppressed"
    tenant.send()  # what is no marketing comes as before
    assert tenant.get(f"/contacts/{made['id']}")["unsubscribed"] is False
    assert WORDS["en"]["snooze"] in visitor.post(f"/p/{link}", data={"act": "wake"}).text
    assert tenant.get("/suppressions")["suppressions"] == []
    tenant.send(**marketing)
    assert [each["type"] for each in tenant.get(f"/contacts/{made['id']}/history")["history"]][:2] == ["snooze_ended", "snoozed"]


def test_a_pause_may_be_changed_and_gives_way_to_what_is_graver(served, tenant, visitor):
    other = served.tenant()
    link = mail(served, tenant)
    ends = []
    for length in ("1y", "2w"):
        visitor.post(f"/p/{link}", data={"act": "snooze", "for": length})
        (entry,) = tenant.get("/suppressions")["suppressions"]
        ends.append(seconds(entry["expires_at"]))
    assert ends[1] < ends[0]
    page = visitor.get(f"/u/{link}")
    assert WORDS["en"]["act"] in page.text, "who pauses has not unsubscribed"
    tenant.post("/suppressions", {"email": "user@example.com", "reason": "unsubscribe", "scope": "marketing"}, 201)
    visitor.post(f"/p/{link}", data={"act": "snooze", "for": "2w"})
    (entry,) = tenant.get("/suppressions")["suppressions"]
    assert (entry["reason"], entry["expires_at"]) == ("unsubscribe", None)
    assert other.get("/suppressions")["suppressions"] == []


def test_who_signs_up_anew_has_ended_the_pause(served, tenant, visitor):
    tenant.post("/contacts", {"email": "user@example.com"}, 201)
    link = mail(served, tenant)
    visitor.post(f"/p/{link}", data={"act": "snooze", "for": "1y"})
    visitor.post(f"/p/{link}", data={"act": "return"})
    assert tenant.get("/suppressions")["suppressions"] == []


def test_a_complaint_is_said_and_not_lifted(served, tenant, visitor):
    link = mail(served, tenant)
    tenant.post("/suppressions", {"email": "user@example.com", "reason": "complaint"}, 201)
    page = visitor.post(f"/p/{link}", data={"act": "return"})
    assert 'role="alert"' in page.text
    assert [each["reason"] for each in tenant.get("/suppressions")["suppressions"]] == ["complaint"]


def test_topics_of_another_project_are_neither_shown_nor_touched(served, tenant, visitor, topics):
    other = served.tenant()
    theirs = other.post("/subscription-topics", {"name": "Theirs"}, 201)["id"]
    link = mail(served, tenant)
    page = save(visitor, link, [theirs, "top_x", "' OR 1=1", "\0"], [])
    assert (page.status_code, theirs in page.text) == (200, False)
    assert other.get("/suppressions")["suppressions"] == tenant.get("/suppressions")["suppressions"] == []


@pytest.mark.parametrize("content", [b"", b"act=other", b"act=save&" * 5_000, b"act=snooze", b"act=snooze&for=9y",
                                     b"act=leave&x=" + b"x" * 70_000, b"\xff\x00"],
                         ids=["empty", "unknown", "many fields", "no length", "no such length", "large", "octets"])
def test_what_is_no_form_of_ours_changes_nothing(served, tenant, visitor, topics, content):
    link = mail(served, tenant)
    assert visitor.post(f"/p/{link}", content=content, headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 400
    assert tenant.get("/suppressions")["suppressions"] == []


@pytest.mark.parametrize("language", sorted(WORDS))
def test_page_and_footer_speak_the_contacts_language(served, tenant, visitor, language):
    tenant.patch("/project", {"language": "da" if language != "da" else "en"})
    tenant.post("/contacts", {"email": "user@example.com", "properties": {"locale": f"{language}_XX"}}, 201)
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True, html="<p>Hi</p>", stream="marketing"))
    assert f"{WORDS[language]['act']}: http" in message.get_body(("plain",)).get_content().replace("desa", "désa")  # an ASCII part has no accents
    for path, word in (("u", "act"), ("p", "preferences")):
        page = visitor.get(f"/{path}/{token(message)}").text
        assert f'lang="{language}"' in page
        assert WORDS[language][word].replace("'", "&#x27;") in page


def test_a_language_that_there_are_no_words_for_is_the_projects(served, tenant, visitor):
    tenant.patch("/project", {"language": "fr"})
    tenant.post("/contacts", {"email": "user@example.com", "properties": {"locale": "pt-BR"}}, 201)
    assert 'lang="fr"' in visitor.get(f"/u/{mail(served, tenant)}").text


# Links whose time is over


def old(served, link):
    """The token of the same recipient, a second too late."""
    tokens = Tokens(("a secret of thirty-two characters",), served.relay.clock)
    number, _ = unpack(tokens.read(UNSUBSCRIBE, link))
    return tokens.make(UNSUBSCRIBE, pack(number), served.relay.clock.now() - 1)


@pytest.mark.parametrize("path", ["u", "p"])
def test_an_expired_link_offers_a_fresh_one_and_acts_on_nothing(served, tenant, visitor, path):
    expired = old(served, mail(served, tenant))
    for method in ("GET", "POST"):
        page = visitor.request(method, f"/{path}/{expired}", data={"act": "leave"} if method == "POST" else None)
        assert (page.status_code, f'action="/u/{expired}/fresh"' in page.text) == (410, True)
        assert "user@example.com" not in page.text
    assert tenant.get("/suppressions")["suppressions"] == []


def fresh_letter(served, tenant, visitor, expired):
    before = len(tenant.get("/emails")["emails"])
    answer = visitor.post(f"/u/{expired}/fresh")
    assert answer.status_code == 202, answer.text
    newest = tenant.until("/emails", lambda got: len(got["emails"]) > before)["emails"][0]
    return arrived(served, tenant, newest)[0]


@pytest.mark.parametrize(("given", "scope"), [
    pytest.param({"unsubscribe": True}, "all", id="everything"), pytest.param({"topic_id": "top_news", "unsubscribe": False}, "topic:top_news", id="a topic"),
])
def test_a_fresh_link_comes_by_mail_and_leaves_the_same(served, tenant, visitor, given, scope):
    tenant.patch("/project", {"name": "Käse & Co"})
    letter = fresh_letter(served, tenant, visitor, old(served, mail(served, tenant, **given)))
    assert (letter["To"], letter["Subject"], letter["Auto-Submitted"]) == ("user@example.com", WORDS["en"]["fresh_subject"], "auto-replied")
    assert letter["From"].addresses[0].display_name == "Käse & Co"
    link = token(letter)
    assert f"/u/{link}" in letter.get_body(("plain",)).get_content()
    assert f'href="{served.public}/u/{link}"' in letter.get_body(("html",)).get_content()
    visitor.post(f"/u/{link}")
    assert [each["scope"] for each in tenant.get("/suppressions")["suppressions"]] == [scope]


def test_who_gets_no_mail_gets_no_fresh_link_and_the_page_does_not_tell(served, tenant, visitor):
    expired = old(served, mail(served, tenant))
    tenant.post("/suppressions", {"email": "user@example.com", "reason": "complaint"}, 201)
    assert visitor.post(f"/u/{expired}/fresh").status_code == 202
    assert len(tenant.get("/emails")["emails"]) == 1


def test_fresh_links_are_few(served, tenant, visitor):
    expired = old(served, mail(served, tenant))
    answers = [visitor.post(f"/u/{expired}/fresh") for _ in range(fresh.EACH + 1)]
    assert [each.status_code for each in answers] == [202] * fresh.EACH + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert len(tenant.get("/emails")["emails"]) == 1 + fresh.EACH


def test_a_link_that_works_needs_no_fresh_one_and_a_forged_one_gets_none(served, tenant, visitor):
    link = mail(served, tenant)
    answer = visitor.post(f"/u/{link}/fresh")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/u/{link}")
    assert visitor.post(f"/u/{'a' * 46}/fresh").status_code == 404
    gone = Tokens(("a secret of thirty-two characters",), served.relay.clock).make(UNSUBSCRIBE, pack(1), 1.0)
    assert visitor.post(f"/u/{gone}/fresh").status_code == 410
