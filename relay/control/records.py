"""The DNS records of a sending domain: what they should be, and whether DNS shows them. Pure.

    purpose         record                                              needed for
    dkim            TXT selector._domainkey  v=DKIM1; k=...; p=...      `verified`: it proves that the domain's owner wants us to sign
    dkim_rotation   the same for keys that wait to be activated         the rotation
    spf             TXT domain               v=spf1 a:hostname ~all     SPF of reverse-paths in the domain itself (RFC 7208)
    dmarc           TXT _dmarc               v=DMARC1; p=none;          what large receivers ask of bulk senders
    return_path     MX and TXT bounces.domain                           bounces come to us, aligned SPF
    mx              MX domain                                           mail to the domain comes to us, with inbound switched on
    tls_reports     TXT _smtp._tls.domain    v=TLSRPTv1; rua=...        reports about TLS to us (RFC 8460), with inbound switched on
    tracking        CNAME of the tracking host                          links on the domain's own name

What is there already is respected: an SPF record counts when it names us among others, a DMARC record whatever its policy. Where mail to us comes in, the DMARC
record asks for aggregate reports, at an address that is made for the domain: at its return-path host, since reporters ask a stranger's host for leave
(`domain._report._dmarc.host`, RFC 9990 §4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from relay.delivery.dns import Answer
from relay.mail import dkim
from relay.store.domains import ACTIVE, FAILED, PENDING, VERIFIED, DkimKey, Domain


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `type` TXT | MX | CNAME, `name` without final dot, `value` unsplit, `verified` as DNS showed it last."""

    type: str
    name: str
    value: str
    purpose: str
    verified: bool = False

    @property
    def key(self) -> str:
        """What a domain's checks call it."""
        return f"{self.type} {self.name}"


def records(domain: Domain, hostname: str, public_url: str, reports: str = "") -> list[Record]:
    """The domain's records, those of DKIM first.

    hostname    ours, for SPF and MX
    public_url  where links lead, for the tracking host's CNAME
    reports     the address for reports about the domain, "" for none
    """
    return [Record(*row, verified=bool(domain.checks.get(f"{row[0]} {row[1]}"))) for row in _wanted(domain, hostname, public_url, reports)]


def _wanted(domain: Domain, hostname: str, public_url: str, reports: str) -> Iterator[tuple[str, str, str, str]]:
    for key in domain.keys:
        if key.state in (ACTIVE, PENDING):
            yield "TXT", record_name(key, domain.name), dkim.dns_value(key.algorithm, key.public_key), "dkim" if key.state == ACTIVE else "dkim_rotation"
    yield "TXT", domain.name, f"v=spf1 a:{hostname} ~all", "spf"
    yield "TXT", f"_dmarc.{domain.name}", f"v=DMARC1; p=none;{f' rua=mailto:{reports}' if reports else ''}", "dmarc"
    if back := domain.settings.get("return_path"):
        yield "MX", back, f"10 {hostname}", "return_path"
        yield "TXT", back, f"v=spf1 a:{hostname} -all", "return_path"
    if domain.inbound:
        yield "MX", domain.name, f"10 {hostname}", "mx"
        if reports:
            yield "TXT", f"_smtp._tls.{domain.name}", f"v=TLSRPTv1; rua=mailto:{reports}", "tls_reports"
    if host := domain.settings.get("tracking_domain"):
        yield "CNAME", host, urlsplit(public_url).hostname or hostname, "tracking"


def record_name(key: DkimKey, domain: str) -> str:
    return f"{key.selector}._domainkey.{domain}"


def shows(record: Record, answer: Answer) -> bool | None:
    """Whether the answer has the record, None when nobody knows."""
    if answer.failed:
        return None
    if record.type == "MX":
        return any(mx.host == record.value.split()[1] for mx in answer.records)
    if record.type == "CNAME":
        return record.value in answer.records
    return any(_same(record, text) for text in answer.records)


def _same(record: Record, text: str) -> bool:
    if record.purpose.startswith("dkim"):
        return _tags(text).get("p") == _tags(record.value)["p"]
    if record.purpose in ("dmarc", "tls_reports"):
        return _tags(text).get("v") == _tags(record.value)["v"]
    return text.lower().split()[:1] == ["v=spf1"] and record.value.split()[1] in text.lower().split()


def _tags(text: str) -> dict[str, str]:
    """A tag list of RFC 6376 §3.2; white space inside values does not count."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): "".join(value.split()) for name, _, value in pairs}


def looked_at(domain: Domain, found: Mapping[str, bool | None], now: float) -> dict[str, Any]:
    """What changes on a domain after a look at DNS: status, checks and verified_at.

    found  by record key: shown, not shown, or None = nobody knows, and then what was known stays

    Verified = the record of every RSA key that signs is there; the Ed25519 one is a bonus that verifiers may ignore. What was verified and is gone is `failed`.
    """
    checks = {key: domain.checks.get(key, False) if shown is None else shown for key, shown in found.items()}
    signing = [f"TXT {record_name(key, domain.name)}" for key in domain.keys if key.state == ACTIVE and key.algorithm == dkim.RSA]
    proven = bool(signing) and all(checks.get(key) for key in signing)
    status = VERIFIED if proven else PENDING if domain.verified_at is None else FAILED
    return {"checks": checks, "status": status, "checked_at": now, "verified_at": (domain.verified_at or now) if proven else domain.verified_at}
