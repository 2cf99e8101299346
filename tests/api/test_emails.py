"""The ledger over HTTP: lists with every filter, one email, its insights, rescheduling and cancelling."""

import concurrent.futures
import smtplib
from email.utils import parsedate_to_datetime

import pytest

from relay.clock import iso
from relay.queue.loader import CATCH_UP
from tests.support.served import arrived, email

LATER, EVEN_LATER = "2027-03-25T09:00:00.000Z", "2027-03-26T14:00:00.000Z"


def listed(tenant, **query):
    return [each["id"] for each in tenant.get("/emails", **query)["emails"]]


def test_a_list_has_the_page_s_shape(tenant):
    tenant.send()
    found = tenant.get("/emails")
    assert set(found) == {"emails", "pagination"}
    assert set(found["emails"][0]) == {"id", "from", "to", "subject", "status", "created_at"}
    assert (found["emails"][0]["from"], found["emails"][0]["to"]) == ("you@yourdomain.com", ["user@example.com"])
    assert found["pagination"] == {"total": 1, "page": 1, "per_page": 20, "total_pages": 1}


def test_pages_and_cursors_see_every_email_once(tenant):
    sent = [each["id"] for each in tenant.post("/emails/batch", {"emails": [email() for _ in range(7)]}, 202)["data"]]
    by_number = [one for number in (1, 2, 3) for one in listed(tenant, page=number, per_page=3)]
    cursor, by_cursor = None, []
    while True:
        found = tenant.get("/emails", per_page=3, **({"cursor": cursor} if cursor else {}))
        by_cursor += [each["id"] for each in found["emails"]]
        cursor = found["pagination"].get("next_cursor")
        if cursor is None:
            break
    assert by_number == by_cursor
    assert sorted(by_number, reverse=True) == by_number
    assert set(by_number) == set(sent)
    assert found["pagination"]["total_pages"] == 3


@pytest.mark.parametrize("query", [{"page": 0}, {"per_page": 0}, {"per_page": 101}, {"page": "x"}, {"cursor": "x"}, {"status": "lost"}, {"date_from": "x"},
                                   {"to": "x"}])
def test_a_bad_filter_is_named(tenant, query):
    answer = tenant.http.get("/emails", params=query)
    assert (answer.status_code, answer.json()["field"]) == (422, next(iter(query)))


def test_every_filter(served, tenant):
    domain = tenant.post("/domains", {"name": "filtered.example"}, 201)
    first = tenant.send(to=["Ann@Example.com"], tags=["order-confirmation", "store-us"])["id"]
    second = tenant.send(**{"from": "a@news.filtered.example"}, tags=["order"], scheduled_at=LATER)["id"]
    assert listed(tenant, to="ann@EXAMPLE.com") == [first]
    assert listed(tenant, tag="order-confirmation") == [first]
    assert listed(tenant, tag="order") == [second]
    assert listed(tenant, domain_id=domain["id"]) == [second]
    assert listed(tenant, status="scheduled") == [second]
    tenant.until("/emails?status=delivered", lambda got: [each["id"] for each in got["emails"]] == [first])
    now = served.relay.clock.now()
    assert listed(tenant, date_from=iso(now - 60), date_to=iso(now + 60)) == [second, first]
    assert listed(tenant, date_from=iso(now + 60)) == []
    assert listed(tenant, date_to="2020-01-01") == []
    assert listed(tenant, date_from="2020-01-01") == [second, first]
    assert tenant.http.get("/emails", params={"domain_id": "dom_0000000000001"}).status_code == 404


def test_a_status_sums_up_several_recipients(served, tenant):
    served.sink.script.rcpt["bounce@example.com"] = "550 5.1.1 no such user"
    sent = tenant.send(to=["user@example.com", "bounce@example.com"])
    found = tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "bounced")
    assert {each["email"]: each["status"] for each in found["recipients"]} == {"user@example.com": "delivered", "bounce@example.com": "bounced"}
    assert listed(tenant, status="bounced") == [sent["id"]]
    assert listed(tenant, status="delivered") == []
    bounced = next(each for each in found["events"] if each["type"] == "bounced")
    assert (bounced["to"], bounced["code"], bounced["enhanced"]) == ("bounce@example.com", 550, "5.1.1")


def test_sending_is_what_is_on_the_wire(served, tenant):
    served.sink.script.delays["dot"] = 3_600.0  # until the line is cut below
    try:
        sent = tenant.send()
        tenant.until("/emails?status=sending", lambda got: [(each["id"], each["status"]) for each in got["emails"]] == [(sent["id"], "sending")])
        assert tenant.get(f"/emails/{sent['id']}")["status"] == "sending"
        assert tenant.http.post(f"/emails/{sent['id']}/cancel").status_code == 422
        assert served.tenant().get("/emails", status="sending")["emails"] == []
    finally:
        del served.sink.script.delays["dot"]
        served.sink.call(served.sink.hang_up())


# Scheduling


def test_scheduled_rescheduled_cancelled(tenant):
    sent = tenant.send(scheduled_at=LATER)
    found = tenant.get(f"/emails/{sent['id']}")
    assert (found["status"], found["scheduled_at"], found["sent_at"]) == ("scheduled", LATER, None)
    assert tenant.patch(f"/emails/{sent['id']}", {"scheduled_at": EVEN_LATER})["status"] == "scheduled"
    assert tenant.get(f"/emails/{sent['id']}")["scheduled_at"] == EVEN_LATER
    assert tenant.post(f"/emails/{sent['id']}/cancel") == {"id": sent["id"], "status": "cancelled"}
    assert tenant.get(f"/emails/{sent['id']}")["status"] == "cancelled"
    assert tenant.http.post(f"/emails/{sent['id']}/cancel").status_code == 422
    assert tenant.http.patch(f"/emails/{sent['id']}", json={"scheduled_at": LATER}).status_code == 422


def test_it_fires_at_its_time(served, tenant):
    at = served.relay.clock.now() + 1.0
    sent = tenant.send(scheduledAt=iso(at))
    status = tenant.get(f"/emails/{sent['id']}")["status"]
    assert status == "scheduled" or served.relay.clock.now() > at
    found = tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    assert iso(at - 0.01) <= found["sent_at"] <= iso(at + CATCH_UP / 2)  # by a timer of its own, not at the next look; a quiet machine takes milliseconds
    assert [each["type"] for each in found["events"]] == ["scheduled", "sent", "delivered"]


def test_a_reschedule_without_a_time_names_the_field_as_the_document_does(tenant):
    sent = tenant.send(scheduled_at=LATER)
    assert tenant.patch(f"/emails/{sent['id']}", {}, 422)["field"] == "scheduled_at"


def test_a_rescheduled_email_fires_at_its_new_time(served, tenant):
    sent = tenant.send(scheduled_at=LATER)
    tenant.patch(f"/emails/{sent['id']}", {"scheduledAt": iso(served.relay.clock.now() + 0.2)})
    message, _ = arrived(served, tenant, sent)
    age = served.relay.clock.now() - parsedate_to_datetime(message["Date"]).timestamp()
    assert 0 <= age < 600  # dated when it leaves, not when it should have left at first


def test_a_new_time_that_has_passed_means_now(served, tenant):
    sent = tenant.send(scheduled_at=LATER)
    assert tenant.patch(f"/emails/{sent['id']}", {"scheduled_at": "2020-01-01T00:00:00Z"})["scheduled_at"] > "2026"
    message, _ = arrived(served, tenant, sent)
    assert served.relay.clock.now() - parsedate_to_datetime(message["Date"]).timestamp() < 600


def test_a_time_that_has_passed_means_now(tenant):
    sent = tenant.send(scheduled_at="2020-01-01T00:00:00Z")
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")


def test_what_was_sent_cannot_be_changed(tenant):
    sent = tenant.send()
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    for answer in (tenant.http.post(f"/emails/{sent['id']}/cancel"), tenant.http.patch(f"/emails/{sent['id']}", json={"scheduled_at": LATER})):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_status")


def test_of_cancel_and_send_exactly_one_wins(served, tenant):
    """Cancels race with deliveries that have just become due; the ledger and the sink must agree on every one."""
    due = iso(served.relay.clock.now() + 0.4)
    sent = [each["id"] for each in tenant.post("/emails/batch", {"emails": [email(scheduled_at=due) for _ in range(24)]}, 202)["data"]]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        statuses = dict(zip(sent, threads.map(lambda one: tenant.http.post(f"/emails/{one}/cancel").status_code, sent), strict=True))
    for one, status in statuses.items():
        found = tenant.until(f"/emails/{one}", lambda got: got["status"] in ("delivered", "cancelled"))
        went = any(f"<{one}@relay.test>".encode() in each.content for each in served.sink.messages)
        assert (found["status"], went) == (("cancelled", False) if status == 200 else ("delivered", True))


# Insights


def test_insights_name_type_message_and_severity(tenant):
    sent = tenant.send(html="<p>" + "x" * 100_001 + '</p><img src="https://a.example/i.png"><a href="http://a.example">a</a><a href="/x">b</a>'
                       '<a href="https://a.example/{{ name }}">c</a>', text=None)
    warnings = {each["type"]: each for each in tenant.get(f"/emails/{sent['id']}/insights")["warnings"]}
    assert {"missing_dkim", "large_html", "missing_text_body", "missing_alt", "link_not_https", "link_without_host", "link_placeholder"} <= set(warnings)
    assert warnings["large_html"]["message"] == "HTML content exceeds 100KB which may cause clipping"
    assert (warnings["missing_dkim"]["severity"], warnings["large_html"]["severity"]) == ("high", "low")
    assert all(each["rule"] and each["fix"] and each["code"] == each["type"] for each in warnings.values())


def test_a_preview_renders_and_stores_nothing(tenant):
    answer = tenant.post("/emails/preview", {"from": "a@b.example", "to": ["user@example.com"], "subject": "Hi", "html": "<p>é</p>", "text": "Hi"})
    assert (answer["rendered_subject"], answer["rendered_html"], answer["size"]) == ("Hi", "<p>é</p>", {"html_bytes": 9, "text_bytes": 2})
    assert answer["spam"]["skipped"] is True
    assert tenant.get("/emails")["emails"] == []
    assert tenant.http.post("/emails/preview", json=email(to=["a@b.example"] * 6)).status_code == 422
    assert tenant.post("/emails/spam-preview", email())["skipped"] is True


def test_a_tower_of_parts_is_shown_without_its_text(served, tenant):
    """A client of ours may send it; who reads it recursively ends with its process."""
    tower = "".join(f'Content-Type: multipart/mixed; boundary="b{number}"\r\n\r\n--b{number}\r\n' for number in range(70_000))
    with smtplib.SMTP("127.0.0.1", served.smtp_port, timeout=60) as line:
        line.login("app", tenant.key)
        line.sendmail("you@yourdomain.com", ["user@example.com"], f"From: you@yourdomain.com\r\nMIME-Version: 1.0\r\n{tower}\r\nx\r\n".encode())
    (found,) = tenant.get("/emails")["emails"]
    whole = tenant.get(f"/emails/{found['id']}")
    assert (whole["html"], whole["text"]) == (None, None)
