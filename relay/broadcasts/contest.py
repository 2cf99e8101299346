"""A/B tests: who is in the sample, which variant each of them gets, and who has won. Plain functions of numbers.

The sample is spread evenly over the audience, and so are the variants over the sample, by position alone: a broadcast that goes on after a crash goes on with
the same shares. The winner is the variant with the highest rate; how sure that is comes from a two-proportion z-test against the second best (Fleiss,
Statistical Methods for Rates and Proportions, §2.3), one-sided, and is shown, never waited for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GOLDEN = (math.sqrt(5) - 1) / 2  # steps that fill a circle most evenly, however many are taken
METRICS = {"open_rate": "opened", "click_rate": "clicked"}


@dataclass(frozen=True, slots=True)
class Result:
    """`winner` is a variant's number; `confidence` between 0.5 and 1 that it is better than the second best, None without anything to compare."""

    winner: int
    rates: Mapping[int, float]
    confidence: float | None


def in_sample(position: int, percent: float) -> bool:
    """Whether the contact at this position (from 0) is in the sample; of any first n, percent of them rounded up are."""
    share = percent / 100
    return math.ceil((position + 1) * share - 1e-9) > math.ceil(position * share - 1e-9)


def variant(position: int, weights: Sequence[int]) -> int:
    """The number (from 1) of the variant for this position of the sample, by weight."""
    point = (position * GOLDEN) % 1.0 * sum(weights)
    for number, weight in enumerate(weights, 1):
        point -= weight
        if point < 0:
            return number
    return len(weights)


def sampled(position: int, percent: float) -> int:
    """How many of the first `position` contacts are in the sample: the position in the sample of the next that is."""
    return math.ceil(position * percent / 100 - 1e-9)


def standing(test: Mapping[str, Any] | None, numbers: Sequence[int], figures: Mapping[int, Mapping[str, int]]) -> Result:
    """Who leads by these figures (relay.store.broadcasts.counts) of the variants with these numbers."""
    name = METRICS[test["metric"] if test else "open_rate"]
    return decided({n: figures.get(n, {}).get(name, 0) for n in numbers}, {n: figures.get(n, {}).get("delivered", 0) for n in numbers})


def decided(done: Mapping[int, int], out_of: Mapping[int, int]) -> Result:
    """The result, from how many opened (or clicked) and how many got each variant. Without any difference the first variant wins."""
    rates = {number: done.get(number, 0) / out_of[number] if out_of[number] else 0.0 for number in out_of}
    best = max(sorted(rates), key=lambda number: rates[number])
    others = [number for number in sorted(rates) if number != best]
    second = max(others, key=lambda number: rates[number], default=None)
    if second is None:
        return Result(best, rates, None)
    return Result(best, rates, confidence(done.get(best, 0), out_of[best], done.get(second, 0), out_of[second]))


def confidence(done: int, out_of: int, done_other: int, out_of_other: int) -> float | None:
    """How sure it is that the first rate is higher than the second; None when nobody got one of them."""
    if not out_of or not out_of_other:
        return None
    pooled = (done + done_other) / (out_of + out_of_other)
    spread = math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / out_of + 1 / out_of_other))
    if spread == 0:
        return 0.5
    return 0.5 * (1 + math.erf((done / out_of - done_other / out_of_other) / spread / math.sqrt(2)))
