"""What is said of an address: its form, its domain in a real DNS, and what is known of both its halves."""

import pytest

from relay.audience.domains import fault, meant
from relay.audience.validation import validate
from relay.delivery.dns import Resolver
from tests.support.dns import DnsServer, Fault

ZONES = {
    "shop.example": {"MX": "10 mx.shop.example.", "A": "192.0.2.1"}, "mx.shop.example": {"A": "192.0.2.2"}, "implicit.example": {"A": "192.0.2.3"},
    "null.example": {"MX": "0 .", "A": "192.0.2.4"}, "web.example": {"TXT": "nothing"}, "gmial.com": {"MX": "10 mx.shop.example."},
    "mailinator.com": {"MX": "10 mx.shop.example."}, "gmail.com": {"MX": "10 mx.shop.example."},
}


@pytest.fixture(scope="module")
def dns():
    with DnsServer(ZONES) as server:
        server.faults["down.example"] = Fault("SERVFAIL")
        server.faults["lost.example"] = Fault(drop=True)
        yield server


@pytest.mark.parametrize(("address", "result", "risk", "said"), [
    pytest.param("Jane@shop.example", "deliverable", "low", {"mx": True, "exists": True, "website": True}, id="good"),
    pytest.param("jane@implicit.example", "deliverable", "low", {"mx": True}, id="an address stands for the MX (RFC 5321 §5.1)"),
    pytest.param("jane@null.example", "undeliverable", "high", {"mx": False, "exists": True, "website": True}, id="null MX (RFC 7505)"),
    pytest.param("jane@web.example", "undeliverable", "high", {"mx": False, "exists": True, "website": False}, id="no mail server"),
    pytest.param("jane@nosuch.example", "undeliverable", "high", {"exists": False}, id="no such domain"),
    pytest.param("jane@down.example", "unknown", "medium", {"unknown": True}, id="DNS does not answer"),
    pytest.param("nonsense", "undeliverable", "high", {"syntax": False}, id="malformed"),
    pytest.param("a b@shop.example", "undeliverable", "high", {"syntax": False}, id="malformed local part"),
    pytest.param("info+x@shop.example", "deliverable", "medium", {"role": True, "plus": True}, id="a role with a plus"),
    pytest.param("jane@gmail.com", "deliverable", "low", {"free": True}, id="a free provider"),
    pytest.param("jane@gmial.com", "risky", "medium", {"suggestion": "jane@gmail.com"}, id="a misspelling"),
    pytest.param("jane@gmail.cmo", "undeliverable", "high", {"suggestion": "jane@gmail.com"}, id="a misspelling of an end"),
    pytest.param("jane@mailinator.com", "risky", "high", {"disposable": True}, id="disposable"),
    pytest.param("jane@[192.0.2.1]", "deliverable", "low", {"mx": True}, id="a literal needs no DNS"),
])
async def test_validation(dns, address, result, risk, said):
    found = await validate(Resolver([dns.address], timeout=2.0), address)
    assert (found.email, found.result, found.risk) == (address, result, risk)
    assert {name: getattr(found, name) for name in said} == said
    assert bool(found.reasons) == (result != "deliverable" or found.role)


@pytest.mark.parametrize(("domain", "said"), [
    pytest.param("shop.example", "", id="takes mail"),
    pytest.param("gmial.com", "gmial.com is a misspelling; did they mean gmail.com?", id="somebody's who registered a misspelling"),
    pytest.param("gmail.cmo", "the domain gmail.cmo does not exist; did they mean gmail.com?", id="a misspelling that is nobody's"),
    pytest.param("nosuch.example", "the domain nosuch.example does not exist", id="like nothing known"),
    pytest.param("null.example", "the domain null.example does not accept mail (null MX)", id="null MX (RFC 7505)"),
    pytest.param("down.example", "", id="SERVFAIL counts against nobody"),
    pytest.param("lost.example", "", id="nor does a time-out"),
])
async def test_what_an_import_says_of_a_domain(dns, domain, said):
    patience = 0.3 if domain in dns.faults else 10.0  # seconds; only what is meant to be lost is given up
    assert await fault(Resolver([dns.address], timeout=patience), domain) == said


@pytest.mark.parametrize(("domain", "wanted"), [
    ("hotmail.co", "hotmail.com"), ("yahoo.cm", "yahoo.com"), ("googlmail.com", "googlemail.com"), ("outllook.com", "outlook.com"), ("gmail.com", ""),
    ("example.com", ""), ("acme.example", ""), ("gmx.example", ""),
])
def test_a_dead_domain_is_taken_for_one_that_looks_like_it(domain, wanted):
    assert meant(domain, dead=True) == wanted
    assert meant(domain, dead=False) == ""
