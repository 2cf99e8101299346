"""Delivery reports, read back by the stdlib's parser."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relay.mail.message import Recipient
from relay.mail.reply import Reply
from relay.mail.report import DELAYED, DELIVERED, FAILED, RELAYED, Line, Original, Reporter, build, status, unxtext

REPORTER = Reporter("relay.example")
HEADER = b"From: app@example.com\r\nSubject: Hello\r\nMessage-ID: <1@example.com>\r\n"
ORIGINAL = Original("em_0123456789abc", "1@example.com", 1_774_000_000.0, HEADER, HEADER + b"\r\nBody\r\n")
REFUSED = Line(Recipient(7, "ann@example.net", "ann@example.net", "example.net"), Reply(550, "5.1.1", "No such\nuser"), "mx.example.net", 1_774_000_100.0)


def parsed(content: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.SMTPUTF8)


def made(kind=FAILED, original=ORIGINAL, lines=(REFUSED,), to="app@example.com", **extra):
    return build(REPORTER, kind, to, original, lines, report_id="dsn1", now=1_774_000_200.0, **extra)


def test_a_failure_tells_people_and_programs_and_quotes_the_original():
    message = parsed(made())
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["auto-submitted"] == "auto-replied"
    assert message["from"].addresses[0].addr_spec == "MAILER-DAEMON@relay.example"
    assert message["in-reply-to"] == "<1@example.com>"
    human, machine, quoted = message.iter_parts()
    assert "<ann@example.net>" in human.get_content()
    assert "mx.example.net said: 550 5.1.1 No such user" in human.get_content()
    about, recipient = machine.get_payload()
    assert about["reporting-mta"] == "dns; relay.example"
    assert about["arrival-date"]
    assert recipient["final-recipient"] == "rfc822; ann@example.net"
    assert (recipient["action"], recipient["status"]) == ("failed", "5.1.1")
    assert recipient["remote-mta"] == "dns; mx.example.net"
    assert recipient["diagnostic-code"] == "smtp; 550 5.1.1 No such user"
    assert quoted.get_content_type() == "message/rfc822"
    assert made().endswith(b"\r\nBody\r\n\r\n--=_dsn1.report--\r\n")


@pytest.mark.parametrize(
    ("kind", "ret", "size", "whole"),
    [
        pytest.param(FAILED, "", 10, True, id="failure"),
        pytest.param(FAILED, "FULL", 10, True, id="failure-full"),
        pytest.param(FAILED, "HDRS", 10, False, id="failure-header-wanted"),
        pytest.param(FAILED, "FULL", 70_000, False, id="failure-too-large"),
        pytest.param(DELAYED, "FULL", 10, False, id="a-delay-quotes-the-header"),
        pytest.param(DELIVERED, "FULL", 10, False, id="success-quotes-the-header"),
    ],
)
def test_how_much_is_quoted(kind, ret, size, whole):
    original = Original("em_1", "1@example.com", 0.0, HEADER, HEADER + b"\r\n" + b"x" * size, ret=ret)
    *_, quoted = parsed(made(kind, original, until=1e9)).iter_parts()
    assert quoted.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")


def test_the_wishes_of_the_sender_come_back():
    original = Original("em_1", "1@example.com", 0.0, HEADER, envid="QQ+2B314+3D159")
    line = Line(Recipient(7, "ann@example.net", "", "", orcpt="rfc822;old+2Bname@example.org"), Reply(250, "2.0.0", "ok"), "mx.example.net", 0.0)
    _, machine, _ = parsed(made(RELAYED, original, (line,))).iter_parts()
    about, recipient = machine.get_payload()
    assert about["original-envelope-id"] == "QQ+314=159"
    assert recipient["original-recipient"] == "rfc822; old+name@example.org"
    assert (recipient["action"], recipient["status"]) == ("relayed", "2.0.0")


def test_a_delay_says_until_when():
    _, machine, _ = parsed(made(DELAYED, until=1_774_172_800.0)).iter_parts()
    assert machine.get_payload()[1]["will-retry-until"] == "Sun, 22 Mar 2026 09:46:40 -0000"


def test_our_own_words_are_not_a_remotes():
    line = Line(REFUSED.recipient, Reply(550, "5.4.4", "no host takes mail for example.net"), "", 0.0)
    content = made(lines=(line,))
    assert b"Remote-MTA" not in content
    assert b"Diagnostic-Code: X-Relay; 550 5.4.4 no host" in content


def test_addresses_beyond_ascii_use_the_global_forms():
    line = Line(Recipient(7, "jürgen@exämple.net", "", "", orcpt=r"utf-8;j\x{FC}rgen@example.net"), Reply(550, "5.1.1", "weg"), "mx.example.net", 0.0)
    content = made(lines=(line,))
    assert b"Content-Type: message/global-delivery-status" in content
    assert b"Content-Type: message/global\r\n" in content
    assert "Final-Recipient: utf-8; jürgen@exämple.net".encode() in content
    assert "Original-Recipient: utf-8; jürgen@example.net".encode() in content
    assert b"Content-Transfer-Encoding: 8bit" in content


@pytest.mark.parametrize(
    ("kind", "reply", "says"),
    [
        (FAILED, Reply(550, "5.2.1", ""), "5.2.1"),
        (FAILED, Reply(550, "", ""), "5.0.0"),
        (FAILED, Reply(451, "4.7.1", "greylisted"), "4.4.7"),
        (DELAYED, Reply(451, "4.7.1", "greylisted"), "4.7.1"),
        (DELAYED, Reply(451, "", ""), "4.0.0"),
        (RELAYED, Reply(250, "", ""), "2.0.0"),
    ],
)
def test_status(kind, reply, says):
    assert status(kind, reply) == says


@given(some.text(), some.text(), some.text(max_size=400), some.text(max_size=40))
def test_no_words_of_others_make_a_line_of_their_own(words, address, orcpt, envid):
    line = Line(Recipient(7, address, "", "", orcpt=orcpt), Reply(550, "5.1.1", words), "mx.example.net", 0.0)
    original = Original("em_1", "1@example.com", 0.0, HEADER, envid=envid)
    content = made(lines=(line,), original=original)
    assert max(len(row) for row in content.split(b"\r\n")) <= 998
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert content.count(b"\r\nAction: ") == 1


@given(some.text())
def test_xtext_never_fails(text):
    assert isinstance(unxtext(text), str)
