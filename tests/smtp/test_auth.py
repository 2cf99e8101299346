"""SASL responses, and the guard against guessing."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.clock import Clock
from relay.errors import Refuse
from relay.smtp import auth
from relay.smtp.auth import Credential, Guard


@pytest.mark.parametrize(
    ("mechanism", "responses", "expected"),
    [
        ("PLAIN", [], b""),
        ("PLAIN", [b"\0api\0key"], Credential("api", "key")),
        ("PLAIN", [b"api\0api\0key"], Credential("api", "key")),
        ("PLAIN", [b"\0\0key"], Credential("", "key")),
        ("LOGIN", [], b"Username:"),
        ("LOGIN", [b"api"], b"Password:"),
        ("LOGIN", [b"api", b"key"], Credential("api", "key")),
        ("LOGIN", ["bücher".encode(), b"key"], Credential("bücher", "key")),
    ],
)
def test_mechanisms(mechanism: str, responses: list[bytes], expected: Credential | bytes):
    assert auth.MECHANISMS[mechanism](responses) == expected


@pytest.mark.parametrize(
    ("mechanism", "responses"),
    [
        ("PLAIN", [b""]),
        ("PLAIN", [b"api\0key"]),
        ("PLAIN", [b"other\0api\0key"]),
        ("PLAIN", [b"\0api\0key\0more"]),
        ("PLAIN", [b"\0api\0"]),
        ("PLAIN", [b"\0api\0\xff"]),
        ("PLAIN", [b"\0api\0" + b"k" * 1_025]),
        ("LOGIN", [b"a\0b", b"key"]),
    ],
    ids=repr,
)
def test_responses_that_do_not_fit(mechanism: str, responses: list[bytes]):
    with pytest.raises(Refuse) as refused:
        auth.MECHANISMS[mechanism](responses)
    assert refused.value.reply.code == 501


@given(st.text())
def test_any_response_is_decoded_or_refused(text: str):
    try:
        octets = auth.decoded(text)
    except Refuse:
        return
    assert base64.b64encode(octets).decode() == text or text == "="


def test_a_password_is_not_printed():
    assert "key" not in repr(Credential("api", "key"))


class Hand:
    """A clock that is moved by hand."""

    def __init__(self):
        self.at = 1_000.0
        self.clock = Clock(elapsed=lambda: self.at)


def test_five_failures_lock_an_address_out_for_ten_minutes():
    hand = Hand()
    guard = Guard(hand.clock)
    assert [guard.failed("192.0.2.1") for _ in range(4)] == [1, 2, 3, 4]
    assert not guard.locked("192.0.2.1")
    assert guard.failed("192.0.2.1") == 5
    assert guard.locked("192.0.2.1")
    assert not guard.locked("192.0.2.2")
    hand.at += auth.PERIOD + 1
    assert not guard.locked("192.0.2.1")


def test_failures_spread_over_time_do_not_add_up():
    hand = Hand()
    guard = Guard(hand.clock)
    for _ in range(20):
        guard.failed("192.0.2.1")
        hand.at += auth.PERIOD / 4
        assert not guard.locked("192.0.2.1")


def test_the_delay_grows_and_a_success_forgets():
    guard = Guard(Hand().clock)
    delays = []
    for _ in range(8):
        guard.failed("192.0.2.1")
        delays.append(guard.delay("192.0.2.1"))
    assert delays == sorted(delays)
    assert delays[0] == auth.DELAY
    assert delays[-1] == auth.DELAY_MOST
    guard.succeeded("192.0.2.1")
    assert guard.delay("192.0.2.1") == 0.0
    assert not guard.locked("192.0.2.1")


def test_an_ipv6_customer_is_one_client():
    guard = Guard(Hand().clock)
    for host in range(5):
        guard.failed(f"2001:db8:1:2::{host:x}")
    assert guard.locked("2001:db8:1:2:ffff::1")
    assert not guard.locked("2001:db8:1:3::1")


def test_the_guard_forgets_the_oldest_when_it_is_full():
    guard = Guard(Hand().clock)
    for _ in range(5):
        guard.failed("192.0.2.1")
    for number in range(auth.ADDRESSES):
        guard.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert not guard.locked("192.0.2.1")
    assert len(guard._failures) == auth.ADDRESSES
