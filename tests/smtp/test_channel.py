"""A channel reads replies: the same whatever the segments, the same as aiosmtplib's, and never an exception."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.reply import Reply
from relay.smtp.answers import Extensions, offered
from relay.smtp.channel import Channel, Watch


class Wire(asyncio.Transport):
    """A transport into nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.cut = True

    def is_closing(self) -> bool:
        return self.cut


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def hear(loop: asyncio.AbstractEventLoop, chunks: list[bytes], expected: int = 1000) -> Channel:
    client = Channel(loop, Watch(loop))
    client.connection_made(Wire())
    client._expected = expected
    for chunk in chunks:
        if client.lost:
            break
        client.data_received(chunk)
    client._watch.drop(client)
    return client


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
REPLY = st.tuples(st.integers(200, 599), st.lists(TEXT, min_size=1, max_size=4)).map(
    lambda each: "".join(f"{each[0]}{'-' if number < len(each[1]) else ' '}{line}\r\n" for number, line in enumerate(each[1], 1)).encode())
OCTETS = st.binary(max_size=60) | st.sampled_from([
    b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"250-a\r\n", b"\r\n", b"\n", b"250", b"250\r\n", b"25 x\r\n", b"250 a\n250 b\r\n",
])


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


@given(st.lists(REPLY, max_size=5), st.lists(st.integers(0, 500), max_size=8))
def test_segments_do_not_matter(loop, replies, places):
    data = b"".join(replies)
    whole, cut = hear(loop, [data]), hear(loop, cuts(data, places))
    assert list(whole._replies) == list(cut._replies)
    assert len(whole._replies) == len(replies)
    assert not whole.lost


@given(st.lists(OCTETS, max_size=8))
def test_any_octets_are_replies_or_the_end(loop, chunks):
    client = hear(loop, chunks)
    assert all(isinstance(reply, Reply) for reply in client._replies)
    assert client.lost or len(client._buffer) < 33_000
    for reply in client._replies:
        reply.wire()  # what we store and print of it is printable


@given(st.lists(OCTETS, max_size=8).map(b"".join))
def test_the_quick_reading_agrees_with_the_full_parser(loop, data):
    quick, full = hear(loop, [data]), hear(loop, [data[:1], data[1:]])
    assert list(quick._replies) == list(full._replies)
    assert bool(quick.lost) == bool(full.lost) or quick._buffer, "garbage before an unfinished reply is found once that is finished"


@pytest.mark.parametrize(("chunks", "why"), [
    ([b"250-" + b"x" * 500 + b"\r\n"] * 70, "too long"), ([b"x" * 40_000], "too long"), ([b"HTTP/1.1 400 Bad\r\n"], "no SMTP"),
    ([b"250 ok\r\n"] * 20, "more than it was asked"),
], ids=["endless continuation", "endless line", "not SMTP", "flood"])
def test_a_mad_server_is_cut(loop, chunks, why):
    client = hear(loop, chunks, expected=3)
    assert why in client.lost
    assert not client.usable


def test_a_dripping_reply_costs_no_quadratic_time(loop):
    """Each continuation line is looked at once until the last has come."""
    client = hear(loop, [b"250-line\r\n"] * 3000 + [b"250 end\r\n"])
    assert len(client._replies) == 1


@pytest.mark.parametrize(("text", "expected"), [
    ("mx.test", Extensions("mx.test")),
    ("mx.test Hello you\nPIPELINING\nSIZE 1000\n8BITMIME\nSMTPUTF8\nDSN\nSTARTTLS\nAUTH PLAIN LOGIN",
     Extensions("mx.test", True, 1000, True, True, True, True, frozenset({"plain", "login"}))),
    ("mx.test\nSIZE", Extensions("mx.test")), ("mx.test\nSIZE 0", Extensions("mx.test")), ("mx.test\nSIZE -5", Extensions("mx.test")),
    ("mx.test\nSIZE " + "9" * 30, Extensions("mx.test")), ("mx.test\npipelining", Extensions("mx.test", True)),
    ("mx.test\nAUTH=PLAIN", Extensions("mx.test", auth=frozenset({"plain"}))), ("", Extensions()),
])
def test_extensions(text, expected):
    assert offered(text) == expected


@given(st.text(max_size=200))
def test_any_answer_to_ehlo_is_read(text):
    assert isinstance(offered(text), Extensions)
