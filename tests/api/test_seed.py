"""Every example of the Emails page runs against a running relay, by plain HTTP and through the platform's own SDK with another base_url."""

import base64
import re

import pytest
from poststack import PostStack, PostStackError

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

EXAMPLE = {
    "from": "PostStack <you@yourdomain.com>", "to": ["user@example.com"], "cc": ["teammate@example.com"], "bcc": ["archive@yourdomain.com"],
    "subject": "Welcome to PostStack", "html": "<h1>Hello!</h1><p>Welcome aboard.</p>", "text": "Hello! Welcome aboard.",
    "reply_to": "support@yourdomain.com", "headers": {"X-Custom-Header": "value"}, "tags": ["welcome", "onboarding"],
    "attachments": [{"filename": "invoice.pdf", "content": base64.b64encode(b"%PDF-1.7").decode(), "content_type": "application/pdf"}],
    "idempotency_key": "order_123_welcome", "scheduled_at": "2027-03-25T09:00:00.000Z", "unsubscribe": False,
}
BATCH = {"emails": [
    {"from": "PostStack <you@yourdomain.com>", "to": ["alice@example.com"], "subject": "Hello Alice", "html": "<p>Welcome, Alice!</p>"},
    {"from": "PostStack <you@yourdomain.com>", "to": ["bob@example.com"], "subject": "Hello Bob", "html": "<p>Welcome, Bob!</p>"},
]}
SEVERITIES = {"low", "medium", "high"}


class Plain:
    """The routes of the page, called as the page shows them."""

    def __init__(self, tenant):
        self._tenant = tenant

    def send(self, given):
        return self._tenant.post("/emails", given, 202)

    def batch(self, given):
        return self._tenant.post("/emails/batch", given, 202)

    def list(self, params=None):
        return self._tenant.get("/emails", **(params or {}))

    def get(self, number):
        return self._tenant.get(f"/emails/{number}")

    def get_events(self, number):
        return self._tenant.get(f"/emails/{number}/events")

    def get_insights(self, number):
        return self._tenant.get(f"/emails/{number}/insights")

    def reschedule(self, number, at):
        return self._tenant.patch(f"/emails/{number}", {"scheduled_at": at})

    def cancel(self, number):
        return self._tenant.post(f"/emails/{number}/cancel")


@pytest.fixture(params=["http", "sdk"])
def emails(request, served, tenant):
    if request.param == "http":
        yield Plain(tenant)
        return
    with PostStack(tenant.key, base_url=served.base) as client:
        yield client.emails


@pytest.fixture
def sent(emails, tenant):
    """An email that was delivered."""
    answer = emails.send({**EXAMPLE, "scheduled_at": None})
    tenant.until(f"/emails/{answer['id']}", lambda got: got["status"] == "delivered")
    return answer["id"]


def test_send(emails):
    answer = emails.send(EXAMPLE)
    assert re.fullmatch(r"em_[a-z0-9]+", answer["id"])
    assert isinstance(answer["spam_warnings"], list)
    assert "spam_score" in answer
    again = emails.send(EXAMPLE)
    assert (again["id"], again["replayed"]) == (answer["id"], True)


def test_batch(emails):
    answer = emails.batch(BATCH)
    assert len({each["id"] for each in answer["data"]}) == 2


def test_list(emails, sent):
    found = emails.list()
    (row,) = found["emails"]
    assert (row["id"], row["from"], row["to"], row["subject"], row["status"]) == (
        sent, "you@yourdomain.com", ["user@example.com"], "Welcome to PostStack", "delivered")
    assert re.fullmatch(STAMP, row["created_at"])
    assert {name: type(value) for name, value in found["pagination"].items()} == {"total": int, "page": int, "per_page": int, "total_pages": int}
    for query in ({"tag": "onboarding"}, {"status": "delivered"}, {"to": "user@example.com"}, {"page": 1, "per_page": 100},
                  {"date_from": "2020-01-01T00:00:00Z"}):
        assert [each["id"] for each in emails.list(query)["emails"]] == [sent]
    assert emails.list({"tag": "no-such"})["emails"] == []


def test_get(emails, sent):
    found = emails.get(sent)
    assert (found["from"], found["to"], found["status"]) == ("PostStack <you@yourdomain.com>", ["user@example.com"], "delivered")
    assert (found["html"], found["text"], found["tags"]) == (EXAMPLE["html"], EXAMPLE["text"], EXAMPLE["tags"])
    assert all(re.fullmatch(STAMP, found[name]) for name in ("created_at", "sent_at", "delivered_at"))
    assert {"type", "timestamp"} <= set(found["events"][0])


def test_events(emails, sent):
    events = emails.get_events(sent)["events"]
    assert [each["type"] for each in events if each["to"] == "user@example.com"] == ["queued", "sent", "delivered"]
    assert all(re.fullmatch(STAMP, each["timestamp"]) for each in events)


def test_insights(emails, sent):
    warnings = emails.get_insights(sent)["warnings"]
    assert any(each["type"] == "missing_dkim" and each["severity"] == "high" for each in warnings)
    assert all({"type", "message", "severity"} <= set(each) and each["severity"] in SEVERITIES for each in warnings)


def test_reschedule_and_cancel(emails):
    number = emails.send({"from": "you@yourdomain.com", "to": ["user@example.com"], "subject": "Reminder", "html": "<p>Your trial ends tomorrow.</p>",
                          "scheduled_at": "2027-03-25T09:00:00.000Z"})["id"]
    assert emails.get(number)["status"] == "scheduled"
    emails.reschedule(number, "2027-03-26T14:00:00.000Z")
    assert emails.get(number)["scheduled_at"] == "2027-03-26T14:00:00.000Z"
    assert emails.cancel(number) == {"id": number, "status": "cancelled"}
    assert emails.get(number)["status"] == "cancelled"


def test_a_name_and_no_name(emails):
    named = emails.send({"from": "PostStack <you@yourdomain.com>", "to": ["user@example.com"], "subject": "Hello!", "html": "<p>Welcome!</p>"})
    bare = emails.send({"from": "you@yourdomain.com", "to": ["user@example.com"], "subject": "Hello!", "html": "<p>Welcome!</p>"})
    assert [emails.get(each["id"])["from"] for each in (named, bare)] == ["PostStack <you@yourdomain.com>", "you@yourdomain.com"]


def test_a_template_with_variables(emails, tenant):
    made = tenant.post("/templates", {"name": "W", "subject": "Welcome {{ name }}", "html": '<p><a href="{{ action_url }}">{{ name }}</a></p>'}, 201)
    tenant.post(f"/templates/{made['id']}/publish")
    answer = emails.send({"from": "PostStack <you@yourdomain.com>", "to": ["user@example.com"], "template_id": made["id"],
                          "variables": {"name": "Alice", "action_url": "https://example.com/activate"}})
    found = emails.get(answer["id"])
    assert (found["subject"], found["html"]) == ("Welcome Alice", '<p><a href="https://example.com/activate">Alice</a></p>')


def test_a_tracking_override(emails):
    answer = emails.send({"from": "security@yourdomain.com", "to": ["user@example.com"], "subject": "Reset your password",
                          "html": '<p><a href="https://app.example.com/reset?t=...">Reset link</a></p>', "tracking": {"opens": False, "clicks": False}})
    assert answer["id"]


def test_a_window_of_its_own(emails):
    given = {"from": "you@yourdomain.com", "to": ["user@example.com"], "subject": "Order #123 Confirmation", "html": "<p>Your order has been confirmed.</p>",
             "idempotency_key": "order_123_confirmation", "idempotency_window_hours": 48}
    assert emails.send(given)["id"] == emails.send(given)["id"]


# The SDK's other resources that this relay has


@pytest.fixture
def sdk(served, tenant):
    with PostStack(tenant.key, base_url=served.base, max_retries=0) as client:
        yield client


def test_the_sdk_s_other_calls(sdk):
    assert sdk.suppressions.list()["suppressions"] == []
    domain = sdk.domains.create({"name": "sdk.example"})
    assert sdk.domains.get(domain["id"])["name"] == "sdk.example"
    assert sdk.domains.update(domain["id"], {"openTracking": True})["open_tracking"] is True
    key = sdk.api_keys.create({"name": "app", "permission": "sending_access"})
    assert sdk.api_keys.rotate(key["id"])["key"] != key["key"]
    template = sdk.templates.create({"name": "T", "subject": "S", "html": "<p>{{ a }}</p>"})
    assert sdk.templates.render(template["id"], {"a": "b"})["html"] == "<p>b</p>"
    hook = sdk.webhooks.create({"url": "https://example.com/hook", "events": ["email.delivered"]})
    assert hook["signing_secret"].startswith("whsec_")


def test_the_sdk_raises_what_was_wrong(sdk):
    with pytest.raises(PostStackError) as refused:
        sdk.emails.send({"from": "x", "to": ["user@example.com"], "subject": "S", "text": "T"})
    assert (refused.value.status_code, refused.value.code) == (422, "validation_error")
    assert refused.value.request_id
    with pytest.raises(PostStackError) as missing:
        sdk.emails.get("em_0000000000000")
    assert missing.value.status_code == 404
