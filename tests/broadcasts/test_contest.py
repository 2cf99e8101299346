"""A/B tests in numbers: even shares by position, and how sure a winner is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relay.broadcasts.contest import confidence, decided, in_sample, sampled, standing, variant


@given(some.integers(1, 3_000), some.floats(5, 50))
def test_of_any_first_contacts_the_sample_is_its_share_rounded_up(count, percent):
    taken = [n for n in range(count) if in_sample(n, percent)]
    assert abs(len(taken) - count * percent / 100) < 1 + 1e-6
    assert [sampled(n, percent) for n in taken] == list(range(len(taken))), "positions in the sample are counted without a gap"


@pytest.mark.parametrize("weights", [(50, 50), (20, 80), (10, 20, 30, 40), (20, 20, 20, 20, 20), (1, 99)])
def test_variants_are_shared_by_weight(weights):
    got = Counter(variant(n, weights) for n in range(10_000))
    for number, weight in enumerate(weights, 1):
        assert abs(got[number] / 100 - weight) < 1


@pytest.mark.parametrize(("done", "out_of", "winner"), [
    pytest.param({1: 10, 2: 20}, {1: 100, 2: 100}, 2, id="higher rate"),
    pytest.param({1: 10, 2: 15}, {1: 50, 2: 100}, 1, id="rate, not number"),
    pytest.param({}, {1: 5, 2: 5}, 1, id="nothing yet"),
    pytest.param({}, {1: 0, 2: 0}, 1, id="nobody yet"),
    pytest.param({1: 1, 2: 5, 3: 9}, {1: 10, 2: 10, 3: 10}, 3, id="three"),
])
def test_the_best_rate_wins(done, out_of, winner):
    assert decided(done, out_of).winner == winner


@pytest.mark.parametrize(("test", "winner"), [
    pytest.param(None, 2, id="opens unless said otherwise"),
    pytest.param({"metric": "open_rate"}, 2, id="opens"),
    pytest.param({"metric": "click_rate"}, 1, id="clicks"),
])
def test_who_leads_is_told_by_the_metric_of_the_test_from_figures_read_once(test, winner):
    figures = {0: Counter(skipped=3), 1: Counter(delivered=4, opened=1, clicked=1), 2: Counter(delivered=4, opened=3)}
    found = standing(test, [1, 2, 3], figures)
    assert found.winner == winner
    assert set(found.rates) == {1, 2, 3}


@pytest.mark.parametrize(("numbers", "sure"), [
    pytest.param((60, 100, 45, 100), 0.983, id="z of 2.12"),  # by hand: p = 0.525, se = 0.0706
    pytest.param((50, 100, 50, 100), 0.5, id="the same"),
    pytest.param((0, 100, 0, 100), 0.5, id="nothing on both sides"),
    pytest.param((5, 0, 1, 10), None, id="nobody got it"),
])
def test_confidence_is_that_of_two_proportions(numbers, sure):
    found = confidence(*numbers)
    assert found == sure if sure is None else abs(found - sure) < 0.001


@given(some.integers(0, 500), some.integers(0, 500), some.integers(0, 500), some.integers(0, 500))
def test_confidence_is_a_probability(done, more, other, more_other):
    found = confidence(done, done + more, other, other + more_other)
    assert found is None or 0.0 <= found <= 1.0
