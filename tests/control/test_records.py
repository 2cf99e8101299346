"""The DNS records of a domain, and what a look at DNS makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.control import records
from relay.delivery.dns import Answer, Mx
from relay.store.domains import DkimKey, Domain

NOW = 1_700_000_000.0
RSA = DkimKey(1, 9, "r1", "rsa-sha256", "enc:", "MIIB", "active", NOW)
ED = DkimKey(2, 9, "r1e", "ed25519-sha256", "enc:", "11qY", "active", NOW)
DOMAIN = Domain(9, 1, "a.example", "pending", {}, {"return_path": "b.a.example", "tracking_domain": "t.a.example"}, NOW, keys=(RSA, ED))
WANTED = {r.key: r for r in records.records(DOMAIN, "mail.relay.example", "https://links.relay.example/x")}
DKIM = "TXT r1._domainkey.a.example"


def test_every_record_has_its_value_in_one_piece():
    assert {key: (r.purpose, r.value) for key, r in WANTED.items()} == {
        DKIM: ("dkim", "v=DKIM1; k=rsa; p=MIIB"),
        "TXT r1e._domainkey.a.example": ("dkim", "v=DKIM1; k=ed25519; p=11qY"),
        "TXT a.example": ("spf", "v=spf1 a:mail.relay.example ~all"),
        "TXT _dmarc.a.example": ("dmarc", "v=DMARC1; p=none;"),
        "MX b.a.example": ("return_path", "10 mail.relay.example"),
        "TXT b.a.example": ("return_path", "v=spf1 a:mail.relay.example -all"),
        "CNAME t.a.example": ("tracking", "links.relay.example"),
    }


def test_a_pending_key_is_a_rotation_and_a_retired_one_is_not_shown():
    domain = replace(DOMAIN, settings={}, keys=(replace(RSA, state="retired"), replace(ED, state="pending")))
    assert [r.purpose for r in records.records(domain, "m.example", "")] == ["dkim_rotation", "spf", "dmarc"]


def found(*values: object) -> Answer:
    return Answer("found", "x", values)


@pytest.mark.parametrize(("key", "answer", "shown"), [
    pytest.param(DKIM, found("v=DKIM1; k=rsa; p=MIIB"), True, id="dkim"),
    pytest.param(DKIM, found("v=DKIM1;k=rsa;t=s;p=MI IB"), True, id="dkim-spaced-otherwise"),
    pytest.param(DKIM, found("v=DKIM1; k=rsa; p=OLD"), False, id="dkim-of-another-key"),
    pytest.param(DKIM, found("v=DKIM1; p="), False, id="dkim-revoked"),
    pytest.param(DKIM, found("hello", "v=DKIM1; p=MIIB"), True, id="dkim-beside-others"),
    pytest.param(DKIM, Answer("nxdomain", "x"), False, id="dkim-missing"),
    pytest.param(DKIM, Answer("failed", "x"), None, id="nobody-knows"),
    pytest.param("TXT a.example", found("v=spf1 include:x.example a:mail.relay.example -all"), True, id="spf-among-others"),
    pytest.param("TXT a.example", found("v=spf1 include:x.example -all"), False, id="spf-without-us"),
    pytest.param("TXT a.example", found("google-site-verification=v=spf1"), False, id="spf-look-alike"),
    pytest.param("TXT _dmarc.a.example", found("v=DMARC1; p=reject; rua=mailto:x@a.example"), True, id="dmarc-of-any-policy"),
    pytest.param("MX b.a.example", found(Mx(20, "mail.relay.example")), True, id="mx"),
    pytest.param("MX b.a.example", found(Mx(10, "mx.other.example")), False, id="mx-elsewhere"),
    pytest.param("CNAME t.a.example", found("links.relay.example"), True, id="cname"),
    pytest.param("CNAME t.a.example", found("cdn.example"), False, id="cname-elsewhere"),
])
def test_what_dns_shows(key, answer, shown):
    assert records.shows(WANTED[key], answer) is shown


@pytest.mark.parametrize(("before", "seen", "status"), [
    pytest.param({}, {DKIM: True}, "verified", id="first-seen"),
    pytest.param({}, {DKIM: False}, "pending", id="not-there-yet"),
    pytest.param({}, {DKIM: None}, "pending", id="nobody-answers"),
    pytest.param({}, {DKIM: False, "TXT a.example": True, "TXT r1e._domainkey.a.example": True}, "pending", id="others-prove-nothing"),
    pytest.param({"checks": {DKIM: True}, "verified_at": NOW - 9}, {DKIM: False}, "failed", id="gone"),
    pytest.param({"checks": {DKIM: True}, "verified_at": NOW - 9}, {DKIM: None}, "verified", id="unknown-keeps-what-was"),
    pytest.param({"checks": {DKIM: False}, "verified_at": NOW - 9}, {DKIM: True}, "verified", id="back-again"),
    pytest.param({"keys": ()}, {}, "pending", id="no-key-no-proof"),
])
def test_a_look_at_dns_decides(before, seen, status):
    after = records.looked_at(replace(DOMAIN, **before), seen, NOW)
    assert after["status"] == status
    assert after["verified_at"] == ((before.get("verified_at") or NOW) if status == "verified" else before.get("verified_at"))
