"""`relay check` against real things that are wrong: each finding names the key at fault and the way out."""

from __future__ import annotations

import asyncio
import datetime
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.cli.checks import examine
from relay.cli.checks.outside import PROBES
from relay.clock import Clock
from relay.control import alone
from relay.settings import load
from relay.store import steps
from tests.support.dns import DnsServer, Fault
from tests.support.ports import free_port

HOST = "mail.relay.example"


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a program that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def dns(listening: int) -> Iterator[DnsServer]:
    """A world in which all is well: our name, its reverse, and large receivers whose hosts answer."""
    zones = {HOST: {"A": "127.0.0.9"}, "9.0.0.127.in-addr.arpa": {"PTR": f"{HOST}."}, "mx.example": {"A": "127.0.0.1"}}
    zones |= {domain: {"MX": "10 mx.example."} for domain in PROBES}
    with DnsServer(zones) as server:
        yield server


@pytest.fixture
def good(dns: DnsServer, listening: int, tmp_path: Path) -> dict[str, str]:
    """The environment of a relay that has nothing wrong."""
    return {
        "RELAY_DATA_DIR": str(tmp_path / "data"), "RELAY_HOSTNAME": HOST, "RELAY_SMTP__SUBMISSION": f"127.0.0.1:{free_port()}",
        "RELAY_HTTP__LISTEN": f"127.0.0.1:{free_port()}", "RELAY_HTTP__PUBLIC_URL": f"https://{HOST}", "RELAY_DNS__NAMESERVERS": dns.address,
        "RELAY_DELIVERY__PORT": str(listening), "RELAY_DELIVERY__SOURCES": "127.0.0.9", "RELAY_DELIVERY__ALLOW_PRIVATE": "true",
        "RELAY_STORE__MIN_FREE": "1MB", "RELAY_STORE__RESERVE": "1MB",
    }


def found(environ: dict[str, str], *but: str) -> list[tuple[str, str, str]]:
    """(level, check, key) of what is not ok, without the checks named and without the machine's own clock and limits."""
    findings = examine(load(None, environ))
    for each in findings:
        assert each["level"] == "ok" or each["text"], each
    return [(f["level"], f["check"], f["key"]) for f in findings if f["level"] != "ok" and f["check"] not in ("clock", "limits", *but)]


def test_where_all_is_well_nothing_is_found_and_nothing_is_changed(good, tmp_path):
    assert found(good) == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("changes", "finding"), [
    pytest.param({"RELAY_SMTP__SUBMISSION": "", "RELAY_HTTP__LISTEN": ""}, ("error", "settings", "smtp.submission"), id="no-listener"),
    pytest.param({"RELAY_HTTP__PUBLIC_URL": "http://mail.relay.example"}, ("warning", "settings", "http.public_url"), id="links-in-the-clear"),
    pytest.param({"RELAY_HTTP__LISTEN": f"0.0.0.0:{free_port()}"}, ("warning", "settings", "http.public_listen"), id="one-port-for-all"),
    pytest.param({"RELAY_SMTP__SUBMISSION": f"0.0.0.0:{free_port()}"}, ("warning", "settings", "smtp.tls_cert"), id="no-starttls"),
    pytest.param({"RELAY_SMTP__TRUSTED_NETWORKS": "172.17.0.0/16"}, ("warning", "settings", "smtp.trusted_networks"), id="container-gateway"),
    pytest.param({"RELAY_STORE__MIN_FREE": "900TB"}, ("error", "disk", "store.min_free"), id="disk-full"),
    pytest.param({"RELAY_POLICIES__SUBMIT": '[{use = "policies.authorize"}, {use = "policies.nothing"}]'},
                 ("error", "policies", "policies.submit[1].use"), id="policy-missing"),
    pytest.param({"RELAY_POLICIES__SUBMIT": '[{use = "policies.authorize"}, {use = "policies.headers", colour = 1}]'},
                 ("error", "policies", "policies.submit[1].colour"), id="policy-option"),
    pytest.param({"RELAY_POLICIES__SUBMIT": "[]"}, ("warning", "policies", "policies.submit"), id="nobody-authorizes"),
    pytest.param({"RELAY_POLICIES__ATTEMPT": "[]"}, ("warning", "policies", "policies.attempt"), id="nobody-asks-for-consent"),
    pytest.param({"RELAY_SMTP__INBOUND": "203.0.113.9:2500"}, ("error", "listeners", "smtp.inbound"), id="not-our-address"),
    pytest.param({"RELAY_DELIVERY__ROUTE": '[{domain = "b.example", host = "127.0.0.1:1"}]'}, ("warning", "routes", "delivery.route[0].host"), id="route-down"),
    pytest.param({"RELAY_RSPAMD__URL": "http://127.0.0.1:1"}, ("warning", "rspamd", "rspamd.url"), id="rspamd-down"),
    pytest.param({"RELAY_DELIVERY__PORT": "1"}, ("error", "port 25", "delivery.port"), id="port-25-closed"),
    pytest.param({"RELAY_DELIVERY__SOURCES": "127.0.0.8"}, ("error", "sources", "delivery.sources"), id="no-ptr"),
    pytest.param({"RELAY_DELIVERY__SOURCES": "203.0.113.9"}, ("error", "sources", "delivery.sources"), id="not-our-source"),
])
def test_a_fault_is_found_alone(good, changes, finding):
    assert found({**good, **changes}) == [finding]


def test_a_port_in_use_and_one_given_twice(good, listening):
    taken = {**good, "RELAY_SMTP__SUBMISSION": f"127.0.0.1:{listening}"}
    assert found(taken) == [("error", "listeners", "smtp.submission")]
    twice = {**good, "RELAY_HTTP__LISTEN": good["RELAY_SMTP__SUBMISSION"]}
    assert found(twice) == [("error", "listeners", "http.listen")]
    assert found({**good, "RELAY_CAPTURE__LISTEN": good["RELAY_SMTP__SUBMISSION"]}) == [("error", "listeners", "capture.listen")]


def test_names_that_do_not_agree(good, dns):
    dns.zones["9.0.0.127.in-addr.arpa"] = {"PTR": "other.example."}
    dns.zones["other.example"] = {"A": "127.0.0.9"}
    assert found(good) == [("warning", "sources", "hostname")]
    dns.zones["other.example"] = {"A": "127.0.0.7"}
    assert found(good) == [("error", "sources", "delivery.sources")]
    del dns.zones[HOST]
    dns.zones["9.0.0.127.in-addr.arpa"] = {"PTR": f"{HOST}."}
    assert found(good) == [("warning", "hostname", "hostname"), ("error", "sources", "delivery.sources")]


@pytest.mark.parametrize(("name", "warned"), [("relay.localhost", set()), ("localhost.localdomain", {"settings", "hostname"})])
def test_a_laptop_is_not_told_what_only_the_world_needs(good, name, warned):
    """A name under localhost is never in DNS, nobody but its owner follows a link to it, and its clock is his."""
    laptop = {**good, "RELAY_HOSTNAME": name, "RELAY_HTTP__PUBLIC_URL": "", "RELAY_DELIVERY__ROUTE": '[{domain = "*", host = "127.0.0.1:1"}]'}
    told = {each["check"] for each in examine(load(None, laptop)) if each["level"] != "ok"} - {"routes", "sources", "limits"}
    assert told - {"clock"} == warned
    assert warned or "clock" not in told


def test_a_dead_resolver(good, dns):
    for domain in (*PROBES, HOST):
        dns.faults[domain] = Fault(rcode="SERVFAIL")
    assert found(good, "sources") == [("error", "dns", "dns.nameservers"), ("warning", "port 25", "delivery.port")]


def certificate(directory: Path, name: str, days: float) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=400)).not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False).sign(key, hashes.SHA256()))
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return {"RELAY_SMTP__TLS_CERT": str(directory / "cert.pem"), "RELAY_SMTP__TLS_KEY": str(directory / "key.pem")}


@pytest.mark.parametrize(("name", "days", "findings"), [
    (HOST, 90, []), ("*.relay.example", 90, []), (HOST, 3, ["warning"]), (HOST, -1, ["error"]), ("other.example", 90, ["warning"]),
    ("other.example", -1, ["error", "warning"])])
def test_a_certificate(good, tmp_path, name, days, findings):
    assert [f[0] for f in found({**good, **certificate(tmp_path, name, days)})] == findings


def test_a_certificate_without_its_key(good, tmp_path):
    given = certificate(tmp_path, HOST, 90)
    (tmp_path / "key.pem").write_text("nonsense")
    assert found({**good, **given}) == [("error", "certificate", "smtp.tls_cert")]


def test_a_domain_without_records_and_keys_that_do_not_open(good, tmp_path):
    async def add() -> None:
        async with alone.control(load(None, good)) as control:
            await control.act("domain_add", {"name": "a.example"})
            await control.act("site_suspend", {"site": "google"})

    asyncio.run(add())
    assert found(good) == [("warning", "domains", "")] * 3 + [("warning", "sites", "")]
    assert ("error", "domains", "secret_key") in found({**good, "RELAY_SECRET_KEY": "x" * 32})
    (tmp_path / "data" / "secret_key").chmod(0o644)
    assert ("error", "disk", "secret_key") in found(good)


def test_a_clock_that_was_set_is_told_of_for_a_day(good):
    def told(at: float, seconds: float) -> list[str]:
        async def note() -> None:
            async with alone.control(load(None, good)) as control:
                await control.store.write(steps.note, at, seconds)

        asyncio.run(note())
        return [f["text"].partition(",")[0] for f in examine(load(None, good)) if f["check"] == "clock" and "was set" in f["text"]]

    now = Clock().now()
    assert told(now - 60, 3_600.4) == ["the clock was set 3600 s forward"]
    assert told(now - 60, -90.0) == ["the clock was set 90 s back"]
    assert told(now - 90_000, 3_600.0) == []


def test_a_store_that_is_no_database(good, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "relay.db").write_text("not a database, and more than sixteen octets long")
    assert ("error", "store", "store.url") in found(good)
