"""headers: what is missing is put on top, what must not travel goes, every other octet stays."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import headers
from relay.mail import ids
from relay.mail.header import split
from relay.mail.message import Origin, Wishes
from tests.support.services import NOW, message, services

FULL = (b"From: Joe <joe@example.com>\r\nTo: jane@example.org\r\nSubject:  two  spaces\r\nDate: Mon, 21 Sep 2026 10:00:00 +0000\r\n"
        b"Message-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 7bit\r\n\r\nhello\r\n")
BARE = b"Subject: x\r\n\r\nhello\r\n"


async def complete(content, *to, **more):
    given = message(content, *to, **more)
    (out,) = await headers.make({}, services()).apply(given)
    return out


async def test_a_complete_message_gets_a_received_field_and_nothing_else():
    out = await complete(FULL)
    received, rest = out.octets().split(b"From: Joe", 1)
    assert b"From: Joe" + rest == FULL
    assert received == (
        b"Received: from app.example.com ([192.0.2.7])\r\n\tby relay.example with ESMTPSA\r\n\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid %b for <jane@example.org>;\r\n\tMon, 21 Sep 2026 14:13:20 +0000\r\n" % ids.public("em", out.id).encode())
    assert out.trace == ()


async def test_what_is_missing_is_added_above_the_rest():
    out = await complete(BARE)
    assert [field.name for field in out.header.fields] == [
        b"received", b"date", b"message-id", b"from", b"to", b"mime-version", b"content-type", b"subject"]
    assert out.header.value(b"date") == "Mon, 21 Sep 2026 14:13:20 +0000"
    assert out.header.value(b"message-id") == f"<{ids.public('em', out.id)}@relay.example>"
    assert out.header.value(b"from") == "joe@example.com"
    assert out.header.value(b"to") == "undisclosed-recipients:;"
    assert out.header.value(b"content-type") == "text/plain; charset=us-ascii"
    assert out.octets().endswith(BARE)
    assert out.trace[0].detail == "added Date, Message-ID, From, To, MIME-Version, Content-Type"


BODIES = {
    "ASCII": (b"", b"hello", "text/plain; charset=us-ascii", ""),
    "UTF-8": (b"", "Grüße".encode(), "text/plain; charset=utf-8", "8bit"),
    "Latin-1": (b"", b"Gr\xfc\xdfe", "text/plain; charset=unknown-8bit", "8bit"),
    "its own type": (b"Content-Type: text/html\r\n", b"<p>", "text/html", ""),
    "eight bit of its own type": (b"Content-Type: text/html; charset=utf-8\r\n", "ü".encode(), "text/html; charset=utf-8", "8bit"),
    "its own encoding": (b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n", b"aGk=", "text/plain", "base64"),
}


@pytest.mark.parametrize(("fields", "body", "kind", "encoding"), BODIES.values(), ids=BODIES.keys())
async def test_mime_fields_say_what_the_body_is(fields, body, kind, encoding):
    out = await complete(fields + b"\r\n" + body + b"\r\n")
    assert (out.header.value(b"mime-version"), out.header.value(b"content-type"), out.header.value(b"content-transfer-encoding")) == ("1.0", kind, encoding)


async def test_bcc_and_return_path_go():
    out = await complete(b"Bcc: secret@example.org,\r\n other@example.org\r\nReturn-Path: <x@y.example>\r\nBCC: third@example.org\r\n" + FULL)
    assert b"secret" not in out.octets()
    assert b"third" not in out.octets()
    assert out.octets().endswith(FULL)
    assert out.trace[0].detail == "took out bcc, return-path"


async def test_several_recipients_are_not_told_about_each_other():
    assert b" for <" not in (await complete(FULL, "a@example.org", "b@example.org")).octets()


ORIGINS = {
    "IPv6": (Origin("smtp", "2001:db8::1", "app", "ESMTP"), "from app ([IPv6:2001:db8::1])\tby relay.example with ESMTP"),
    "no helo": (Origin("smtp", "192.0.2.1", "", "SMTP"), "from unknown ([192.0.2.1])\tby relay.example with SMTP"),
    "helo that would end the comment": (Origin("smtp", "192.0.2.1", "x) by evil\r\nX: y", "SMTP"), "from x??by?evil??X:?y ([192.0.2.1])"),
    "API": (Origin("http"), "by relay.example\tid "),
    "sendmail": (Origin("sendmail", with_="local"), "by relay.example with local\tid "),
}


@pytest.mark.parametrize(("origin", "expected"), ORIGINS.values(), ids=ORIGINS.keys())
async def test_received_tells_where_it_came_from(origin, expected):
    out = await complete(FULL, origin=origin)
    assert out.header.value(b"received").startswith(expected)
    assert out.header.fields[1].raw.startswith(b"From: Joe")


async def test_scheduled_mail_is_dated_when_it_leaves():
    out = await complete(FULL, wishes=Wishes(send_at=NOW + 70 * 86_400))
    assert [field.value for field in out.header.all(b"date")] == ["Mon, 30 Nov 2026 14:13:20 +0000"]


async def test_nothing_is_invented_for_the_null_sender():
    assert (await complete(BARE, sender="")).header.first(b"from") is None


@given(st.binary(max_size=400))
async def test_whatever_came_is_still_there(content):
    header, body = split(content)
    out = await complete(content)
    kept = tuple(field for field in header.fields if field.name not in headers.STRIPPED)
    assert out.header.fields[-len(kept):] == kept or not kept
    assert out.body == body


async def test_it_costs_little():
    policy, given = headers.make({}, services()), message(BARE)
    await policy.apply(given)
    start = time.thread_time()
    for _ in range(2_000):
        await policy.apply(given)
    assert (time.thread_time() - start) / 2_000 < 200e-6  # 20 us of the processor's time here; ten times that is a defect on any machine
