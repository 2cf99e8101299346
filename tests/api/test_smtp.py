"""Mail that came by SMTP is an email like any other: the same ledger, the same wishes, the same templates."""

import email as stdlib
import email.policy as policies
import smtplib

import pytest

from tests.support.served import Served


def submit(served, tenant, *fields, to=("user@example.com",), body="Hi"):
    """The em_ id that the 250 ends in."""
    content = "\r\n".join(("From: Shop <shop@yourdomain.com>", f"To: {', '.join(to)}", *fields, "", body, "")).encode()
    with smtplib.SMTP("127.0.0.1", served.smtp_port) as client:
        client.login("any", tenant.key)
        client.mail("shop@yourdomain.com")
        for each in to:
            client.rcpt(each)
        code, text = client.data(content)
    return code, text.decode()


def sent(served, tenant, *fields, **given):
    code, text = submit(served, tenant, *fields, **given)
    assert code == 250, text
    return text.split()[-1]


def arrived(served, tenant, number):
    tenant.until(f"/emails/{number}", lambda got: got["status"] == "delivered")
    found = (stdlib.message_from_bytes(each.content, policy=policies.default) for each in served.sink.messages if number.encode() in each.content)
    return next(message for message in found if f"id {number}" in message["Received"])


def test_it_is_an_email_of_the_ledger(served, tenant):
    number = sent(served, tenant, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "X-Relay-Tags: welcome, shop")
    found = tenant.until(f"/emails/{number}", lambda got: got["status"] == "delivered")
    assert (found["from"], found["subject"], found["tags"], found["text"]) == ("Shop <shop@yourdomain.com>", "Grüße", ["welcome", "shop"], "Hi")
    assert [each["id"] for each in tenant.get("/emails", tag="shop")["emails"]] == [number]


def test_a_template_fills_subject_and_body(served, tenant):
    made = tenant.post("/templates", {"name": "T", "subject": "Hello {{ name }}", "html": "<p>{{ name }}</p>", "text": "{{ name }}"}, 201)
    tenant.post(f"/templates/{made['id']}/publish")
    number = sent(served, tenant, "Subject: ignored", "X-Custom: kept", f"X-PostStack-Template-Id: {made['id']}", 'X-PostStack-Variables: {"name": "Zoë & co"}')
    message = arrived(served, tenant, number)
    assert (message["Subject"], message["X-Custom"], message["To"]) == ("Hello Zoë & co", "kept", "user@example.com")
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert message.get_body(("html",)).get_content().strip() == "<p>Zoë &amp; co</p>"
    assert not [name for name in message if name.lower().startswith(("x-relay", "x-poststack"))]


@pytest.mark.parametrize(("fields", "says"), [
    pytest.param(["X-Relay-Template-Id: tpl_0000000000000"], "Template not found", id="no such template"),
    pytest.param(["X-Relay-Template-Id: x"], "Template not found", id="no id"),
    pytest.param(["X-Relay-Template-Id: {draft}"], "Template not published", id="a draft"),
    pytest.param(["X-Relay-Template-Id: {draft}", "X-Relay-Variables: [1]"], "JSON object", id="variables that are no object"),
])
def test_a_template_that_cannot_be_sent_is_a_550(served, tenant, fields, says):
    draft = tenant.post("/templates", {"name": "T", "subject": "S", "text": "x"}, 201)["id"]
    code, text = submit(served, tenant, *(field.replace("{draft}", draft) for field in fields))
    assert (code, says in text) == (550, True), text
    assert tenant.get("/emails")["emails"] == []


def test_one_click_by_a_field(served, tenant):
    number = sent(served, tenant, "Subject: News", "X-Relay-Topic: top_news")
    message = arrived(served, tenant, number)
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "/u/" in message.get_content()


def test_a_suppressed_recipient_is_refused_at_rcpt(served, tenant):
    tenant.post("/suppressions", {"email": "gone@example.com"}, 201)
    with smtplib.SMTP("127.0.0.1", served.smtp_port) as client:
        client.login("any", tenant.key)
        client.mail("shop@yourdomain.com")
        code, text = client.rcpt("Gone@example.com")
    assert (code, b"suppressed" in text) == (550, True)


def test_scheduled_by_a_field(served, tenant):
    number = sent(served, tenant, "Subject: Later", "X-Relay-Send-At: 2027-03-25T09:00:00Z")
    assert tenant.get(f"/emails/{number}")["status"] == "scheduled"
    assert tenant.post(f"/emails/{number}/cancel")["status"] == "cancelled"


def test_a_suppressed_recipient_may_be_accepted_and_ends_with_its_event(tmp_path):
    with Served(tmp_path, "", RELAY_SUPPRESS__SMTP="accept") as relay:
        tenant = relay.tenant()
        tenant.post("/suppressions", {"email": "blocked@example.com"}, 201)
        with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=60) as line:
            line.login("app", tenant.key)
            refused = line.sendmail("you@yourdomain.com", ["blocked@example.com", "user@example.com"], "From: you@yourdomain.com\r\nSubject: Hi\r\n\r\nHi\r\n")
        assert refused == {}
        (found,) = tenant.get("/emails")["emails"]
        whole = tenant.until(f"/emails/{found['id']}", lambda got: got["status"] == "delivered")
        assert {each["email"]: each["status"] for each in whole["recipients"]} == {"blocked@example.com": "suppressed", "user@example.com": "delivered"}
        assert [each["to"] for each in whole["events"] if each["type"] == "suppressed"] == ["blocked@example.com"]
        assert {recipient for each in relay.sink.messages for recipient in each.recipients} == {"user@example.com"}


def test_mail_that_comes_back_a_second_time_loops(served, tenant):
    """A forwarder sends what it got from us back to us: once may be a forward, the next round is refused (B25)."""
    fields, codes = ["Subject: round and round"], []
    for _ in range(3):
        code, text = submit(served, tenant, *fields)
        codes.append(code)
        if code == 250:
            came = arrived(served, tenant, text.split()[-1])
            fields = [f"{name}: {value}" for name, value in came.items() if name in ("Relay-Trace", "Subject")]
    assert codes == [250, 250, 554]
    assert "5.4.6" in text


def test_another_relays_traces_are_no_loop(served, tenant):
    sent(served, tenant, *(f"Relay-Trace: {letter * 47}" for letter in "abcdef"))
