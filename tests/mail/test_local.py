"""What programs of this machine write, made fit to travel: tables, then whatever bytes Hypothesis finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import local


@pytest.mark.parametrize(("text", "dots", "expected"), [
    pytest.param(b"Subject: x\n\nhello\n", False, b"Subject: x\r\n\r\nhello\r\n", id="line feeds"),
    pytest.param(b"a: b\r\n\r\nc\r\n", False, b"a: b\r\n\r\nc\r\n", id="already canonical"),
    pytest.param(b"a: b\r\n\nc\rd\n", False, b"a: b\r\n\r\nc\r\nd\r\n", id="every mixture"),
    pytest.param(b"a: b\r\r\n\r\r\n", False, b"a: b\r\n\r\n", id="doubled carriage returns"),
    pytest.param(b"a: b\n\nlast", False, b"a: b\r\n\r\nlast\r\n", id="no end of line"),
    pytest.param(b"a: b\n\nx\n.\ny\n", True, b"a: b\r\n\r\nx\r\n", id="a dot ends it"),
    pytest.param(b"a: b\n\nx\n.\ny\n", False, b"a: b\r\n\r\nx\r\n.\r\ny\r\n", id="-i keeps the dot"),
    pytest.param(b"a: b\r\n\r\nx\r\n.\r\ny\r\n", True, b"a: b\r\n\r\nx\r\n", id="a dot with CRLF"),
    pytest.param(b"a: b\n\n.x\n..\n", True, b"a: b\r\n\r\n.x\r\n..\r\n", id="other dots stay"),
    pytest.param(b"From root Sat Nov 21 07:00:00 2026\na: b\n\n", False, b"a: b\r\n\r\n", id="mbox line"),
    pytest.param(b"", False, b"", id="nothing"),
])
def test_canonical(text, dots, expected):
    assert local.canonical(text, dots) == expected


@pytest.mark.parametrize(("header", "expected"), [
    pytest.param("To: a@b.example", ["a@b.example"], id="plain"),
    pytest.param("To: Joe Doe <a@b.example>, <c@d.example>", ["a@b.example", "c@d.example"], id="angles"),
    pytest.param('To: "Doe, Joe <x@y>" <a@b.example>', ["a@b.example"], id="quoted name with syntax"),
    pytest.param("To: a@b.example (work, (mostly)), c@d.example", ["a@b.example", "c@d.example"], id="comments"),
    pytest.param("To: root", ["root"], id="no domain"),
    pytest.param("To: friends: a@b.example, c@d.example;, e@f.example", ["a@b.example", "c@d.example", "e@f.example"], id="group"),
    pytest.param("To: undisclosed-recipients:;", [], id="empty group"),
    pytest.param('To: "odd name"@b.example', ['"odd name"@b.example'], id="quoted local part"),
    pytest.param("To: a@[192.0.2.1]", ["a@[192.0.2.1]"], id="literal"),
    pytest.param("To: a@b.example,\n c@d.example", ["a@b.example", "c@d.example"], id="folded"),
    pytest.param("To: a@b.example\nCc: c@d.example\nBcc: e@f.example", ["a@b.example", "c@d.example", "e@f.example"], id="all three"),
    pytest.param("To: a@b.example\nCc: a@b.example", ["a@b.example"], id="each once"),
    pytest.param("To: a@b.example\nResent-To: c@d.example", ["c@d.example"], id="resent"),
    pytest.param("Subject: To: a@b.example", [], id="only address fields"),
    pytest.param("To: jörg@bücher.example", ["jörg@bücher.example"], id="UTF-8"),
    pytest.param("TO : a@b.example", ["a@b.example"], id="case and space"),
    pytest.param("To: <@old.example,@route.example:a@b.example>", ["a@b.example"], id="obsolete route"),
])
def test_recipients(header, expected):
    assert local.recipients(local.canonical(header.encode() + b"\n\nTo: not@this.example\n")) == expected


@pytest.mark.parametrize(("before", "after"), [
    pytest.param("From: root (Cron Daemon)", "From: root@h.example (Cron Daemon)", id="cron"),
    pytest.param("From: root", "From: root@h.example", id="bare"),
    pytest.param("From: Root of all <root>", "From: Root of all <root@h.example>", id="angles"),
    pytest.param("To: a@b.example, root , c@d.example", "To: a@b.example, root@h.example , c@d.example", id="in a list"),
    pytest.param("To: staff: root, a@b.example;", "To: staff: root@h.example, a@b.example;", id="in a group"),
    pytest.param('To: "a@b"', 'To: "a@b"@h.example', id="an at-sign in quotes is no domain"),
    pytest.param('To: "a b"@c.example', 'To: "a b"@c.example', id="quoted and whole"),
    pytest.param("Subject: root", "Subject: root", id="other fields stay"),
    pytest.param("To: undisclosed-recipients:;", "To: undisclosed-recipients:;", id="empty group"),
    pytest.param("From: <>", "From: <>", id="null"),
])
def test_qualify(before, after):
    body = "\r\n\r\nTo: root\r\n"
    assert local.qualify((before + body).encode(), "h.example").decode() == after + body


@pytest.mark.parametrize(("address", "expected"), [
    ("root", "root@h.example"), ("<root>", "root@h.example"), ("a@b.example", "a@b.example"), ("", ""), ("<>", ""), ('"a@b"', '"a@b"@h.example'),
    ('"a b"@c.example', '"a b"@c.example'),
])
def test_whole(address, expected):
    assert local.whole(address, "h.example") == expected


@given(st.binary(max_size=400) | st.text('To:<>@,;"()\\[]: \na', max_size=80).map(str.encode))
def test_any_octets_are_taken_and_only_domains_added(octets):
    content = local.canonical(b"To: " + octets)
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")
    local.recipients(content)
    qualified = local.qualify(content, "h.example")
    assert qualified.replace(b"@h.example", b"") == content.replace(b"@h.example", b"")
    assert local.qualify(qualified, "h.example") == qualified
