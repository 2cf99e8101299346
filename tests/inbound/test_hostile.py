"""Hostile reports: any octets in, no exception but ours, in bounded time; and a relay that takes them at its listener goes on."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.control.bounces import classify
from relay.errors import RelayError
from relay.mail import arf, dsn, traces
from tests.inbound.samples import FOLDER, sample
from tests.inbound.test_bounce import add_domain

NAMES = sorted(path.stem for path in FOLDER.glob("*.eml"))
BITS = st.sampled_from([b"\r\n", b"--", b"boundary=", b"Content-Type: multipart/report;", b"message/feedback-report", b"Feedback-Type: abuse\r\n",
                        b"550 5.1.1 ", b"Relay-Trace: ", b"bounce+" + b"a" * 40 + b"@", b"=?utf-8?b?", b"\x00", b"\xff", b"<a@b.test>", b";", b"(", b'"'])
NOISE = st.lists(BITS | st.binary(max_size=20), max_size=30).map(b"".join)


def read(octets):
    """All readers of what comes in; the errors that they may raise are ours."""
    try:
        return dsn.read(octets), arf.read(octets), traces.marks(octets), classify(octets)
    except RelayError:
        return None


@given(NOISE, st.sampled_from(NAMES), st.integers(0, 3_000), st.integers(0, 300))
def test_any_octets_are_read(noise, name, start, cut):
    octets = sample(name)
    for each in (noise, octets[:start] + noise + octets[start + cut:]):
        report, complaint, marks, _ = read(each)
        assert report.kind in (dsn.REPORT, dsn.AUTO_REPLY, dsn.OTHER)
        assert complaint is None or len(complaint.named) <= arf.NAMED
        assert len(marks) <= traces.MARKS


@pytest.mark.parametrize("unit", [
    b"\r\n \t", b"--b\r\n", b"Relay-Trace:", b"bounce+aaaaaaaa", b"bounce+" + b"a" * 40 + b"@", b"/u/" + b"b" * 50 + b" ", b"Original-Rcpt-To: <a@b.test>\r\n",
    b"X-HmXmrOriginalRecipient: a@b\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"=\r\n",
], ids=lambda unit: repr(unit)[2:30])
def test_long_repetitions_take_no_long_time(unit):
    for head in (b"Content-Type: message/feedback-report\r\n\r\n", b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n",
                 b"Content-Transfer-Encoding: quoted-printable\r\n\r\n", b""):
        octets = head + unit * (dsn.OCTETS // len(unit))
        begin = time.process_time()
        arf.read(octets)
        traces.marks(octets)
        assert time.process_time() - begin < 1.0


def bombs():
    """Mail that costs its reader more than its writer."""
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(2_000))
    inside = b"".join(b"Content-Type: message/rfc822\r\n\r\n" for _ in range(5_000))
    many = b"Content-Type: multipart/report; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 50_000
    hops = b"Received: from x by y; Sat, 21 Nov 2026 08:00:00 +0000\r\n" * 900 + b"Subject: round and round\r\n\r\nx\r\n"
    fields = b"X: y\r\n" * 5_000 + b"\r\nx\r\n"
    group = b"Final-Recipient: rfc822; user@example.com\r\nAction: failed\r\n\r\n"
    groups = b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n" + group * 5_000
    return {"nested": nested, "messages-in-messages": inside, "many-parts": many, "many-hops": hops, "many-fields": fields, "many-recipients": groups}


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_at_a_return_path_or_at_feedback_harms_nobody(served, tenant, name):
    host = f"{tenant.project}.example"
    add_domain(served, tenant, host)
    sent = tenant.send(**{"from": f"you@{host}", "to": ["user@example.com"]})
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    (copy,) = [each for each in served.sink.messages if f"<{sent['id']}@relay.test>".encode() in each.content]
    for to in (copy.sender, "feedback@relay.test"):
        with served.dial() as line:
            line.ehlo()
            line.mail("")
            assert line.rcpt(to)[0] == 250
            assert line.data(bombs()[name])[0] in (250, 552, 554)
    events = [each["type"] for each in tenant.get(f"/emails/{sent['id']}/events")["events"]]
    assert len(events) <= 4 + 10
    assert tenant.http.get("/healthz").status_code == 200
