"""DMARC evaluated: the tree walk of RFC 9989, alignment, and what a record asks for; with the DNS of the tests."""

import pytest

from relay.delivery.dns import Resolver
from relay.inbound import dmarc
from tests.support.dns import DnsServer, Fault

ZONES = {
    "org.test": "v=DMARC1; p=reject; sp=quarantine; np=reject",
    "strict.test": "v=DMARC1; p=quarantine; adkim=s; aspf=s",
    "own.org.test": "v=DMARC1; p=none",
    "psd.test": "v=DMARC1; p=reject; psd=y",
    "testing.test": "v=DMARC1; p=reject; t=y",
    "island.org.test": "v=DMARC1; p=reject; psd=n",
    "wants-reports.test": "v=DMARC1; p=; rua=mailto:x@y.test",
    "nonsense.test": "v=DMARC1; p=sometimes",
    "spaced.test": "v=DMARC1;p=reject;",
}


@pytest.fixture(scope="module")
def dns():
    zones = {f"_dmarc.{name}": {"TXT": f'"{text}"'} for name, text in ZONES.items()}
    zones["_dmarc.two.test"] = {"TXT": ['"v=DMARC1; p=reject"', '"v=DMARC1; p=none"']}
    zones["_dmarc.beside.test"] = {"TXT": ['"v=spf1 -all"', '"v=DMARC1; p=reject"']}
    zones |= {"there.org.test": {"A": "192.0.2.1"}}
    with DnsServer(zones) as server:
        server.faults["_dmarc.down.test"] = Fault(rcode="SERVFAIL")
        yield server


@pytest.mark.parametrize(("author", "spf", "dkim", "result", "policy"), [
    pytest.param("org.test", "org.test", [], "pass", "reject", id="spf-of-the-very-domain"),
    pytest.param("org.test", "", ["org.test"], "pass", "reject", id="dkim-of-the-very-domain"),
    pytest.param("org.test", "bounces.org.test", [], "pass", "reject", id="spf-of-a-sub-domain"),
    pytest.param("there.org.test", "", ["org.test"], "pass", "quarantine", id="dkim-of-the-organisation"),
    pytest.param("a.org.test", "b.org.test", [], "pass", "reject", id="siblings"),
    pytest.param("org.test", "", [], "fail", "reject", id="nothing-passed"),
    pytest.param("org.test", "other.test", ["evil.test"], "fail", "reject", id="strangers"),
    pytest.param("org.test", "notorg.test", ["evilorg.test"], "fail", "reject", id="names-that-only-end-alike"),
    pytest.param("there.org.test", "", [], "fail", "quarantine", id="sub-domain-policy"),
    pytest.param("gone.org.test", "", [], "fail", "reject", id="policy-for-what-does-not-exist"),
    pytest.param("own.org.test", "", [], "fail", "none", id="own-record-first"),
    pytest.param("strict.test", "bounces.strict.test", ["mail.strict.test"], "fail", "quarantine", id="strict-wants-the-very-domain"),
    pytest.param("strict.test", "", ["strict.test"], "pass", "quarantine", id="strict-has-it"),
    pytest.param("one.psd.test", "two.psd.test", [], "fail", "reject", id="neighbours-below-a-public-suffix"),
    pytest.param("one.psd.test", "mail.one.psd.test", [], "pass", "reject", id="below-a-public-suffix"),
    pytest.param("island.org.test", "org.test", [], "fail", "reject", id="an-organisation-of-its-own"),
    pytest.param("testing.test", "", [], "fail", "quarantine", id="testing-asks-for-one-step-less"),
    pytest.param("wants-reports.test", "", [], "fail", "none", id="a-record-that-wants-reports"),
    pytest.param("nonsense.test", "", [], "none", "", id="a-record-that-means-nothing"),
    pytest.param("two.test", "", [], "none", "", id="two-records-are-none"),
    pytest.param("beside.test", "", [], "fail", "reject", id="among-other-records"),
    pytest.param("spaced.test", "", [], "fail", "reject", id="no-spaces"),
    pytest.param("nobody.example", "nobody.example", [], "none", "", id="no-record"),
    pytest.param("", "org.test", [], "permerror", "", id="no-one-author"),
    pytest.param("down.test", "", [], "temperror", "", id="dns-does-not-answer"),
])
async def test_what_a_domain_stands_behind(dns, author, spf, dkim, result, policy):
    found = await dmarc.evaluate(Resolver([dns.address]).lookup, author, spf, dkim)
    assert (found.result, found.policy) == (result, policy)


async def test_a_long_name_costs_eight_questions(dns):
    before = sum(dns.queries.values())
    await dmarc.evaluate(Resolver([dns.address]).lookup, ".".join(["a"] * 60 + ["deep", "test"]), "", [])
    assert sum(dns.queries.values()) - before <= 8
