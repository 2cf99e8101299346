"""Events on their way to a real endpoint: signed, in order, retried, given up, and never at mail's expense."""

import dataclasses
import json
import threading
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook as Standard

from relay.mail import ids
from relay.metrics import REGISTRY
from relay.store import webhooks as stored
from relay.store.pages import Page
from relay.webhooks import DOWN, FAILURES, LASTS, STEPS, Answer, after, health, new_secret, sign
from tests.support.served import Served, email
from tests.support.until import PATIENCE


def hook(tenant, receiver, events=("*",), path="/"):
    return tenant.post("/webhooks", {"url": receiver.url + path, "events": list(events)}, 201)


def test_every_step_of_an_email_arrives_signed(tenant, receiver):
    made = hook(tenant, receiver)
    sent = tenant.send()
    receiver.wait(3)
    assert [each.event["type"] for each in receiver.got] == ["email.queued", "email.sent", "email.delivered"]
    for each in receiver.got:
        assert set(each.event) == {"id", "type", "timestamp", "data"}
        assert (each.event["data"]["email_id"], each.event["data"]["to"]) == (sent["id"], "user@example.com")
        assert Standard(made["signing_secret"]).verify(each.body, each.headers) == each.event
        assert each.headers["x-poststack-signature"] == sign([made["signing_secret"]], "x", 0, each.body)["X-PostStack-Signature"]
        assert each.headers["webhook-id"] == each.event["id"]


def test_an_endpoint_gets_what_it_asked_for(served, tenant, receiver):
    hook(tenant, receiver, ["email.delivered"])
    hook(served.tenant(), receiver, path="/other")
    tenant.send()
    receiver.wait(1)
    second = tenant.send()
    receiver.wait(2)
    assert [(each.path, each.event["type"]) for each in receiver.got] == [("/", "email.delivered")] * 2
    assert receiver.got[1].event["data"]["email_id"] == second["id"]


def test_after_a_rotation_both_secrets_sign_for_a_while(tenant, receiver):
    made = hook(tenant, receiver, ["email.queued"])
    rotated = tenant.post(f"/webhooks/{made['id']}/rotate-secret", {"graceHours": 1})
    tenant.send()
    (got,) = receiver.wait(1)
    for secret in (made["signing_secret"], rotated["signing_secret"]):
        assert Standard(secret).verify(got.body, got.headers)
    assert len(got.headers["x-poststack-signature"].split(",")) == 2
    at_once = tenant.post(f"/webhooks/{made['id']}/rotate-secret", {"grace_hours": 0})
    tenant.send()
    got = receiver.wait(2)[1]
    assert Standard(at_once["signing_secret"]).verify(got.body, got.headers)
    assert len(got.headers["x-poststack-signature"].split(",")) == 1


def test_how_late_an_event_was_given_is_observed_once_it_is_taken(served, tenant, receiver):
    async def seen() -> list[float]:
        """On the relay's own loop, where nothing happens between two of them."""
        requests = [REGISTRY.get_sample_value("relay_webhook_deliveries_total", {"result": each}) or 0.0 for each in ("delivered", "refused")]
        return [*requests, *(REGISTRY.get_sample_value(f"relay_event_delivery_lag_seconds_{part}") for part in ("count", "sum"))]

    began, before = time.time(), served.call(seen())
    made, _ = failing(tenant, receiver)
    receiver.answer = lambda _: 200
    tenant.send()
    tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: any(each["success"] for each in got["deliveries"]))
    delivered, refused, late, seconds = (after - value for after, value in zip(served.call(seen()), before, strict=True))
    assert refused >= 1
    assert late == delivered >= 1
    assert 0 < seconds < late * (time.time() - began + 0.01)


def failing(tenant, receiver, wanted=("email.queued",)):
    """An endpoint with one delivery that failed and waits."""
    receiver.answer = lambda _: 500
    made = hook(tenant, receiver, wanted)
    sent = tenant.send()
    receiver.wait(1)
    tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: got["deliveries"] and got["deliveries"][-1]["attempts"] == 1)
    return made, sent


def test_a_failure_waits_and_is_replayed(tenant, receiver):
    made, _ = failing(tenant, receiver)
    (row,) = tenant.get(f"/webhooks/{made['id']}/deliveries")["deliveries"]
    assert (row["status_code"], row["response_body"], row["success"], row["event_type"]) == (500, "ok", False, "email.queued")
    assert row["next_retry_at"] > row["created_at"]
    receiver.answer = lambda _: 204
    assert tenant.post(f"/webhooks/{made['id']}/deliveries/{row['id']}/replay") == {"success": True}
    receiver.wait(2)
    done = tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: got["deliveries"][0]["success"])
    assert (done["deliveries"][0]["status_code"], done["deliveries"][0]["next_retry_at"]) == (204, None)
    assert tenant.get(f"/webhooks/{made['id']}")["consecutive_failures"] == 0


def test_a_failed_event_holds_back_its_own_email_only(tenant, receiver):
    open_again = threading.Event()

    def answer(received):  # the first of all is of the first email
        first = (receiver.got or [received])[0].event["data"]["email_id"]
        return 500 if received.event["data"]["email_id"] == first and not open_again.is_set() else 200

    def steps(email):
        return [each.event["type"] for each in receiver.got if each.event["data"]["email_id"] == email]

    receiver.answer = answer
    made = hook(tenant, receiver, ["email.queued", "email.sent", "email.delivered"])
    scheduled = tenant.send(scheduled_at="2027-08-01T00:00:00Z")["id"]  # its one event so far is email.scheduled, which nobody asked for
    tenant.post(f"/emails/{scheduled}/cancel")
    first = tenant.send()["id"]
    receiver.wait(1)
    second = tenant.send()["id"]
    tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: sum(each["success"] for each in got["deliveries"]) == 3)
    assert steps(second) == ["email.queued", "email.sent", "email.delivered"]
    assert set(steps(first)) == {"email.queued"}  # again and again on a machine that takes ten seconds for all this
    open_again.set()
    rows = tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: len(got["deliveries"]) == 6)["deliveries"]
    (stuck,) = [each for each in rows if each["event_type"] == "email.queued" and each["payload"]["data"]["email_id"] == first]
    tenant.post(f"/webhooks/{made['id']}/deliveries/{stuck['id']}/replay")
    tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: all(each["success"] for each in got["deliveries"]))
    assert list(dict.fromkeys(steps(first))) == ["email.queued", "email.sent", "email.delivered"]
    assert steps(first).count("email.queued") > 1


def test_a_dead_endpoint_keeps_few_rows_and_goes_on_when_it_is_back(tenant, receiver):
    receiver.answer = lambda _: 503
    made = hook(tenant, receiver, ["email.queued"])
    sent = [each["id"] for each in tenant.post("/emails/batch", {"emails": [email() for _ in range(DOWN)]}, 202)["data"]]
    tenant.until(f"/webhooks/{made['id']}", lambda got: got["consecutive_failures"] >= DOWN)
    sent += [each["id"] for each in tenant.post("/emails/batch", {"emails": [email() for _ in range(50)]}, 202)["data"]]
    rows = tenant.get(f"/webhooks/{made['id']}/deliveries")
    assert rows["pagination"]["total"] == DOWN
    receiver.answer = lambda _: 200
    for row in rows["deliveries"]:
        tenant.post(f"/webhooks/{made['id']}/deliveries/{row['id']}/replay")
    receiver.wait(2 * DOWN + 50)
    tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: got["pagination"]["total"] == len(sent))
    assert {each.event["data"]["email_id"] for each in receiver.got} == set(sent)


def test_a_redirect_is_not_followed(tenant, receiver):
    receiver.headers["location"] = f"{receiver.url}/elsewhere"
    receiver.answer = lambda _: 302
    made = hook(tenant, receiver)
    answer = tenant.post(f"/webhooks/{made['id']}/test")
    assert (answer["success"], answer["status_code"]) == (False, 302)
    assert [each.path for each in receiver.got] == ["/"]


LOCAL = ("http://localhost:1/", "http://x.LOCALHOST./", "http://[::1]:1/", "http://169.254.169.254/latest/meta-data", "http://127.1/", "http://0x7f000001/",
         "http://2130706433/", "http://10.0.0.7/", "http://[::ffff:10.0.0.7]/")


def test_a_private_address_is_refused_unless_allowed(tmp_path, receiver):
    """As it stands at once; what a name hides when it is called, of an endpoint from a time when it was allowed too."""
    with Served(tmp_path, "", RELAY_WEBHOOKS__ALLOW_PRIVATE="false") as relay:
        tenant = relay.tenant()
        for url in (receiver.url, *LOCAL):
            answer = tenant.post("/webhooks", {"url": url, "events": ["*"]}, 422)
            assert (answer["field"], "allow_private" in answer["error"]) == ("url", True), url
        made = tenant.post("/webhooks", {"url": "https://hooks.example.com/", "events": ["*"]}, 201)
        assert tenant.patch(f"/webhooks/{made['id']}", {"url": receiver.url}, 422)["field"] == "url"
        relay.call(relay.relay.store.write(stored.change, tenant.number, ids.internal(made["id"], "wh"), {"url": receiver.url}))
        answer = tenant.post(f"/webhooks/{made['id']}/test")
        assert (answer["status_code"], "is not a public address" in answer["response_body"]) == (None, True)
    assert receiver.got == []


def test_a_test_event_says_what_the_endpoint_answered(tenant, receiver):
    made = hook(tenant, receiver, ["email.bounced"])
    answer = tenant.post(f"/webhooks/{made['id']}/test")
    assert (answer["success"], answer["status_code"], receiver.got[0].event["type"]) == (True, 200, "webhook.test")
    tenant.patch(f"/webhooks/{made['id']}", {"url": "http://127.0.0.1:1/"})
    assert tenant.post(f"/webhooks/{made['id']}/test")["status_code"] is None


def test_a_slow_endpoint_never_slows_mail(tenant, receiver):
    go = threading.Event()
    receiver.answer = lambda _: 200 if go.wait(PATIENCE) else 500
    hook(tenant, receiver)
    sent = tenant.post("/emails/batch", {"emails": [email() for _ in range(20)]}, 202)["data"]
    for each in sent:
        tenant.until(f"/emails/{each['id']}", lambda got: got["status"] == "delivered")
    assert receiver.got == []
    go.set()
    receiver.wait(60)


def test_batch_replay_takes_what_was_given_up(served, tenant, receiver):
    made, _ = failing(tenant, receiver)
    number = ids.internal(made["id"], "wh")
    page = served.call(served.relay.store.read(stored.page, number, Page()))
    given_up = dataclasses.replace(page.rows[0], next_at=None)
    hooked = served.call(served.relay.store.read(stored.get, tenant.number, number))
    served.call(served.relay.store.write(stored.record, hooked, [given_up], {}))
    receiver.answer = lambda _: 200
    assert tenant.post(f"/webhooks/{made['id']}/deliveries/batch-replay", {"eventType": "email.sent"}) == {"replayed": 0, "remaining": 0}
    assert tenant.post(f"/webhooks/{made['id']}/deliveries/batch-replay", {"withinMinutes": 60}) == {"replayed": 1, "remaining": 0}
    receiver.wait(2)
    tenant.until(f"/webhooks/{made['id']}/deliveries", lambda got: got["deliveries"][0]["success"])


def test_switched_off_and_on(tenant, receiver):
    made = hook(tenant, receiver, ["email.queued"])
    assert tenant.patch(f"/webhooks/{made['id']}", {"enabled": False})["active"] is False
    tenant.send()
    assert tenant.patch(f"/webhooks/{made['id']}", {"enabled": True})["active"] is True
    second = tenant.send()
    receiver.wait(1)
    assert [each.event["data"]["email_id"] for each in receiver.got] == [second["id"]]
    assert tenant.delete(f"/webhooks/{made['id']}") == {"deleted": True}


@pytest.mark.parametrize("given", [
    {"url": "ftp://a.example", "events": ["*"]}, {"url": "http://", "events": ["*"]}, {"url": "https://u:p@a.example/", "events": ["*"]},
    {"url": "https://a.example", "events": []}, {"url": "https://a.example", "events": ["email.opend"]}, {"url": "https://a.example", "events": ["a b"]},
    {"url": "https://a.example:99999", "events": ["*"]}, {"events": ["*"]},
])
def test_what_is_no_endpoint_is_refused(tenant, given):
    assert tenant.http.post("/webhooks", json=given).status_code == 422


# What an answer means, as tables


def delivery(attempts, age=0.0):
    return stored.Delivery(1, 1, 1, 1, "email.sent", "{}", None, "", attempts, 0.0, None, 1_000_000.0 - age)


@pytest.mark.parametrize(("attempts", "status", "wait"), [
    pytest.param(0, 204, None, id="done"),
    pytest.param(0, 500, STEPS[0], id="first failure"),
    pytest.param(1, 302, STEPS[1], id="a redirect is a failure"),
    pytest.param(3, None, STEPS[3], id="no answer is a failure"),
    pytest.param(len(STEPS), 500, None, id="given up after the last step"),
])
def test_retries(attempts, status, wait):
    told = after(delivery(attempts), Answer(status, "x"), 1_000_000.0)
    assert told.next_at == (None if wait is None else 1_000_000.0 + wait)
    assert (told.delivered_at is not None) == (status == 204)


def test_nothing_is_tried_after_a_day():
    assert sum(STEPS) < LASTS
    assert after(delivery(5, LASTS), Answer(500, ""), 1_000_000.0).next_at is None


@pytest.mark.parametrize(("failures", "since", "answers", "off"), [
    pytest.param(FAILURES - 1, LASTS, [500], True, id="a day and twenty failures"),
    pytest.param(FAILURES - 2, LASTS, [500], False, id="a day and nineteen"),
    pytest.param(FAILURES - 1, LASTS - 1, [500], False, id="twenty in less than a day"),
    pytest.param(FAILURES - 1, LASTS, [200, 500], False, id="a success in between"),
])
def test_an_endpoint_is_switched_off(failures, since, answers, off):
    now = 1_000_000.0
    webhook = stored.Webhook(1, 1, "", ["*"], "", True, "", "", None, None, "0.0", failures, now - since, None, None, None, None, 0.0)
    changes = health(webhook, [Answer(status, "why") for status in answers], now)
    assert changes.get("enabled", True) is not off
    assert ("why" in changes.get("disabled_reason", "")) is off


def test_a_secret_is_whsec_and_32_bytes():
    secret = new_secret()
    assert secret.startswith("whsec_")
    signed = sign([secret], "msg", 5, json.dumps({"a": 1}).encode())
    assert Standard(secret).sign("msg", datetime.fromtimestamp(5, UTC), '{"a": 1}') == signed["webhook-signature"]
