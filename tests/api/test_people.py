"""What mail readers follow: unsubscribe links, opens and clicks; from a send over HTTP to the page, the event and the next send."""

import re

import httpx2 as httpx
import pytest

from relay.mail.tokens import Tokens, pack
from relay.web import pages
from relay.web.tracking import location, machine
from tests.support.served import arrived, email

PERSON = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"}


def token(message):
    return re.search(r"/u/([a-z2-7]+)>", message["List-Unsubscribe"])[1]


@pytest.fixture
def visitor(served):
    with httpx.Client(base_url=served.public, headers=PERSON) as client:
        yield client


def test_both_fields_as_the_seed_has_them(served, tenant):
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True))
    assert re.fullmatch(rf"<{re.escape(served.public)}/u/[a-z2-7]+>", message["List-Unsubscribe"])
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_no_field_when_nobody_asked(served, tenant):
    message, _ = arrived(served, tenant, tenant.send())
    assert message["List-Unsubscribe"] is None


def test_get_asks_and_never_acts(served, tenant, visitor):
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True))
    page = visitor.get(f"/u/{token(message)}")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert "user@example.com" in page.text
    assert '<form method="post"' in page.text
    assert tenant.get("/suppressions")["suppressions"] == []


def test_one_click_suppresses_at_once(served, tenant, visitor):
    sent = tenant.send(unsubscribe=True)
    message, _ = arrived(served, tenant, sent)
    for _ in range(2):
        answer = visitor.post(f"/u/{token(message).upper()}", data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
    (entry,) = tenant.get("/suppressions")["suppressions"]
    assert (entry["email"], entry["reason"], entry["scope"], entry["evidence"]["source"]) == ("user@example.com", "unsubscribe", "all", "one-click")
    assert [each["type"] for each in tenant.get(f"/emails/{sent['id']}/events")["events"]] == ["queued", "sent", "delivered", "unsubscribed"]
    assert tenant.http.post("/emails", json=email()).json()["code"] == "recipient_suppressed"


def test_an_unsubscribe_stops_what_waits(served, tenant, visitor):
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True))
    waiting = tenant.send(scheduled_at="2027-06-01T09:00:00Z")
    visitor.post(f"/u/{token(message)}")
    assert tenant.get(f"/emails/{waiting['id']}")["status"] == "suppressed"


def test_a_topic_stops_its_own_mail_only(served, tenant, visitor):
    message, _ = arrived(served, tenant, tenant.send(topic_id="top_news"))
    visitor.post(f"/u/{token(message)}")
    assert tenant.get("/suppressions")["suppressions"][0]["scope"] == "topic:top_news"
    assert tenant.http.post("/emails", json=email(topic_id="top_news")).json()["code"] == "recipient_suppressed"
    tenant.send()
    tenant.send(topic_id="top_alerts")


def test_a_mistake_can_be_undone(served, tenant, visitor):
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True))
    visitor.post(f"/u/{token(message)}")
    assert "/undo" in visitor.get(f"/u/{token(message)}").text
    visitor.post(f"/u/{token(message)}/undo")
    assert tenant.get("/suppressions")["suppressions"] == []
    tenant.send()


def test_a_complaint_is_not_undone(served, tenant, visitor):
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True))
    visitor.post(f"/u/{token(message)}")
    tenant.post("/suppressions", {"email": "user@example.com", "reason": "complaint"}, 201)
    visitor.post(f"/u/{token(message)}/undo")
    assert [each["reason"] for each in tenant.get("/suppressions")["suppressions"]] == ["complaint"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_expired_is_410_and_forged_is_404(served, tenant, visitor, method):
    tokens = Tokens(("a secret of thirty-two characters",), served.relay.clock)
    old = tokens.make("unsub", pack(1), served.relay.clock.now() - 1)
    assert visitor.request(method, f"/u/{old}").status_code == 410
    for forged in ("x", "a" * 46, tokens.make("open", pack(1))):
        assert visitor.request(method, f"/u/{forged}").status_code == 404


@pytest.mark.parametrize("language", sorted(pages.WORDS))
def test_page_and_footer_speak_the_project_s_language(served, tenant, visitor, language):
    tenant.patch("/project", {"language": language, "name": "Käse & Co", "postal_address": "Marktplatz 1\n20095 Hamburg"})
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True, html="<p>Hi</p>"))
    page = visitor.get(f"/u/{token(message)}").text
    assert f'lang="{language}"' in page
    assert pages.WORDS[language]["act"] in page
    assert "Käse &amp; Co" in page
    html = message.get_body(("html",)).get_content()
    assert pages.WORDS[language]["act"].replace("é", "&#233;") in html
    assert "Marktplatz 1" in html
    assert f"/u/{token(message)}" in message.get_body(("plain",)).get_content()


# Tracking


def tracked(served, tenant, html='<a href="https://example.com/a?x=1&amp;y=[2]|#z">Go</a>'):
    sent = tenant.send(html=html, tracking={"opens": True, "clicks": True})
    message, _ = arrived(served, tenant, sent)
    body = message.get_body(("html",)).get_content()
    return sent, re.search(r'href="([^"]+)"', body)[1], re.search(r'<img src="([^"]+)"', body)[1]


def test_a_click_goes_exactly_where_the_link_went(served, tenant, visitor):
    sent, link, _ = tracked(served, tenant)
    answer = visitor.get(link)
    assert (answer.status_code, answer.headers["location"]) == (302, "https://example.com/a?x=1&y=[2]|#z")
    found = tenant.until(f"/emails/{sent['id']}/events", lambda got: got["events"][-1]["type"] == "clicked")
    assert found["events"][-1]["url"] == "https://example.com/a?x=1&y=[2]|#z"
    assert "machine" not in found["events"][-1]


def test_an_open_is_an_event(served, tenant, visitor):
    sent, _, pixel = tracked(served, tenant)
    answer = visitor.get(pixel)
    assert (answer.status_code, answer.headers["content-type"], answer.content[:6]) == (200, "image/gif", b"GIF89a")
    found = tenant.until(f"/emails/{sent['id']}/events", lambda got: got["events"][-1]["type"] == "opened")
    assert "machine" not in found["events"][-1]


def test_a_machine_s_open_says_so(served, tenant, visitor):
    sent, _, pixel = tracked(served, tenant)
    visitor.get(pixel, headers={"User-Agent": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"})
    found = tenant.until(f"/emails/{sent['id']}/events", lambda got: got["events"][-1]["type"] == "opened")
    assert found["events"][-1]["machine"] is True


@pytest.mark.parametrize("path", ["/t/c/x", "/t/c/" + "A" * 60, "/t/o/x"])
def test_a_forged_link_leads_nowhere(visitor, path):
    assert visitor.get(path).status_code == 404


@pytest.mark.parametrize(("method", "headers", "by_machine"), [
    pytest.param("GET", {"user-agent": PERSON["User-Agent"]}, False, id="a browser"),
    pytest.param("GET", {"user-agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"}, False, id="a phone"),
    pytest.param("GET", {"user-agent": "Microsoft Outlook 16.0"}, False, id="a mail program"),
    pytest.param("GET", {"user-agent": "Mozilla/5.0"}, True, id="Apple's privacy protection"),
    pytest.param("GET", {"user-agent": "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}, True, id="Yahoo's proxy"),
    pytest.param("GET", {}, True, id="nobody says who"),
    pytest.param("HEAD", {"user-agent": PERSON["User-Agent"]}, True, id="HEAD"),
    pytest.param("GET", {"user-agent": PERSON["User-Agent"], "sec-purpose": "prefetch"}, True, id="a prefetch"),
    pytest.param("GET", {"user-agent": "python-requests/2.32"}, True, id="a script"),
    pytest.param("GET", {"user-agent": "Mozilla/5.0 (compatible; Barracuda Sentinel (EE))"}, True, id="a scanner"),
])
def test_machines_are_told_from_people(method, headers, by_machine):
    assert machine(method, headers) is by_machine


@pytest.mark.parametrize(("target", "field"), [
    pytest.param("https://a.example/?q={x}|y^z`", b"https://a.example/?q={x}|y^z`", id="odd but ASCII: unchanged"),
    pytest.param("https://a.example/grüße", b"https://a.example/gr%C3%BC%C3%9Fe", id="outside ASCII"),
    pytest.param("https://a.example/\r\nSet-Cookie: x", b"https://a.example/%0D%0ASet-Cookie:%20x", id="a line break"),
])
def test_a_location_is_the_target(target, field):
    assert location(target) == field
