"""The engine without sockets: any split of the same octets gives the same dialog, and no octets get anything but SMTP out of it."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.smtp.commands import VERBS
from relay.smtp.desk import Session
from relay.smtp.engine import ANSWER, CLOSE, MESSAGE, OCTETS, PAUSE, TLS, Engine, Terms
from tests.smtp.desk import Desk

LINE = re.compile(rb"[2-5][0-9][0-9](?:[ -][ -~]*)?\r\n")

CONVERSATIONS = (
    b"MAIL FROM:<a@example.com> SIZE=10\r\nRCPT TO:<later@example.org>\r\nRCPT TO:<refused@example.org>\r\nDATA\r\nSubject: x\r\n\r\n..\r\nb\r\n.\r\nQUIT\r\n",
    b"MAIL FROM:<later@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 5\r\nab\r\ncBDAT 0\r\nBDAT 4 LAST\r\n\r\n.\r\nNOOP\r\nRSET\r\nQUIT\r\n",
    b"NOOP\r\n\r\nNONSENSE\r\nMAIL FROM:<a@b.c\nAUTH PLAIN\r\nAGFwaQBnb29k\r\nAUTH LOGIN\r\n*\r\n"
    b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n.\r\nVRFY x\r\n",
    b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\na\nb\r\n.\nc\r\n.\r\r\n.\r\n"
    b"MAIL FROM:<a@example.com>\r\n\xff\xfe\r\nRCPT TO:<\x00@b>\r\nDATA\r\nHELP\r\n",
)


class Driver:
    """Plays the part of the connection: answers what the engine wants, in the order in which it asks, without a loop."""

    def __init__(self, max_size: int = 400, trusted: bool = True, listener: str = "submission"):
        self.desk = Desk()
        self.terms = Terms("relay.test", VERBS, listener, max_size, starttls=True)
        self.engine = Engine(self.desk, self.terms, Session("192.0.2.1", 4711, listener, trusted, True))

    def feed(self, octets: bytes) -> None:
        self.engine.feed(octets)
        while self.engine.want in (ANSWER, MESSAGE, PAUSE, TLS):
            if self.engine.want == TLS:
                self.engine.secured("TLSv1.3 cipher X")
            elif self.engine.want == PAUSE:
                self.engine.answer(None)
            else:
                self._answer()

    def _answer(self) -> None:
        coroutine = self.engine.pending
        try:
            while True:
                coroutine.send(None)
        except StopIteration as done:
            self.engine.answer(done.value)
        except Exception as error:
            self.engine.fault(error)

    def said(self) -> bytes:
        return b"".join(self.engine.out)


def dialog(octets: bytes, cuts: list[int]) -> tuple[bytes, list[str], int]:
    """What the server says and asks its desk when the octets come cut at these places, after an EHLO."""
    driver = Driver()
    driver.feed(b"EHLO client\r\n")
    places = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
    for start, stop in pairwise(places):
        driver.feed(octets[start:stop])
    return driver.said(), driver.desk.log, driver.engine.want


@pytest.mark.parametrize("octets", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_octet_by_octet_is_as_good_as_at_once(octets: bytes):
    assert dialog(octets, list(range(len(octets)))) == dialog(octets, [])


@given(st.sampled_from(CONVERSATIONS), st.lists(st.integers(0, 300), max_size=12))
def test_any_split_gives_the_same_dialog(octets: bytes, cuts: list[int]):
    assert dialog(octets, cuts) == dialog(octets, [])


PIECES = st.one_of(
    st.sampled_from([
        b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA\r\n", b"BDAT 3\r\n", b"BDAT 2 LAST\r\n",
        b"RSET\r\n", b"QUIT\r\n", b"AUTH PLAIN ", b"AUTH LOGIN\r\n", b"AGFwaQBnb29k\r\n", b"AGFwaQB3cm9uZw==\r\n", b"STARTTLS\r\n",
        b".\r\n", b"\r\n.\r\n", b"\r\n", b"\n", b"\r",
        b"\0", b" SIZE=300", b" BODY=8BITMIME", b" SMTPUTF8", b" NOTIFY=NEVER", b"later@", b"fault@", b"X-Desk: crash", b"BDAT 99999999999999\r\n", b"x" * 600,
        b"VRFY x\r\n", b"HELP mail\r\n",
    ]),
    st.binary(max_size=40),
)


@settings(max_examples=300)
@given(st.lists(st.lists(PIECES, max_size=6).map(b"".join), max_size=20), st.booleans(), st.sampled_from(["submission", "inbound"]))
def test_any_octets_in_give_whole_reply_lines_out(packets: list[bytes], trusted: bool, listener: str):
    driver = Driver(200, trusted, listener)
    for packet in packets:
        driver.feed(packet)
        if driver.engine.want == CLOSE:
            break
        assert driver.engine.want == OCTETS
    for line in driver.said().splitlines(keepends=True):
        assert LINE.fullmatch(line), line
        assert len(line) <= 512
    assert b"secret" not in driver.said()
    driver.engine.lost()
    assert driver.terms.budget.used == 0


def test_every_refusal_has_an_enhanced_status():
    driver = Driver()
    for command in (b"MAIL", b"RCPT", b"EHLO", b"AUTH", b"BDAT 3\r\nabc", b"VRFY", b"NONSENSE", b"ETRN", b"RSET x"):
        driver.engine.errors = 0
        driver.feed(command + b"\r\n")
    lines = [line for line in driver.said().splitlines() if line[:1] in b"45"]
    assert len(lines) > 8
    for line in lines:
        assert re.match(rb"([45])[0-9][0-9][ -]\1\.[0-9]{1,3}\.[0-9]{1,3} ", line), line


def test_many_commands_in_one_packet_cost_no_copies_of_it():
    """Time is the proof: 40,000 commands in one packet, each copying the rest of it, would take minutes."""
    driver = Driver()
    driver.engine.errors = -1_000_000
    driver.feed(b"EHLO client\r\n")
    driver.feed(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n" + b"BDAT 1\r\nx" * 40_000)
    assert driver.engine.content.received == 40_000 or driver.engine.content.refusal is not None


def test_a_closing_listener_lets_the_transaction_end():
    driver = Driver()
    driver.feed(b"EHLO client\r\n")
    driver.feed(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\ntext\r\n")
    driver.engine.close()
    assert driver.engine.want == OCTETS
    driver.feed(b".\r\nMAIL FROM:<second@example.com>\r\n")
    assert driver.engine.want == CLOSE
    assert re.search(rb"\r\n250 2\.0\.0 queued as em_0000000000001\r\n421 4\.3\.2 [^\n]+\r\n$", driver.said())


def test_who_only_keeps_talking_is_sent_away():
    driver = Driver()
    driver.feed(b"EHLO client\r\n")
    driver.feed(b"NOOP\r\n" * 100)
    assert driver.engine.want == OCTETS
    driver.feed(b"NOOP\r\n" * 20)
    assert driver.engine.want == CLOSE
    assert driver.said().endswith(b"421 4.7.0 too many errors, closing\r\n")


def test_a_new_message_makes_room_for_more_idle_commands():
    driver = Driver()
    driver.feed(b"EHLO client\r\n")
    for _ in range(5):
        driver.feed(b"NOOP\r\n" * 50 + b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n.\r\n")
    assert driver.engine.want == OCTETS

