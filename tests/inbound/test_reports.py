"""DMARC and TLS reports sent to us: found, opened within bounds, read, kept for one domain, served."""

import base64
import gzip
import io
import secrets
import smtplib
import zipfile

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.inbound import aggregate, tlsrpt, unpack
from relay.mail.tokens import BOUNCE, pack
from tests.inbound.letters import Stranger, home

BEGIN = 1_767_225_600  # 2026-01-01
RECORD = ("<record><row><source_ip>{}</source_ip><count>{}</count><policy_evaluated><disposition>none</disposition><dkim>{}</dkim><spf>{}</spf>"
          "</policy_evaluated></row><identifiers><header_from>x</header_from></identifiers></record>")
ROWS = (("192.0.2.1", 10, "pass", "fail"), ("192.0.2.1", 5, "fail", "pass"), ("2001:db8::1", 3, "fail", "fail"))
DTD = b'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><feedback><x>&b;</x></feedback>'
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY a SYSTEM "file:///etc/passwd">]><feedback><x>&a;</x></feedback>'


def dmarc(domain, *rows, number="r1", organisation="Mailbox Ltd", namespace="", begin=BEGIN):
    head = (f"<report_metadata><org_name>{organisation}</org_name><email>noreply@reporter.test</email><report_id>{number}</report_id>"
            f"<date_range><begin>{begin}</begin><end>{begin + 86_399}</end></date_range></report_metadata>"
            f"<policy_published><domain>{domain}</domain><adkim>r</adkim><p>none</p></policy_published>")
    records = "".join(RECORD.format(*row) for row in rows or ROWS)
    return f'<?xml version="1.0"?>\n<feedback{namespace}><version>1.0</version>{head}{records}</feedback>'.encode()


def tls(domain, number="t1"):
    return orjson.dumps({
        "organization-name": "Company-X", "date-range": {"start-datetime": "2026-01-01T00:00:00Z", "end-datetime": "2026-01-01T23:59:59Z"},
        "contact-info": "sts@company-x.test", "report-id": number, "policies": [{
            "policy": {"policy-type": "sts", "policy-string": ["version: STSv1"], "policy-domain": domain, "mx-host": "*.mail.test"},
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [{"result-type": "certificate-expired", "sending-mta-ip": "2001:db8::2", "receiving-mx-hostname": "mx.test",
                                 "failed-session-count": 100}]}]})


def zipped(octets, name="r.xml"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, octets)
    return out.getvalue()


FORMS = {"gzip": (gzip.compress, "application/gzip"), "zip": (zipped, "application/zip"), "xml": (bytes, "text/xml"),
         "mislabelled": (gzip.compress, "application/zip")}


def envelope(octets, kind="application/gzip", whole=False):
    """The body of a message that brings a report, and the fields that say so."""
    text = base64.encodebytes(octets).decode().replace("\n", "\r\n")
    part = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64"
    if whole:
        return part.split("\r\n"), text
    return ["MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=b"], (
        f"--b\r\nContent-Type: text/plain\r\n\r\nThis is a report.\r\n--b\r\n{part}\r\n\r\n{text}\r\n--b--\r\n")


@pytest.fixture
def reporter(served):
    return Stranger(served)


@pytest.fixture
def post(served, reporter):
    def send(tenant, number, octets, kind="application/gzip", whole=False, **options):
        to = tenant.get(f"/domains/{number}")["reports_address"]
        fields, body = envelope(octets, kind, whole)
        letter = reporter.letter(to, *fields, body=body, subject=f"Report Domain: {secrets.token_hex(4)}", **options)
        return served.post(to, letter, f"noreply@{reporter.name}")

    return send


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("whole", [False, True], ids=["attached", "whole"])
def test_a_dmarc_report_is_kept_and_summed(served, tenant, post, form, whole):
    name, number = home(tenant)
    packed, kind = FORMS[form]
    assert post(tenant, number, packed(dmarc(name)), kind, whole) == (250, b"2.0.0 done")
    (found,) = tenant.get(f"/domains/{number}/dmarc/reports")["reports"]
    assert found | {"id": "", "created_at": ""} == {
        "id": "", "domain_id": number, "report_id": "r1", "org_name": "Mailbox Ltd", "email": "noreply@reporter.test",
        "date_range_start": "2026-01-01T00:00:00.000Z", "date_range_end": "2026-01-01T23:59:59.000Z", "domain": name,
        "policy_published": {"domain": name, "adkim": "r", "p": "none"}, "status": "processed", "error": None, "created_at": ""}
    stats = tenant.get(f"/domains/{number}/dmarc/stats", days=400)
    assert stats["totals"] == {"total_messages": 18, "passed": 15, "failed": 3, "spf_passed": 5, "dkim_passed": 10}
    assert stats["daily"] == [{"date": "2026-01-01", "total": 18, "passed": 15, "failed": 3}]
    assert tenant.get(f"/domains/{number}/dmarc/sources", days=400)["sources"] == [
        {"source_ip": "192.0.2.1", "total": 15, "passed": 15, "failed": 0}, {"source_ip": "2001:db8::1", "total": 3, "passed": 0, "failed": 3}]


def test_days_are_summed_and_old_ones_left_out(served, tenant, post):
    name, number = home(tenant)
    today = int(served.relay.clock.now()) // 86_400 * 86_400
    for at, back in enumerate((0, 0, 1, 10)):
        post(tenant, number, dmarc(name, ("192.0.2.1", 2, "pass", "pass"), number=f"r{at}", begin=today - back * 86_400), "text/xml")
    stats = tenant.get(f"/domains/{number}/dmarc/stats", days=7)
    assert [each["total"] for each in stats["daily"]] == [2, 4]
    assert stats["totals"]["total_messages"] == 6


def test_a_report_that_comes_again_counts_once(tenant, post):
    name, number = home(tenant)
    for _ in range(2):
        post(tenant, number, dmarc(name), "text/xml")
    assert tenant.get(f"/domains/{number}/dmarc/stats", days=400)["totals"]["total_messages"] == 18


def test_a_tls_report_is_kept_and_summed(tenant, post):
    name, number = home(tenant)
    post(tenant, number, gzip.compress(tls(name)), "application/tlsrpt+gzip")
    (found,) = tenant.get(f"/domains/{number}/tls/reports")["reports"]
    assert (found["org_name"], found["status"], found["successful_sessions"], found["failed_sessions"]) == ("Company-X", "processed", 5326, 303)
    assert found["policies"] == [{
        "type": "sts", "domain": name, "mx_hosts": ["*.mail.test"], "successful": 5326, "failed": 303,
        "failures": [{"result_type": "certificate-expired", "sending_mta_ip": "2001:db8::2", "receiving_mx_hostname": "mx.test", "sessions": 100}]}]
    assert tenant.get(f"/domains/{number}/tls/stats", days=400) == {"totals": {"total_sessions": 5629, "successful": 5326, "failed": 303}}


@pytest.mark.parametrize(("octets", "why"), [
    pytest.param(b"hello", "the message holds no report", id="nothing"),
    pytest.param(dmarc("other.test"), "the report is about 'other.test'", id="another-domain"),
    pytest.param(tls("other.test"), "the report is about 'other.test'", id="another-domain's-tls"),
    pytest.param(b"<html>", "the XML cannot be read", id="not-xml"),
    pytest.param(b"<html></html>", "the XML is no DMARC report", id="xml-of-another-kind"),
    pytest.param(b'{"a": 1}', "the JSON is no TLS report", id="json-of-another-kind"),
    pytest.param(DTD, "the XML cannot be read", id="entities"),
    pytest.param(OUTSIDE, "the XML cannot be read", id="an-external-file"),
    pytest.param(gzip.compress(b"x" * 30_000_000), "the report is larger than 20 MB when opened", id="gzip-bomb"),
    pytest.param(zipped(b"x" * 30_000_000), "the report is larger than 20 MB when opened", id="zip-bomb"),
    pytest.param(gzip.compress(b"<a>")[:-9], "the XML cannot be read", id="cut-gzip"),
    pytest.param(zipped(b"<a>")[:40], "the zip cannot be read", id="cut-zip"),
])
def test_what_does_not_count_is_an_error_with_its_reason(tenant, post, octets, why):
    _, number = home(tenant)
    assert post(tenant, number, octets)[0] == 250
    found = [each for kind in ("dmarc", "tls") for each in tenant.get(f"/domains/{number}/{kind}/reports")["reports"]]
    assert [(each["status"], each["error"]) for each in found] == [("error", why)]
    assert tenant.get(f"/domains/{number}/dmarc/stats", days=400)["totals"]["total_messages"] == 0
    assert tenant.get(f"/domains/{number}/tls/stats", days=400)["totals"]["total_sessions"] == 0


def test_a_report_whose_reporter_disowns_it_does_not_count_nor_keep_out_the_true_one(served, tenant, post):
    name, number = home(tenant)
    victim = Stranger(served)
    post(tenant, number, dmarc(name, ("192.0.2.9", 99, "pass", "pass")), "text/xml", author=f"noreply@{victim.name}")
    post(tenant, number, dmarc(name), "text/xml")
    assert [each["status"] for each in tenant.get(f"/domains/{number}/dmarc/reports")["reports"]] == ["processed", "error"]
    assert tenant.get(f"/domains/{number}/dmarc/stats", days=400)["totals"]["total_messages"] == 18


def test_a_report_counts_for_the_domain_of_its_address_alone(served, tenant, post):
    """Two projects with the same domain name: a report goes to whose address it came to, and neither sees the other's."""
    other = served.tenant()
    name, number = home(tenant)
    theirs = other.post("/domains", {"name": name}, status=201)["id"]
    post(tenant, number, dmarc(name), "text/xml")
    assert len(tenant.get(f"/domains/{number}/dmarc/reports")["reports"]) == 1
    assert other.get(f"/domains/{theirs}/dmarc/reports")["reports"] == []
    for path in ("dmarc/reports", "dmarc/stats", "dmarc/sources", "tls/reports", "tls/stats"):
        assert other.http.get(f"/domains/{number}/{path}").status_code == 404


def test_the_address_is_signed_and_works_at_its_own_hosts(served, tenant):
    _, number = home(tenant)
    address = tenant.get(f"/domains/{number}")["reports_address"]
    local = address.partition("@")[0]
    token = served.relay.tools.services.tokens.make(BOUNCE, pack(1))
    with served.dial() as line:
        line.ehlo()
        line.mail("a@b.test")
        assert line.rcpt(address)[0] == 250
        assert line.rcpt(f"{local.upper()}@relay.test")[0] == 250
        assert line.rcpt(f"{local}@bounces.other.test")[0] == 550
        assert line.rcpt(f"reports+{token}@relay.test")[0] == 550
        assert line.rcpt("reports+aaaa@relay.test")[0] == 550


def test_a_domain_that_is_gone_takes_no_reports(served, tenant):
    _, number = home(tenant)
    address = tenant.get(f"/domains/{number}")["reports_address"]
    tenant.delete(f"/domains/{number}")
    with pytest.raises(smtplib.SMTPResponseException) as caught:
        served.post(address, b"x\r\n", "a@b.test")
    assert caught.value.smtp_code == 550


# The parsers alone.


@pytest.mark.parametrize("namespace", ["", ' xmlns="urn:ietf:params:xml:ns:dmarc-2.0"', ' xmlns="http://dmarc.org/dmarc-xml/0.1"'])
def test_namespaces_do_not_matter(namespace):
    assert aggregate.read(dmarc("a.test", namespace=namespace)).sources[0].total == 15


@pytest.mark.parametrize(("row", "source", "total"), [
    pytest.param(("not an address", 5, "pass", "pass"), "other", 5, id="no-address"),
    pytest.param(("192.0.2.1", "-5", "pass", "pass"), "192.0.2.1", 0, id="a-negative-count"),
    pytest.param(("192.0.2.1", "9" * 400, "pass", "pass"), "192.0.2.1", 0, id="a-huge-count"),
    pytest.param(("192.0.2.1", "", "", ""), "192.0.2.1", 0, id="nothing-said"),
])
def test_odd_records(row, source, total):
    (found,) = aggregate.read(dmarc("a.test", row)).sources
    assert (found.address, found.total) == (source, total)


def test_a_report_of_many_sources_is_bounded():
    rows = [(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1, "pass", "pass") for n in range(aggregate.SOURCES + 50)]
    found = aggregate.read(dmarc("a.test", *rows))
    assert len(found.sources) == aggregate.SOURCES + 1
    assert (found.sources[-1].address, found.sources[-1].total) == ("other", 50)


@pytest.mark.parametrize("xml", [b"<a>" * 100_000, b"<feedback>" + b"<r/>" * 125_000 + b"</feedback>"], ids=["deep", "wide"])
def test_xml_without_end_is_left_off(xml):
    with pytest.raises(Invalid, match="too many elements"):
        aggregate.read(xml)


@pytest.mark.parametrize("parse", [aggregate.read, tlsrpt.read, unpack.opened], ids=["aggregate", "tlsrpt", "unpack"])
@given(octets=st.builds(bytes.__add__, st.sampled_from([b"", b"\x1f\x8b\x08", b"PK\x03\x04", b"<a>", b"{"]), st.binary(max_size=200)))
def test_any_octets_are_read_or_refused(parse, octets):
    try:
        parse(octets)
    except Invalid:
        pass


@given(st.data())
def test_a_damaged_report_is_read_or_refused(data):
    whole = data.draw(st.sampled_from([dmarc("a.test"), tls("a.test"), gzip.compress(dmarc("a.test")), zipped(tls("a.test"))]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 4)):]
    try:
        text = unpack.opened(damaged)
        (tlsrpt if text.startswith(b"{") else aggregate).read(text)
    except Invalid:
        pass


JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-2**60, 2**60), st.text(max_size=5)), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["policies", "policy", "summary", "policy-domain", "failure-details", "date-range", "mx-host",
                                                                 "start-datetime", "failed-session-count"]), inner, max_size=4)), max_leaves=12)


@given(JSON)
def test_any_json_is_read_or_refused(given_json):
    try:
        tlsrpt.read(orjson.dumps(given_json))
    except Invalid:
        pass

