"""How the octets of a message are taken in and judged."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.reply import Reply
from relay.smtp import content
from relay.smtp.content import BARE, LONG, LOOP, NO_ROOM, NUL, TOO_LARGE, Content, fault, unstuffed
from relay.smtp.limits import Budget

# The sequences that some server takes for the end of data (smuggling, CVE-2023-51764, -51765, -51766).
SMUGGLING = (
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\n.\r", b"\r.\n", b"\r.\r\n", b"\r.\r", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\r\n.\r\n", b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n", b"\r\n.\r", b"\n\n.\r\n", b"\n.\n\r",
)


def taken(octets: bytes, cuts: list[int], limit: int = 10_000) -> tuple[bytes | Reply, bytes]:
    """The message, and what is left for the next command, when the octets come cut at these places."""
    budget = Budget(1_000_000)
    coming = Content(limit, budget)
    places = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
    for start, stop in pairwise(places):
        end = coming.until_dot(octets[:stop], start)
        if end >= 0:
            message = coming.finish(True)
            coming.release()
            assert budget.used == 0
            return message, octets[end:]
    raise AssertionError("no end of data")


@given(st.lists(st.sampled_from([b"a", b".", b"\r\n", b"..", b"text"]), max_size=30).map(b"".join), st.lists(st.integers(0, 120), max_size=8))
def test_the_end_of_data_is_found_wherever_packets_are_cut(body: bytes, cuts: list[int]):
    octets = body + b"\r\n.\r\nQUIT\r\n"
    whole = b"\r\n" + octets
    end = whole.index(b"\r\n.\r\n")
    assert taken(octets, cuts) == (unstuffed(whole[2:end + 2]), whole[end + 5:])


TEXT = st.binary(max_size=60).map(lambda line: line.translate(None, b"\r\n\0"))


@given(st.lists(TEXT, max_size=20), st.lists(st.integers(0, 900)))
def test_what_a_client_stuffs_comes_out_as_it_was(lines: list[bytes], cuts: list[int]):
    message = b"".join(line + b"\r\n" for line in lines)
    wire = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    assert taken(wire + b".\r\n", cuts) == (message, b"")


@pytest.mark.parametrize("sequence", SMUGGLING, ids=repr)
def test_no_sequence_but_crlf_dot_crlf_ends_data_or_passes(sequence: bytes):
    hidden = b"Subject: x\r\n\r\ntext" + sequence + b"MAIL FROM:<smuggled@example.com>\r\n.\r\n"
    message, rest = taken(hidden, [])
    assert message in (BARE, NUL)
    assert rest == b"" or rest.startswith((b"MAIL", b"\nMAIL")), "only a true CRLF.CRLF inside may have ended it"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", None),
        (b"a\r\n", None),
        (b"a\nb\r\n", BARE),
        (b"a\rb\r\n", BARE),
        (b"a\r\r\n", BARE),
        (b"a\n\r\n", BARE),
        (b"a\0b\r\n", NUL),
        (b"\xff\xfe\r\n", None),
        (b"x" * 998 + b"\r\n", None),
        (b"x" * 999 + b"\r\n", LONG),
        (b"a\r\n" + b"x" * 999 + b"\r\nb\r\n", LONG),
        ((b"x" * 998 + b"\r\n") * 50, None),
        (b"Received: x\r\n" * 50 + b"\r\n", None),
        (b"rEcEiVeD: x\r\n" * 51 + b"\r\n", LOOP),
        (b"a: b\r\n" + b"Received: x\r\n" * 51, LOOP),
        (b"a: b\r\n\r\n" + b"Received: x\r\n" * 99, None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_faults(octets: bytes, expected: Reply | None):
    assert fault(octets) == expected


@given(st.lists(st.integers(0, 1_100), max_size=30))
def test_long_lines_are_found_as_counting_each_would(lengths: list[int]):
    octets = b"".join(b"x" * length + b"\r\n" for length in lengths)
    assert fault(octets) == (LONG if max(lengths, default=0) > 998 else None)


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\xff", b"long text"]), max_size=40).map(b"".join), st.integers(1, 20))
def test_bare_newlines_are_found_as_a_pattern_would_find_them(octets: bytes, block: int):
    expected = re.search(rb"\r(?!\n)|(?<!\r)\n", octets) is None
    assert content._only_crlf(octets) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "BLOCK", block)
        assert content._only_crlf(octets) == expected


def test_a_message_is_refused_by_the_size_that_its_sender_wrote():
    stuffed = b"..\r\n" * 100  # 300 octets without the stuffed dots
    assert taken(stuffed + b".\r\n", [], limit=300)[0] == b".\r\n" * 100
    assert taken(stuffed + b".\r\n", [], limit=299)[0] == TOO_LARGE


def test_a_refused_message_keeps_nothing():
    budget = Budget(100)
    coming = Content(1_000, budget)
    coming.add(b"x" * 90, 0, 90)
    assert budget.used == 90
    coming.add(b"x" * 90, 0, 90)
    assert budget.used == 0
    assert coming.finish(False) == NO_ROOM


def test_a_finished_message_is_counted_until_it_is_released():
    budget = Budget(100)
    coming = Content(1_000, budget)
    assert coming.reserve(10)
    coming.add(b"x" * 48 + b"\r\n", 0, 50)
    assert coming.finish(False) == b"x" * 48 + b"\r\n"
    assert budget.used == 50
    coming.release()
    assert budget.used == 0
