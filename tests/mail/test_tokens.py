"""Tokens: ours are read, everybody else's are not, and a token of one kind is none of another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.clock import Clock
from relay.errors import Expired, NotFound
from relay.mail import tokens
from relay.mail.tokens import CLICK, OPEN, UNSUBSCRIBE, Tokens

SECRET = "a secret of thirty-two characters"
NOW = 1_790_000_000.0
OURS = Tokens((SECRET,), Clock(now=lambda: NOW))


@given(st.sampled_from([UNSUBSCRIBE, OPEN, CLICK]), st.binary(max_size=60), st.none() | st.integers(int(NOW), 2**32 - 1))
def test_what_goes_in_comes_out(kind, data, expires):
    token = OURS.make(kind, data, expires)
    assert OURS.read(kind, token) == data
    assert token == OURS.make(kind, data, expires)


def test_an_unsubscribe_address_fits_a_local_part_and_survives_case_folding():
    token = OURS.make(UNSUBSCRIBE, tokens.pack(2**63 - 1), NOW + 60 * 86_400)
    assert len(f"unsub+{token}") <= 64
    assert token == token.lower()
    assert tokens.unpack(OURS.read(UNSUBSCRIBE, token.upper())) == (2**63 - 1, b"")


def test_a_click_token_carries_its_target():
    data = tokens.pack(7, b"https://example.com/?a=b&c=%20#x")
    assert tokens.unpack(OURS.read(CLICK, OURS.make(CLICK, data))) == (7, b"https://example.com/?a=b&c=%20#x")


def test_a_lapsed_token_still_says_whose_it_was_and_a_forged_one_does_not():
    assert OURS.lapsed(UNSUBSCRIBE, OURS.make(UNSUBSCRIBE, b"x", NOW - 1)) == OURS.lapsed(UNSUBSCRIBE, OURS.make(UNSUBSCRIBE, b"x")) == b"x"
    for kind, maker in ((OPEN, OURS), (UNSUBSCRIBE, Tokens(("another secret of 32 characters..",), OURS.clock))):
        with pytest.raises(NotFound):
            OURS.lapsed(UNSUBSCRIBE, maker.make(kind, b"x", NOW - 1))


def test_expired_is_told_apart_from_forged():
    token = OURS.make(UNSUBSCRIBE, b"x", NOW - 1)
    with pytest.raises(Expired):
        OURS.read(UNSUBSCRIBE, token)
    forged = Tokens(("another secret of 32 characters..",), OURS.clock).make(UNSUBSCRIBE, b"x", NOW - 1)
    with pytest.raises(NotFound):
        OURS.read(UNSUBSCRIBE, forged)


def test_one_kind_is_none_of_another():
    with pytest.raises(NotFound):
        OURS.read(OPEN, OURS.make(UNSUBSCRIBE, b"x"))


def test_a_rotated_secret_still_reads_old_tokens_and_signs_no_new_ones():
    new = Tokens(("the new secret, also 32 characters", SECRET), OURS.clock)
    assert new.read(OPEN, OURS.make(OPEN, b"x")) == b"x"
    with pytest.raises(NotFound):
        OURS.read(OPEN, new.make(OPEN, b"x"))


@given(st.sampled_from([UNSUBSCRIBE, CLICK]), st.binary(max_size=20), st.data())
def test_no_changed_token_is_read(kind, data, draw):
    token = OURS.make(kind, data, NOW + 1)
    at = draw.draw(st.integers(0, len(token) - 1))
    letter = draw.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567-_="))
    changed = token[:at] + letter + token[at + 1:]
    if changed != token:
        with pytest.raises(NotFound):
            OURS.read(kind, changed)


@given(st.sampled_from([UNSUBSCRIBE, CLICK]), st.text(max_size=80))
def test_any_text_is_answered_by_not_found(kind, text):
    with pytest.raises(NotFound):
        OURS.read(kind, text)


def test_an_endless_token_is_not_decoded():
    with pytest.raises(NotFound):
        OURS.read(CLICK, "a" * 10_000_000)
