"""Replies: read from a remote, written to a client, and never two of them in one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import reply
from relay.mail.reply import Reply, parse

REMOTE = {
    "plain": (250, "2.0.0 Ok", Reply(250, "2.0.0", "Ok")),
    "no enhanced status": (250, "Ok", Reply(250, "", "Ok")),
    "status alone": (550, "5.1.1", Reply(550, "5.1.1", "")),
    "on each line": (550, "5.7.1 one\n5.7.1 two", Reply(550, "5.7.1", "one\ntwo")),
    "on the first line": (550, "5.7.1 one\ntwo", Reply(550, "5.7.1", "one\ntwo")),
    "of another class": (250, "5.7.1 odd", Reply(250, "", "5.7.1 odd")),
    "a version number": (220, "2.0.0beta ready", Reply(220, "", "2.0.0beta ready")),
    "large numbers": (421, "4.7.650 slow down", Reply(421, "4.7.650", "slow down")),
    "nothing": (250, "", Reply(250, "", "")),
}


@pytest.mark.parametrize(("code", "text", "expected"), REMOTE.values(), ids=REMOTE.keys())
def test_parse(code, text, expected):
    assert parse(code, text) == expected


@pytest.mark.parametrize(("code", "positive", "transient", "permanent"), [
    (250, True, False, False), (354, True, False, False), (421, False, True, False), (550, False, False, True),
])
def test_what_a_code_means(code, positive, transient, permanent):
    assert (Reply(code).positive, Reply(code).transient, Reply(code).permanent) == (positive, transient, permanent)


WIRE = {
    "plain": (Reply(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n"),
    "no status": (Reply(220, "", "hi"), b"220 hi\r\n"),
    "lines": (Reply(250, "2.0.0", "a\nb"), b"250-2.0.0 a\r\n250 2.0.0 b\r\n"),
    "a forged reply": (Reply(550, "5.0.0", "no\r\n250 yes"), b"550-5.0.0 no?\r\n550 5.0.0 250 yes\r\n"),
    "outside ASCII": (Reply(550, "", "nö\x7f\x00"), b"550 n???\r\n"),
}


@pytest.mark.parametrize(("given_", "octets"), WIRE.values(), ids=WIRE.keys())
def test_wire(given_, octets):
    assert given_.wire() == octets


@given(st.integers(200, 599), st.sampled_from(["", "2.0.0", "5.7.1"]), st.text(max_size=2_000))
def test_any_text_is_one_reply_of_lines_that_fit(code, enhanced, text):
    lines = Reply(code, enhanced, text).wire().split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) <= reply.LINES
    assert all(len(line) + 2 <= 520 for line in lines)
    assert all(re.match(rb"%d-" % code, line) for line in lines[:-1])
    assert re.match(rb"%d " % code, lines[-1])
    assert all(0x20 <= octet <= 0x7E for line in lines for octet in line)
