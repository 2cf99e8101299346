"""Entries and exits at a webhook: the name from the segment's, once each, for both kinds of segment."""

from __future__ import annotations

import pytest

from tests.webhooks.test_delivery import hook

PRO = [{"field": "plan", "operator": "equals", "value": "pro"}]


@pytest.mark.parametrize("rules", [PRO, None], ids=["dynamic", "static"])
def test_a_webhook_hears_who_enters_and_leaves(served, tenant, receiver, rules):
    segment = tenant.post("/segments", {"name": "Trial Users", "rules": rules, "track_membership": True}, 201)["id"]
    hook(tenant, receiver, ["segment.trial-users.entry", "segment.trial-users.exit"])
    hook(served.tenant(), receiver, path="/other")
    made = tenant.post("/contacts", {"email": "ann@example.com", "properties": {"plan": "pro"}}, 201)["id"]
    if rules is None:
        tenant.post(f"/segments/{segment}/members", {"emails": ["ann@example.com"]})
    receiver.wait(1)
    if rules is None:
        tenant.delete(f"/segments/{segment}/contacts/{made}")
    else:
        tenant.patch(f"/contacts/{made}", {"properties": {"plan": "free"}})
    receiver.wait(2)
    assert [(each.path, each.event["type"]) for each in receiver.got] == [("/", "segment.trial-users.entry"), ("/", "segment.trial-users.exit")]
    wanted = {"contact_id": made, "segment_id": segment, "segment_name": "Trial Users", "email": "ann@example.com"}
    assert [each.event["data"] for each in receiver.got] == [wanted, wanted]


def test_what_a_webhook_was_told_of_somebody_is_erased_with_them(tenant, receiver):
    made = hook(tenant, receiver, ["contact.created", "contact.deleted"])["id"]
    ann = tenant.post("/contacts", {"email": "ann@example.com"}, 201)["id"]
    tenant.post("/contacts", {"email": "bob@example.com"}, 201)
    tenant.until(f"/webhooks/{made}/deliveries", lambda got: len(got["deliveries"]) == 2)
    tenant.delete(f"/contacts/{ann}")
    found = tenant.until(f"/webhooks/{made}/deliveries", lambda got: got["deliveries"][0]["event_type"] == "contact.deleted")
    assert "ann@example.com" not in str(found)
    assert [each["event_type"] for each in found["deliveries"]] == ["contact.deleted", "contact.created"]
