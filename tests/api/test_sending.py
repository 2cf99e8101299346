"""POST /emails and its kin against a running relay, on both databases."""

import base64
import concurrent.futures

import pytest

from relay import submission
from relay.mail import ids
from relay.metrics import REGISTRY, Earned
from tests.support.served import arrived, email


def test_the_first_example_is_accepted_and_delivered(tenant):
    answer = tenant.send(html="<h1>Hello!</h1><p>Welcome aboard.</p>", text="Hello! Welcome aboard.", subject="Welcome to PostStack")
    assert set(answer) == {"id", "spam_score", "spam_warnings"}
    assert answer["id"].startswith("em_")
    found = tenant.until(f"/emails/{answer['id']}", lambda got: got["status"] == "delivered")
    assert found["from"] == "PostStack <you@yourdomain.com>"
    assert (found["html"], found["text"]) == ("<h1>Hello!</h1><p>Welcome aboard.</p>", "Hello! Welcome aboard.")
    assert [each["type"] for each in found["events"]] == ["queued", "sent", "delivered"]
    assert all(found[name].endswith("Z") for name in ("created_at", "sent_at", "delivered_at"))


def test_everything_that_a_send_can_say_arrives(served, tenant):
    sent = tenant.send(
        cc=["Team Mate <teammate@example.com>"], bcc="archive@yourdomain.com", reply_to="support@yourdomain.com", headers={"X-Custom-Header": "välue"},
        tags=["welcome", "onboarding"], html='<p>Hi <img src="cid:logo"></p>',
        attachments=[{"filename": "invoice.pdf", "content": base64.b64encode(b"%PDF").decode(), "content_type": "application/pdf"},
                     {"filename": "logo.png", "content": base64.b64encode(b"PNG").decode(), "content_id": "logo"}])
    message, _ = arrived(served, tenant, sent)
    assert (message["reply-to"], message["cc"], message["x-custom-header"]) == ("support@yourdomain.com", "Team Mate <teammate@example.com>", "välue")
    assert message["bcc"] is None
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png", "application/pdf"]
    assert {r for each in served.sink.messages if f"<{sent['id']}@".encode() in each.content for r in each.recipients} == {
        "user@example.com", "teammate@example.com", "archive@yourdomain.com"}
    found = tenant.get(f"/emails/{sent['id']}")
    assert (found["to"], found["cc"], found["bcc"]) == (["user@example.com"], ["teammate@example.com"], ["archive@yourdomain.com"])
    assert found["tags"] == ["welcome", "onboarding"]


def test_a_field_that_is_null_is_one_left_out(served, tenant):
    null = dict.fromkeys(("cc", "bcc", "reply_to", "replyTo", "tags", "attachments", "headers", "tracking", "unsubscribe", "idempotency_window_hours", "retry"))
    sent = tenant.send(**null, idempotency_key="null")
    assert tenant.send(idempotency_key="null") == {**sent, "replayed": True}
    batch = tenant.post("/emails/batch", {"emails": [email(**null), email(to=None), 7]}, 202)["data"]
    assert batch[0]["id"]
    assert [each.get("field") for each in batch[1:]] == ["to", "body"]
    assert batch[2]["error"] == "an email is a JSON object"


def test_camel_case_spellings_are_taken(served, tenant):
    sent = tenant.send(replyTo="support@yourdomain.com", idempotencyKey="k", idempotencyWindowHours=48)
    message, _ = arrived(served, tenant, sent)
    assert message["reply-to"] == "support@yourdomain.com"
    assert tenant.send(replyTo="support@yourdomain.com", idempotencyKey="k", idempotencyWindowHours=48)["replayed"] is True


REFUSED = [
    pytest.param({"from": None}, "from", id="from is null"),
    pytest.param({"from": "nobody"}, "from", id="from without a domain"),
    pytest.param({"to": []}, "to", id="nobody to send to"),
    pytest.param({"to": ["user@example.com"] * 51}, "to", id="51 recipients"),
    pytest.param({"to": ["not an address"]}, "to", id="no address"),
    pytest.param({"subject": None}, "subject", id="no subject"),
    pytest.param({"subject": "a\r\nBcc: x@y.example"}, "subject", id="line break in the subject"),
    pytest.param({"text": None}, "html", id="neither html nor text"),
    pytest.param({"tags": ["x"] * 11}, "tags", id="11 tags"),
    pytest.param({"tags": ["x" * 65]}, "tags[0]", id="a tag of 65 characters"),
    pytest.param({"tags": ["order", " "]}, "tags[1]", id="a tag of nothing but spaces"),
    pytest.param({"attachments": [{"filename": "a", "content": "QQ=="}] * 11}, "attachments", id="11 attachments"),
    pytest.param({"attachments": [{"filename": "a", "content": "?"}]}, "attachments[0].content", id="not base64"),
    pytest.param({"attachments": [{"filename": "a"}]}, "attachments[0].content", id="no content"),
    pytest.param({"headers": {"DKIM-Signature": "x"}}, "headers.DKIM-Signature", id="a header that would break the message"),
    pytest.param({"headers": {"X-A": "b\r\nc"}}, "headers.X-A", id="a header with a line break"),
    pytest.param({"headers": {"": "b"}}, "headers", id="a header without a name"),
    pytest.param({"scheduled_at": "tomorrow"}, "scheduled_at", id="a time in words"),
    pytest.param({"scheduled_at": "2999-01-01T00:00:00Z"}, "scheduled_at", id="too far ahead"),
    pytest.param({"idempotency_key": "x" * 65}, "idempotency_key", id="a key of 65 characters"),
    pytest.param({"idempotency_window_hours": 73}, "idempotency_window_hours", id="73 hours"),
    pytest.param({"template_id": 7}, "template_id", id="a template that is a number"),
]


@pytest.mark.parametrize(("given", "field"), REFUSED)
def test_what_is_invalid_is_named(tenant, given, field):
    answer = tenant.http.post("/emails", json=email(**given))
    assert answer.status_code == 422, answer.text
    body = answer.json()
    assert (body["field"], body["code"]) == (field, "validation_error")
    assert body["error"]
    assert "validation" not in body["error"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(("headers", "content", "status", "code"), [
    pytest.param({"Authorization": ""}, b"{}", 401, "invalid_api_key", id="no key"),
    pytest.param({"Authorization": "Bearer sk_live_0000"}, b"{}", 401, "invalid_api_key", id="a key that nobody has"),
    pytest.param({"Authorization": "Basic abc"}, b"{}", 401, "invalid_api_key", id="another scheme"),
    pytest.param({}, b"{", 400, "invalid_json", id="no JSON"),
    pytest.param({}, b"\xff", 400, "invalid_json", id="no UTF-8"),
    pytest.param({}, b"[]", 422, "validation_error", id="a list"),
    pytest.param({}, b"7", 422, "validation_error", id="a number"),
])
@pytest.mark.parametrize("path", ["/emails", "/emails/send", "/emails/batch"])
def test_requests_that_cannot_be_read(tenant, path, headers, content, status, code):
    answer = tenant.http.post(path, content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(("path", "given", "code"), [
    ("/emails", email(), "202"), ("/emails/send", email(), "202"), ("/emails/batch", {"emails": [email()]}, "202"), ("/emails", {"to": 7}, "422"),
], ids=["one", "alias", "batch", "invalid"])
def test_requests_that_hand_over_mail_are_counted_by_status(tenant, path, given, code):
    def count() -> float:
        return REGISTRY.get_sample_value("relay_http_inject_requests_total", {"code": code}) or 0.0

    before = count()
    assert tenant.http.post(path, json=given).status_code == int(code)
    tenant.get("/emails")
    assert count() == before + 1


def test_mail_is_counted_by_project_once_it_sends_much(served, tenant, monkeypatch):
    monkeypatch.setattr(submission, "TENANTS", Earned(after=20))  # the names that other tests have earned fill no place here

    def count(of) -> float:
        return REGISTRY.get_sample_value("relay_messages_received_total", {"protocol": "http", "tenant": ids.public("prj", of.number)}) or 0.0

    other = served.tenant()
    for _ in range(25):
        tenant.send()
    other.send()
    assert (count(tenant), count(other)) == (6, 0)
    tenant.send()
    assert (count(tenant), count(other)) == (7, 0)


def test_a_batch_is_independent_sends(tenant):
    good, bad = email(to=["alice@example.com"]), email(to=["nobody"])
    answer = tenant.post("/emails/batch", {"emails": [good, bad, {**good, "to": ["bob@example.com"]}]}, 202)
    assert [set(each) for each in answer["data"]] == [
        {"id", "spam_score", "spam_warnings"}, {"error", "code", "field"}, {"id", "spam_score", "spam_warnings"}]


def test_a_key_of_a_batch_that_was_used_before_harms_none_but_its_own(tenant):
    first = tenant.send(idempotency_key="a")
    rows = [email(idempotency_key=key, subject=subject) for key, subject in (("a", "Hello"), ("b", "Hello"), ("a", "Else"), ("b", "Hello"), ("b", "Else"))]
    answer = tenant.post("/emails/batch", {"emails": rows}, 202)["data"]
    assert answer[0] == {**first, "replayed": True}
    assert answer[3] == {**answer[1], "replayed": True}
    assert [answer[n]["code"] for n in (2, 4)] == ["idempotency_key_reused"] * 2
    assert tenant.get("/emails")["pagination"]["total"] == 2


def test_the_suppressed_of_a_batch_are_told_in_their_places(tenant):
    tenant.post("/suppressions", {"email": "blocked@example.com"}, 201)
    rows = [email(to=["ann@example.com"]), email(to=["Blocked@example.com"]), email(to=["blocked@example.com", "bob@example.com"])]
    answer = tenant.post("/emails/batch", {"emails": rows}, 202)["data"]
    assert "suppressed" not in answer[0]
    assert answer[1]["code"] == "recipient_suppressed"
    assert answer[2]["suppressed"] == ["blocked@example.com"]


def test_what_a_batch_says_to_many_and_to_each_arrives(served, tenant):
    rows = [email(to=[f"{name}@example.com"], text=text, html=html, subject=name)
            for name, text, html in (("ann", "Same", "<p>Same</p>"), ("bob", "Same", "<p>Same</p>"), ("cem", "Own", "<p>Same</p>"), ("dan", "Same", None))]
    for row, sent in zip(rows, tenant.post("/emails/batch", {"emails": rows}, 202)["data"], strict=True):
        message, got = arrived(served, tenant, sent)
        assert (got.recipients, message["To"], message["Subject"]) == (row["to"], row["to"][0], row["subject"])
        for kind in ("html", "plain"):
            part, wanted = message.get_body((kind,)), row["html" if kind == "html" else "text"]
            assert (part and part.get_content().strip()) == wanted


def test_batches_of_two_projects_at_the_same_instant_stay_apart(served, tenant):
    other = served.tenant()
    tenant.post("/suppressions", {"email": "ann@example.com"}, 201)
    rows = [email(to=["ann@example.com"]), email(to=["bob@example.com"], idempotency_key="one")]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        mine, theirs = pool.map(lambda who: who.post("/emails/batch", {"emails": rows}, 202)["data"], (tenant, other))
    assert [each.get("code") for each in mine] == ["recipient_suppressed", None]
    assert [each.get("code") for each in theirs] == [None, None]
    assert mine[1]["id"] != theirs[1]["id"]
    assert [each["id"] for each in tenant.get("/emails")["emails"]] == [mine[1]["id"]]
    assert {each["id"] for each in other.get("/emails")["emails"]} == {each["id"] for each in theirs}


def test_a_batch_has_at_most_a_hundred(tenant):
    answer = tenant.post("/emails/batch", {"emails": [email()] * 101}, 422)
    assert answer == {"error": "Batch size exceeds limit", "code": "batch_too_large"}


# Idempotency


@pytest.mark.parametrize("way", ["body", "header"])
def test_the_same_key_replays_the_first_send(tenant, way):
    body, headers = (email(idempotency_key="order_123"), {}) if way == "body" else (email(), {"Idempotency-Key": "order_123"})
    first, second = (tenant.http.post("/emails", json=body, headers=headers) for _ in range(2))
    assert "x-idempotent-replay" not in first.headers
    assert second.headers["x-idempotent-replay"] == "true"
    assert second.json() == {**first.json(), "replayed": True}
    assert tenant.get("/emails")["pagination"]["total"] == 1


def test_the_body_s_key_wins_over_the_header_s(tenant):
    first = tenant.http.post("/emails", json=email(idempotency_key="k"), headers={"Idempotency-Key": "a"}).json()
    second = tenant.http.post("/emails", json=email(idempotency_key="k"), headers={"Idempotency-Key": "b"}).json()
    assert second == {**first, "replayed": True}


def test_the_same_key_for_another_email_is_refused(tenant):
    tenant.send(idempotency_key="k")
    answer = tenant.http.post("/emails", json=email(idempotency_key="k", subject="Another"))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def test_two_at_the_same_instant_send_once(tenant):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: tenant.send(idempotency_key="k"), range(8)))
    assert len({each["id"] for each in answers}) == 1
    assert sum("replayed" not in each for each in answers) == 1
    assert tenant.get("/emails")["pagination"]["total"] == 1


def test_a_key_belongs_to_its_project(served, tenant):
    assert "replayed" not in tenant.send(idempotency_key="k")
    assert "replayed" not in served.tenant().send(idempotency_key="k")


# Recipients who get no mail


def test_suppressed_recipients_are_left_out_and_named(tenant):
    tenant.post("/suppressions", {"email": "Gone@Example.com", "reason": "manual"}, 201)
    sent = tenant.send(to=["user@example.com", "gone@example.com"])
    assert sent["suppressed"] == ["gone@example.com"]
    found = tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    assert {each["email"]: each["status"] for each in found["recipients"]} == {"user@example.com": "delivered", "gone@example.com": "suppressed"}


def test_nobody_left_is_refused_and_nothing_is_kept(tenant):
    tenant.post("/suppressions", {"email": "gone@example.com", "reason": "hard_bounce"}, 201)
    answer = tenant.http.post("/emails", json=email(to=["GONE@example.com"]))
    assert (answer.status_code, answer.json()["code"]) == (422, "recipient_suppressed")
    assert tenant.get("/emails")["pagination"]["total"] == 0


def test_a_lifted_suppression_lets_mail_through(tenant):
    tenant.post("/suppressions", {"email": "back@example.com", "reason": "manual"}, 201)
    tenant.delete("/suppressions/back@example.com")
    assert "suppressed" not in tenant.send(to=["back@example.com"])


# Keys


def test_a_sending_key_sends_and_looks_and_nothing_else(served):
    tenant = served.tenant("sending_access")
    sent = tenant.send()
    assert tenant.get(f"/emails/{sent['id']}")["id"] == sent["id"]
    for path in ("/suppressions", "/domains", "/api-keys", "/webhooks", "/templates", "/usage", "/project", "/events"):
        answer = tenant.http.get(path)
        assert (answer.status_code, answer.json()) == (403, {"error": "API key does not have permission", "code": "forbidden"})


def test_a_test_key_simulates(served):
    tenant = served.tenant(mode="test")
    before = len(served.sink.messages)
    sent = tenant.send()
    assert sent["test_mode"] is True
    found = tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    assert [each["type"] for each in found["events"]] == ["queued", "sent", "delivered"]
    assert found["test_mode"] is True
    assert not any(f"<{sent['id']}@".encode() in each.content for each in served.sink.messages[before:])


def test_a_key_of_one_domain_sends_from_that_one(served):
    tenant = served.tenant(domain="yourdomain.com")
    tenant.send()
    answer = tenant.http.post("/emails", json=email(**{"from": "me@elsewhere.example"}))
    assert (answer.status_code, answer.json()["code"]) == (422, "domain_not_verified")


def test_a_revoked_key_is_dead_at_once(served, tenant):
    made = tenant.post("/api-keys", {"name": "app", "permission": "sending_access"}, 201)
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert tenant.http.post("/emails", json=email(), headers=headers).status_code == 202
    tenant.delete(f"/api-keys/{made['id']}")
    assert tenant.http.post("/emails", json=email(), headers=headers).status_code == 401


# Projects


def test_a_project_sees_nothing_of_another(served, tenant):
    sent, other = tenant.send(), served.tenant()
    for path in ("", "/events", "/insights"):
        assert other.http.get(f"/emails/{sent['id']}{path}").status_code == 404
    assert other.http.post(f"/emails/{sent['id']}/cancel").status_code == 404
    assert other.http.patch(f"/emails/{sent['id']}", json={"scheduled_at": "2027-08-01T00:00:00Z"}).status_code == 404
    assert other.get("/emails")["emails"] == []
    assert other.get("/events")["events"] == []
    assert other.get("/usage")["sent"] == 0


def test_ids_that_cannot_exist_are_not_found(tenant):
    for text in ("em_", "em_zzz", ids.public("em", 1), "tpl_0000000000000", "%00", "em_" + "z" * 13):
        answer = tenant.http.get(f"/emails/{text}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
