"""An import or an act on a segment that takes longer than a request waits answers 202 with the same figures so far, and goes on."""

from __future__ import annotations

import pytest

from relay.audience import contacts as acts
from relay.audience.bulk import SLICE
from relay.audience.contacts import By
from relay.consent import Act
from relay.store.audience import contacts
from relay.store.audience.contacts import Filter
from tests.support import fixtures
from tests.support.databases import DATABASES
from tests.support.dns import DnsServer, mail

ROWS = 3_000
CROWD = SLICE + 1  # contacts of two slices
TAGGED = [{"field": "tags", "operator": "contains", "value": "fair"}]


@pytest.fixture(scope="module", params=DATABASES)
def hasty(request):
    """A relay on each database whose requests wait for nothing."""
    with DnsServer(mail("example.com")) as dns, fixtures.serving(request, RELAY_HTTP__PATIENCE="0s", RELAY_DNS__NAMESERVERS=dns.address) as relay:
        yield relay


def crowd(tenant, count):
    """So many contacts with the tag fair, and the segment of those who have it."""
    relay = tenant.served.relay
    by = By(tenant.number, Act("api", at=relay.clock.now()), relay.maker, ("a secret of thirty-two characters",))

    def make(conn):
        for number in range(count):
            acts.create(conn, {"email": f"c{number}@example.com", "tags": ["fair"]}, by)

    tenant.served.call(relay.store.write(make))
    return tenant.post("/segments", {"name": "Fair", "rules": TAGGED}, 201)["id"]


def people(tenant, **filter_):
    return tenant.served.call(tenant.served.relay.store.read(contacts.count, tenant.number, Filter(**filter_)))


def followed(tenant, told):
    return tenant.until(f"/contacts/bulk/{told['id']}", lambda got: got["status"] != "running")


@pytest.mark.parametrize("form", ["file", "json"])
def test_a_long_import_is_followed_by_its_id(hasty, form):
    tenant, other = hasty.tenant(), hasty.tenant()
    emails = [f"p{n}@example.com" for n in range(ROWS)]
    given = {"files": {"file": ("people.csv", "email\n" + "\n".join(emails))}} if form == "file" else {"json": {"contacts": [{"email": e} for e in emails]}}
    answer = tenant.http.post("/contacts/import", **given)
    told = answer.json()
    assert answer.status_code == 202
    assert {"id", "imported", "skipped", "errors"} <= told.keys()
    assert told["imported"] < ROWS
    assert tenant.http.get(f"/contacts/imports/{told['id']}").status_code == 200
    assert other.http.get(f"/contacts/imports/{told['id']}").status_code == 404
    ended = tenant.until(f"/contacts/imports/{told['id']}", lambda got: got["status"] != "running", 60)
    assert (ended["status"], ended["imported"], ended["errors"]) == ("completed", ROWS, 0)


@pytest.mark.parametrize(("act", "left"), [
    pytest.param({"action": "untag", "tags": ["fair"]}, {"all": CROWD, "unsubscribed": 0, "members": 0}, id="what makes them members is taken"),
    pytest.param({"action": "unsubscribe"}, {"all": CROWD, "unsubscribed": CROWD, "members": CROWD}, id="unsubscribe"),
    pytest.param({"action": "delete"}, {"all": 0, "unsubscribed": 0, "members": 0}, id="delete"),
])
def test_a_long_act_on_a_segment_is_followed_by_its_id_and_comes_to_everybody_once(hasty, act, left):
    tenant, other = hasty.tenant(), hasty.tenant()
    segment, theirs = crowd(tenant, CROWD), crowd(other, 3)
    told = tenant.post("/contacts/bulk", {**act, "segment_id": segment}, 202)
    assert told.keys() == {"id", "action", "status", "total", "seen", "affected", "created_at", "finished_at"}
    ended = followed(tenant, told)
    assert {**ended, "finished_at": None} == {**told, "status": "completed", "total": CROWD, "seen": CROWD, "affected": CROWD, "finished_at": None}
    assert ended["finished_at"]
    members = tenant.get(f"/segments/{segment}")["contact_count"]
    assert {"all": people(tenant), "unsubscribed": people(tenant, unsubscribed=True), "members": members} == left
    assert (people(other), people(other, unsubscribed=True), other.get(f"/segments/{theirs}")["contact_count"]) == (3, 0, 3)


def test_an_act_on_a_segment_is_its_projects_alone(hasty):
    tenant, other = hasty.tenant(), hasty.tenant()
    segment = crowd(tenant, 1)
    assert other.post("/contacts/bulk", {"action": "delete", "segment_id": segment}, 404)["error"] == "Segment not found"
    told = tenant.post("/contacts/bulk", {"action": "tag", "tags": ["big"], "segment_id": segment}, 202)
    assert followed(tenant, told)["affected"] == 1
    for asking, number in ((other, told["id"]), (tenant, "job_0000000000000"), (tenant, "job_x"), (tenant, segment)):
        answer = asking.http.get(f"/contacts/bulk/{number}")
        assert (answer.status_code, answer.json()) == (404, {"error": "Job not found", "code": "not_found"})
    sender = hasty.tenant(permission="sending_access", project=tenant.project)
    assert sender.http.get(f"/contacts/bulk/{told['id']}").status_code == 403


def test_an_act_whose_segment_goes_says_that_it_failed(hasty):
    tenant = hasty.tenant()
    crowd(tenant, 1)
    act = hasty.call(hasty.relay.bulk.begin(tenant.number, acts.DELETE, {"segment": hasty.relay.maker.next()}, 0))
    ended = followed(tenant, {"id": act.public_id})
    assert (ended["status"], ended["total"], ended["affected"], people(tenant)) == ("failed", 0, 0, 1)
