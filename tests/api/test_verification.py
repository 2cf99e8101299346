"""A domain from its records in DNS to mail, with real lookups: verified, failed, rotated; and what a key may send meanwhile."""

import re

import pytest

from relay import housekeeping
from relay.clock import Clock
from relay.housekeeping import House
from tests.control.test_acts import publish
from tests.support.dns import DnsServer, Fault, reverse
from tests.support.served import Served, email

ALL = ("dkim", "dkim_rotation", "spf", "dmarc", "return_path", "tracking")


@pytest.fixture(scope="module")
def dns():
    with DnsServer() as server:
        yield server


@pytest.fixture(scope="module")
def strict(dns, tmp_path_factory):
    """A relay that takes verified domains only."""
    directory = tmp_path_factory.mktemp("strict")
    options = {"RELAY_DOMAINS__REQUIRE_VERIFIED": "true", "RELAY_DNS__NAMESERVERS": dns.address}
    with Served(directory, f"sqlite:///{directory / 'relay.db'}", **options) as relay:
        yield relay


@pytest.fixture
def owner(strict, dns):
    dns.zones.clear()
    dns.faults.clear()
    return strict.tenant()


@pytest.fixture
def domain(owner):
    """A verified domain that only this test has."""
    made = owner.post("/domains", {"name": f"{owner.project}.example"}, 201)
    return made


def test_from_pending_to_verified(owner, dns, domain):
    mail = email(**{"from": f"me@{domain['name']}"})
    refused = owner.http.post("/emails", json=mail)
    assert (refused.status_code, refused.json()["code"]) == (422, "domain_not_verified")
    assert owner.post(f"/domains/{domain['id']}/verify")["status"] == "pending"
    publish(dns, domain, *ALL)
    found = owner.post(f"/domains/{domain['id']}/verify")
    assert (found["status"], all(each["verified"] for each in found["dns_records"])) == ("verified", True)
    assert owner.http.post("/emails", json=mail).status_code == 202
    assert owner.http.post("/emails", json={**mail, "from": f"me@news.{domain['name']}"}).status_code == 202
    assert owner.http.post("/emails", json={**mail, "from": "me@elsewhere.example"}).status_code == 422
    assert [each["data"]["name"] for each in owner.get("/events", type="domain.verified")["events"]] == [domain["name"]]


def test_a_record_that_goes_warns_and_stops_no_mail(owner, dns, domain):
    publish(dns, domain, *ALL)
    owner.post(f"/domains/{domain['id']}/verify")
    dns.zones.clear()
    assert owner.post(f"/domains/{domain['id']}/verify")["status"] == "failed"
    sent = owner.http.post("/emails", json=email(**{"from": f"me@{domain['name']}"}))
    assert sent.status_code == 202
    assert "domain_failed" in {each["type"] for each in owner.get(f"/emails/{sent.json()['id']}/insights")["warnings"]}
    assert len(owner.get("/events", type="domain.failed")["events"]) == 1


def test_dns_that_cannot_be_read_changes_nothing(owner, dns, domain):
    publish(dns, domain, *ALL)
    owner.post(f"/domains/{domain['id']}/verify")
    for record in domain["dns_records"]:
        dns.faults[record["name"]] = Fault(rcode="SERVFAIL")
    assert owner.post(f"/domains/{domain['id']}/verify")["status"] == "verified"


def test_a_rotation_from_dns_to_signing(owner, dns, domain):
    publish(dns, domain, *ALL)
    owner.post(f"/domains/{domain['id']}/verify")
    begun = owner.post(f"/domains/{domain['id']}/dkim/rotate")
    assert owner.http.post(f"/domains/{domain['id']}/dkim/rotate/activate").status_code == 409
    publish(dns, owner.get(f"/domains/{domain['id']}"), *ALL)
    done = owner.post(f"/domains/{domain['id']}/dkim/rotate/activate")
    assert (done["active_selector"], done["state"]) == (begun["pending_selector"], "retiring")


def test_a_verified_domain_belongs_to_one_project(strict, owner, dns, domain):
    publish(dns, domain, *ALL)
    owner.post(f"/domains/{domain['id']}/verify")
    assert strict.tenant().http.post("/domains", json={"name": domain["name"]}).status_code == 409


@pytest.fixture(scope="module")
def sending(dns, tmp_path_factory):
    """A relay that looks MX up and sends from loopback."""
    directory = tmp_path_factory.mktemp("sending")
    options = {"RELAY_DELIVERY__ROUTE": "[]", "RELAY_DELIVERY__SOURCES": "127.0.0.1", "RELAY_DELIVERY__ALLOW_PRIVATE": "true"}
    with Served(directory, f"sqlite:///{directory / 'relay.db'}", RELAY_DNS__NAMESERVERS=dns.address, **options) as relay:
        yield relay


@pytest.mark.parametrize(("zones", "warned"), [
    pytest.param({}, True, id="no PTR"),
    pytest.param({reverse("127.0.0.1"): {"PTR": "other.example."}}, True, id="a name that does not lead back"),
    pytest.param({reverse("127.0.0.1"): {"PTR": "mail.example."}, "mail.example": {"A": "127.0.0.1"}}, False, id="confirmed"),
])
def test_an_address_without_a_name_is_warned_of(sending, dns, zones, warned):
    dns.zones.clear()
    dns.faults.clear()
    dns.zones.update(zones)
    sending.relay.resolver.forget()
    warnings = {each["type"]: each for each in sending.tenant().post("/emails/preview", email())["warnings"]}
    assert ("missing_ptr" in warnings) is warned
    if warned:
        assert warnings["missing_ptr"]["message"].startswith("127.0.0.1, ")


def test_dns_that_cannot_be_read_says_nothing_of_our_name(sending, dns):
    dns.faults[reverse("127.0.0.1")] = Fault(rcode="SERVFAIL")
    sending.relay.resolver.forget()
    assert "missing_ptr" not in {each["type"] for each in sending.tenant().post("/emails/preview", email())["warnings"]}


def test_the_hourly_look_warns_of_a_record_that_has_gone(strict, owner, dns, domain):
    publish(dns, domain, *ALL)
    owner.post(f"/domains/{domain['id']}/verify")
    dns.zones.clear()
    relay = strict.relay
    later = Clock(now=lambda: relay.clock.now() + 2 * housekeeping.STALE)
    house = House(relay.store, relay.config, later, relay.control, relay.tools.keeper, relay.connector)
    relay.resolver.forget()
    strict.call(housekeeping.look_at_dns(house))
    assert owner.get(f"/domains/{domain['id']}")["status"] == "failed"
    assert [each["data"]["name"] for each in owner.get("/events", type="domain.failed")["events"]] == [domain["name"]]
    assert re.search(r'relay_domain_status_changes_total\{status="failed"\} [1-9]', owner.http.get("/metrics").text)
    assert owner.http.post("/emails", json=email(**{"from": f"me@{domain['name']}"})).status_code == 202
