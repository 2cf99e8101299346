"""Track, send and verify in the Plunk dialect: who gets what, by which template, and what a second use of a key is told."""

import base64
import email
import email.policy
import re

import pytest

from relay import consent
from relay.consent import Act
from relay.mail import ids
from relay.mail.ids import Maker
from relay.store import emails, recipients

SENDING = {"subject": "Hello {{firstName ?? there}}", "body": "<p>Your plan: {{data.plan ?? none}}</p>", "from": "hi@yourdomain.com"}
TEMPLATE = {"name": "Welcome", "subject": "Hello {{firstName ?? there}}", "body": "<p>You have {{ data.plan ?? no plan }}.</p>", "from": "hi@yourdomain.com",
            "fromName": "Jo", "replyTo": "team@yourdomain.com"}


def sent(plunk, count=1):
    """The mails of this project as they arrived, parsed, once all are delivered; other tests' may arrive beside them."""
    told = plunk.tenant.until("/emails?per_page=100", lambda got: [each["status"] for each in got["emails"]] == ["delivered"] * count)
    mine = [f"<{each['id']}@relay.test>".encode() for each in told["emails"]]
    return [email.message_from_bytes(each.content, policy=email.policy.default) for each in plunk.tenant.served.sink.messages
            if any(name in each.content for name in mine)]


@pytest.fixture
def template(plunk):
    return plunk.post("/templates", {**TEMPLATE, "type": "TRANSACTIONAL"}, 201)


@pytest.fixture
def marketing(plunk):
    return plunk.post("/templates", TEMPLATE, 201)


# Track.


def test_track_makes_a_subscribed_contact(plunk):
    told = plunk.post("/v1/track", {"event": "signed_up", "email": "Jane@example.com", "data": {"plan": "pro", "code": {"value": "1", "persistent": False}}})
    assert told["success"] is True
    assert told["contact"] == told["data"]["contact"]
    found = plunk.get(f"/contacts/{told['contact']}")
    assert (found["email"], found["subscribed"], found["data"]) == ("jane@example.com", True, {"plan": "pro"})
    event, = [each for each in plunk.get(f"/events/contact/{told['contact']}")["data"] if each["name"] == "signed_up"]
    assert (event["id"], event["contactId"], event["data"]) == (told["event"], told["contact"], {"plan": "pro", "code": "1"})
    assert plunk.tenant.get("/events", type="signed_up")["events"][0]["data"]["email"] == "jane@example.com"


@pytest.mark.parametrize(("given", "subscribed"), [
    pytest.param({}, False, id="the state stays"), pytest.param({"subscribed": True}, True, id="unless it is said"),
    pytest.param({"subscribed": True, "preserveExistingSubscription": True}, False, id="or said to be kept"),
])
def test_track_and_the_subscription_of_who_is_there(plunk, given, subscribed):
    jane = plunk.contact(subscribed=False)
    plunk.post("/v1/track", {"event": "login", "email": "jane@example.com", **given})
    assert plunk.get(f"/contacts/{jane['id']}")["subscribed"] is subscribed


@pytest.mark.parametrize("name", ["email.opened", "email.anything", "contact.subscribed", "contact.unsubscribed", "segment.vip.entry", "segment.vip.exit",
                                  "contact.created", "unsubscribe"])
def test_names_of_the_system_are_reserved(plunk, name):
    error = plunk.post("/v1/track", {"event": name, "email": "jane@example.com"}, 422)["error"]
    assert (error["code"], error["errors"][0]["field"], error["errors"][0]["code"]) == ("VALIDATION_ERROR", "event", "reserved_event")
    assert plunk.get("/contacts")["total"] == 0


def test_the_first_version_folds_names(plunk):
    told = plunk.post("/v1", {"event": "Signed Up", "email": "jane@example.com"})
    assert plunk.get(f"/events/contact/{told['contact']}")["data"][0]["name"] == "signed-up"


def test_a_sending_key_tracks_and_sends(served):
    http = served.tenant("sending_access").http
    assert http.post("/plunk/v1/track", json={"event": "login", "email": "jane@example.com"}).status_code == 200
    assert http.post("/plunk/v1/send", json={**SENDING, "to": "jane@example.com"}).status_code == 200


def test_pages_of_other_origins_may_track(plunk):
    asked = plunk.http.options("/plunk/v1/track", headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "*")
    answer = plunk.http.post("/plunk/v1/track", json={"event": "login", "email": "jane@example.com"}, headers={"Origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in plunk.http.get("/plunk/contacts").headers


# Send.


def test_send_with_subject_and_body(plunk):
    told = plunk.post("/v1/send", {**SENDING, "to": "Jane <jane.send@example.com>", "name": "Jo", "reply": "team@yourdomain.com", "headers": {"X-Order": "7"},
                                   "data": {"plan": "pro", "code": {"value": "1", "persistent": False}}})
    assert told["success"] is True
    (one,) = told["data"]["emails"]
    assert told["emails"] == told["data"]["emails"]
    mail, = sent(plunk)
    assert (mail["subject"], mail["from"], mail["to"], mail["reply-to"], mail["x-order"]) == (
        "Hello there", "Jo <hi@yourdomain.com>", "Jane <jane.send@example.com>", "team@yourdomain.com", "7")
    assert "Your plan: pro" in mail.get_body().get_content()
    assert mail["list-unsubscribe"] is None
    found = plunk.get(f"/contacts/{one['contact']['id']}")
    assert (found["subscribed"], found["data"]) == (False, {"plan": "pro"})  # a new contact of /v1/send is not subscribed
    assert plunk.tenant.get(f"/emails/{one['email']}")["status"] == "delivered"


def test_each_recipient_gets_a_mail_of_their_own(plunk):
    plunk.contact("ann.each@example.com", data={"firstName": "Ann"})
    people = ["ann.each@example.com", {"name": "Bob", "email": "bob.each@example.com"}, "ANN.each@example.com"]
    told = plunk.post("/v1/send", {**SENDING, "to": people, "subscribed": True})
    assert [each["contact"]["email"] for each in told["emails"]] == ["ann.each@example.com", "bob.each@example.com"]
    mails = {mail["to"]: mail["subject"] for mail in sent(plunk, 2)}
    assert mails == {"ann.each@example.com": "Hello Ann", "Bob <bob.each@example.com>": "Hello there"}
    assert plunk.get("/contacts?subscribed=true")["total"] == 2


def test_a_template_brings_texts_and_sender(plunk, template):
    told = plunk.post("/v1/send", {"to": "jane.tpl@example.com", "template": template["id"], "data": {"firstName": "Zoë"}})
    mail, = sent(plunk)
    assert (mail["subject"], mail["from"], mail["reply-to"]) == ("Hello Zoë", "Jo <hi@yourdomain.com>", "team@yourdomain.com")
    assert "You have no plan." in mail.get_body().get_content()
    assert told["emails"][0]["email"].startswith("em_")


MATRIX = [
    pytest.param("TRANSACTIONAL", True, True, id="transactional to a subscribed contact"),
    pytest.param("TRANSACTIONAL", False, True, id="transactional to an unsubscribed contact"),
    pytest.param("MARKETING", True, True, id="marketing to a subscribed contact"),
    pytest.param("MARKETING", False, False, id="marketing to an unsubscribed contact"),
]


@pytest.mark.parametrize(("kind", "subscribed", "delivered"), MATRIX)
def test_delivery_by_subscription_state(plunk, kind, subscribed, delivered):
    made = plunk.post("/templates", {**TEMPLATE, "type": kind}, 201)
    plunk.contact("jane.matrix@example.com", subscribed=subscribed)
    told = plunk.post("/v1/send", {"to": "jane.matrix@example.com", "template": made["id"]}, 200 if delivered else 400)
    if delivered:
        assert len(sent(plunk)) == 1
    else:
        assert "unsubscribed" in told["message"]
        assert plunk.tenant.get("/emails")["pagination"]["total"] == 0


def test_marketing_mail_has_one_click_fields_and_a_footer(plunk, marketing):
    plunk.contact("jane.bulk@example.com")
    plunk.post("/v1/send", {"to": "jane.bulk@example.com", "template": marketing["id"]})
    mail, = sent(plunk)
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert (mail["precedence"], mail["auto-submitted"], mail["x-auto-response-suppress"]) == ("bulk", "auto-generated", "All")
    assert "/u/" in mail.get_body().get_content()
    link = re.search(r"<(http[^>]*/u/[^>]*)>", mail["list-unsubscribe"])[1]
    assert plunk.http.post(link, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert plunk.get("/contacts?subscribed=false")["total"] == 1
    plunk.post("/v1/send", {"to": "jane.bulk@example.com", "template": marketing["id"]}, 400)
    plunk.post("/v1/send", {**SENDING, "to": "jane.bulk@example.com"})


def test_a_link_in_a_transactional_mail_ends_marketing_only(plunk):
    plunk.contact("jane.link@example.com")
    body = '<a href="{{unsubscribeUrl}}">leave</a> <a href="{{ manageUrl }}">manage</a>'
    plunk.post("/v1/send", {**SENDING, "to": "jane.link@example.com", "body": body})
    mail, = sent(plunk)
    link = re.search(r'href="(http[^"]*/u/[^"]*)"', mail.get_body().get_content())[1]
    manage = re.search(r'href="(http[^"]*/p/[^"]*)"', mail.get_body().get_content())[1]
    assert mail["list-unsubscribe"] == f"<{link}>"
    assert plunk.http.get(manage.replace(plunk.tenant.served.public, plunk.tenant.served.base)).status_code == 200
    assert plunk.http.post(link, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert plunk.get("/contacts?subscribed=false")["total"] == 1
    plunk.post("/v1/send", {**SENDING, "to": "jane.link@example.com"})


def test_a_caller_keeps_fields_of_its_own(plunk, marketing):
    plunk.contact("jane.own@example.com")
    plunk.post("/v1/send", {"to": "jane.own@example.com", "template": marketing["id"], "headers": {"precedence": "list"}})
    mail, = sent(plunk)
    assert mail.get_all("precedence") == ["list"]


def test_attachments(plunk):
    files = [{"filename": "a.txt", "content": "aGVsbG8=", "contentType": "text/plain"},
             {"filename": "b.png", "content": "iVBORw==", "contentType": "image/png", "contentId": "logo", "disposition": "inline"}]
    plunk.post("/v1/send", {**SENDING, "to": "jane.file@example.com", "body": '<img src="cid:logo">', "attachments": files})
    mail, = sent(plunk)
    assert [(part.get_filename(), part.get_content()) for part in mail.iter_attachments()] == [("a.txt", "hello")]
    assert "<logo>" in {part["content-id"] for part in mail.walk()}


def test_a_large_attachment(plunk):
    octets = bytes(range(256)) * 12_000
    file = {"filename": "a.bin", "content": base64.b64encode(octets).decode(), "contentType": "application/octet-stream"}
    plunk.post("/v1/send", {**SENDING, "to": "jane.large@example.com", "attachments": [file]})
    mail, = sent(plunk)
    assert [part.get_content() for part in mail.iter_attachments()] == [octets]


@pytest.mark.parametrize(("given", "status", "code", "field"), [
    pytest.param({"to": []}, 422, "VALIDATION_ERROR", "to", id="nobody"),
    pytest.param({"to": "nonsense"}, 422, "VALIDATION_ERROR", "to", id="no address"),
    pytest.param({"subject": None}, 422, "VALIDATION_ERROR", "template", id="neither subject nor template"),
    pytest.param({"subject": "a\r\nBcc: eve@example.com"}, 422, "VALIDATION_ERROR", "subject", id="a line break in the subject"),
    pytest.param({"headers": {"X-A": "b\r\nBcc: eve@example.com"}}, 422, "VALIDATION_ERROR", "headers.X-A", id="a line break in a header"),
    pytest.param({"subject": "s" * 999}, 422, "VALIDATION_ERROR", "subject", id="a subject too long"),
    pytest.param({"from": None}, 422, "VALIDATION_ERROR", "from", id="no sender"),
    pytest.param({"template": "tpl_0000000000000"}, 404, "TEMPLATE_NOT_FOUND", None, id="no such template"),
    pytest.param({"template": "3f0e8d0e-0000-4000-8000-000000000000"}, 404, "TEMPLATE_NOT_FOUND", None, id="not even an id"),
    pytest.param({"body": "{% if %}"}, 422, "VALIDATION_ERROR", "body", id="a body that is no template"),
    pytest.param({"type": "markdown"}, 422, "VALIDATION_ERROR", "type", id="markdown"),
    pytest.param({"attachments": [{"filename": "a", "content": "?"}]}, 422, "VALIDATION_ERROR", "attachments[0].content", id="no base64"),
    pytest.param({"attachments": [{"filename": "a", "content": "A" * 14_000_000}]}, 422, "VALIDATION_ERROR", "attachments", id="attachments too large"),
    pytest.param({"data": {"locale": 1}}, 400, "BAD_REQUEST", "data.locale", id="locale"),
])
def test_what_is_refused(plunk, given, status, code, field):
    error = plunk.post("/v1/send", {**SENDING, "to": "jane@example.com", **given}, status)["error"]
    assert (error["code"], error.get("errors", [{"field": None}])[0]["field"]) == (code, field)
    assert plunk.tenant.get("/emails")["pagination"]["total"] == 0


def test_suppressed_addresses_get_nothing(plunk):
    plunk.tenant.post("/suppressions", {"email": "gone@example.com", "reason": "hard_bounce"}, 201)
    plunk.post("/v1/send", {**SENDING, "to": ["jane@example.com", "gone@example.com"]}, 422)
    assert plunk.tenant.get("/emails")["pagination"]["total"] == 0


# Idempotency.


def test_a_key_is_good_once(plunk):
    body = {**SENDING, "to": "jane.once@example.com"}
    plunk.post("/v1/send", body, idempotency_key="order-1")
    error = plunk.post("/v1/send", body, 409, idempotency_key="order-1")["error"]
    assert (error["code"], error["details"]["key"], error["details"]["originalRequest"], error["details"]["originalStatusCode"]) == (
        "IDEMPOTENCY_KEY_REUSED", "order-1", "POST /v1/send", 200)
    assert error["details"]["originalRequestAt"].endswith("Z")
    plunk.post("/v1/track", {"event": "login", "email": "jane@example.com"}, 409, idempotency_key="order-1")
    assert plunk.tenant.get("/emails")["pagination"]["total"] == 1


def test_a_refused_request_gives_its_key_back(plunk):
    plunk.post("/v1/send", {**SENDING, "to": "nonsense"}, 422, idempotency_key="order-1")
    plunk.post("/v1/send", {**SENDING, "to": "jane@example.com"}, idempotency_key="order-1")


@pytest.mark.parametrize("key", ["k" * 256, "a\tb", "ü"], ids=["too long", "a control character", "not ASCII"])
def test_keys_that_are_none(plunk, key):
    answer = plunk.http.post("/plunk/v1/track", json={"event": "login", "email": "jane@example.com"}, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["error"]["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_keys_are_each_projects_own(plunk, other):
    for each in (plunk, other):
        each.post("/v1/track", {"event": "login", "email": "jane@example.com"}, idempotency_key="same")


def test_another_projects_template_is_not_there(plunk, other, template):
    other.post("/v1/send", {"to": "jane@example.com", "template": template["id"]}, 404)
    assert other.get("/contacts")["total"] == 0


# Verify.


@pytest.mark.parametrize(("address", "found"), [
    pytest.param("jane+news@[127.0.0.1]", {"valid": True, "isPlusAddressed": True, "hasMxRecords": True, "isDisposable": False}, id="plus"),
    pytest.param("nonsense", {"valid": False, "domainExists": False}, id="malformed"),
    pytest.param("jane@gmial.com", {"valid": False, "isTypo": True, "suggestedEmail": "jane@gmail.com"}, id="typo"),
    pytest.param("info@mailinator.com", {"isDisposable": True, "isAlias": True, "isPersonalEmail": False}, id="disposable and a role"),
    pytest.param("jane@gmail.com", {"isPersonalEmail": True, "isDisposable": False}, id="free"),
])
def test_verify(plunk, address, found):
    told = plunk.post("/v1/verify", {"email": address})
    assert told["success"] is True
    assert {name: told["data"][name] for name in found} == found
    assert (told["data"]["email"], isinstance(told["data"]["reasons"], list)) == (address, True)


# What mail tells of contacts.


def test_a_hard_bounce_unsubscribes(plunk):
    plunk.tenant.served.sink.script.rcpt["nobody.bounce@example.com"] = "550 5.1.1 <nobody.bounce@example.com>: user unknown"
    jane = plunk.contact("nobody.bounce@example.com")
    plunk.post("/v1/send", {**SENDING, "to": "nobody.bounce@example.com"})
    found = plunk.tenant.until(f"/plunk/contacts/{jane['id']}", lambda got: got["subscribed"] is False)
    assert found["email"] == "nobody.bounce@example.com"
    names = {each["name"]: each["data"] for each in plunk.get(f"/events/contact/{jane['id']}")["data"]}
    assert names["contact.unsubscribed"]["reason"] == "bounce"
    assert "email.bounce" in plunk.get("/events/names")["eventNames"]
    plunk.post("/v1/send", {**SENDING, "to": "nobody.bounce@example.com"}, 422)


def test_a_complaint_unsubscribes(plunk):
    jane = plunk.contact("jane.complains@example.com")
    told = plunk.post("/v1/send", {**SENDING, "to": "jane.complains@example.com"})
    store, number = plunk.tenant.served.relay.store, ids.internal(told["emails"][0]["email"])
    plunk.tenant.until("/emails", lambda got: got["emails"][0]["status"] == "delivered")

    def complain(conn):
        person, = emails.get(conn, plunk.tenant.number, number).recipients
        consent.complained(conn, recipients.get(conn, person.id), Act("report", at=person.ended_at), Maker())

    plunk.tenant.served.call(store.write(complain))
    assert plunk.get(f"/contacts/{jane['id']}")["subscribed"] is False
    names = {each["name"]: each["data"] for each in plunk.get(f"/events/contact/{jane['id']}")["data"]}
    assert names["contact.unsubscribed"]["reason"] == "complaint"
    assert "email.complaint" in names
    plunk.post("/v1/send", {**SENDING, "to": "jane.complains@example.com"}, 422)
