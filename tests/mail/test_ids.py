"""Ids: they differ, they sort by time, and their text says what they are."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import ids


@given(st.integers(0, 2**63 - 1))
def test_the_text_is_the_number(number):
    text = ids.public("em", number)
    assert len(text) == 3 + ids.LENGTH
    assert ids.internal(text) == ids.internal(text, "ct", "em") == number
    assert ids.internal(text, "ct") is None


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_text_sorts_as_numbers_do(one, other):
    assert (ids.public("em", one) < ids.public("em", other)) == (one < other)


@pytest.mark.parametrize("text", [
    "", "em", "em_", "em_0", "em_" + "0" * 14, "em_" + "u" * 13, "em_" + "0" * 12 + "O", "em_" + "z" * 13, "em-0000000000000", "0" * 13, "em_000000000000é",
])
def test_what_is_no_id(text):
    assert ids.internal(text) is None


def test_a_maker_never_repeats_and_never_goes_back():
    maker = ids.Maker(5)
    made = [maker.next() for _ in range(50_000)]
    assert all(one < other for one, other in pairwise(made))
    assert all(0 < number < 2**63 for number in made)
    assert abs((made[-1] >> 21) + ids.EPOCH - time.time() * 1_000) < 60_000


def test_two_processes_make_different_ids():
    one, other = ids.Maker(1), ids.Maker(2)
    assert not {one.next() for _ in range(5_000)} & {other.next() for _ in range(5_000)}


def test_an_id_says_when_it_was_made():
    before = time.time()
    assert before - 0.001 <= ids.made_at(ids.Maker().next()) <= time.time()
