"""The retry tables, read as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relay.schedule import DAY, EXPIRY, HOUR, JITTER, MINUTE, PLANS, counts, deadline, next_attempt, spread, warns


@pytest.mark.parametrize(
    ("kind", "attempts", "age", "stream", "hint", "wait"),
    [
        pytest.param("standard", 1, 0, "transactional", None, 1 * MINUTE, id="standard-first"),
        pytest.param("standard", 5, HOUR, "transactional", None, 40 * MINUTE, id="standard-fifth"),
        pytest.param("standard", 9, 9 * HOUR, "transactional", None, 4 * HOUR, id="standard-ninth"),
        pytest.param("standard", 40, 30 * HOUR, "transactional", None, 4 * HOUR, id="standard-every-four-hours-for-good"),
        pytest.param("standard", 12, 47 * HOUR, "transactional", None, 1 * HOUR, id="the-last-attempt-is-at-the-deadline"),
        pytest.param("standard", 12, 2 * DAY - 5, "transactional", None, 1 * MINUTE, id="never-sooner-than-a-minute"),
        pytest.param("standard", 12, 2 * DAY, "transactional", None, None, id="transactional-gives-up-after-two-days"),
        pytest.param("standard", 12, 2 * DAY, "marketing", None, 4 * HOUR, id="marketing-goes-on"),
        pytest.param("standard", 30, 5 * DAY, "marketing", None, None, id="marketing-gives-up-after-five-days"),
        pytest.param("standard", 1, 0, "transactional", 7200.0, 1 * MINUTE, id="a-hint-is-for-greylisting-only"),
        pytest.param("otp", 1, 1, "transactional", None, 15.0, id="otp-first"),
        pytest.param("otp", 6, 1300, "transactional", None, 20 * MINUTE, id="otp-sixth"),
        pytest.param("otp", 7, HOUR, "transactional", None, None, id="otp-is-worthless-after-an-hour"),
        pytest.param("greylist", 1, 1, "transactional", None, 5 * MINUTE, id="greylist-first"),
        pytest.param("greylist", 2, 300, "transactional", None, 6 * MINUTE, id="greylist-second"),
        pytest.param("greylist", 3, 700, "transactional", None, 10 * MINUTE, id="greylist-third"),
        pytest.param("greylist", 1, 1, "transactional", 120.0, 150.0, id="greylist-with-a-hint"),
        pytest.param("greylist", 1, 1, "transactional", 9e9, 4 * HOUR + 30, id="greylist-with-an-absurd-hint"),
        pytest.param("greylist", 5, 2000, "transactional", 120.0, 40 * MINUTE, id="greylist-that-never-lifts"),
        pytest.param("full", 1, 1, "transactional", None, 1 * HOUR, id="full-first"),
        pytest.param("full", 4, 18 * HOUR, "transactional", None, 24 * HOUR, id="full-fourth"),
        pytest.param("full", 5, 3 * DAY, "marketing", None, None, id="full-gives-up-after-three-days"),
        pytest.param("rate", 1, 0, "transactional", None, 1 * MINUTE, id="rate-first"),
        pytest.param("rate", 1, 600, "transactional", None, 10 * MINUTE, id="rate-as-long-again"),
        pytest.param("rate", 0, 9 * HOUR, "transactional", None, 1 * HOUR, id="rate-at-most-hourly"),
        pytest.param("site", 0, 600, "marketing", None, 10 * MINUTE, id="site-unreachable"),
        pytest.param("site", 0, 5 * DAY, "marketing", None, None, id="site-unreachable-past-the-deadline"),
        pytest.param("unheard-of", 1, 0, "transactional", None, 1 * MINUTE, id="an-unknown-kind-is-standard"),
        pytest.param("standard", 1, -500, "transactional", None, 1 * MINUTE, id="a-clock-that-stepped-back"),
    ],
)
def test_next_attempt(kind, attempts, age, stream, hint, wait):
    assert next_attempt(kind, attempts, age, stream, hint) == wait


@given(some.sampled_from([*PLANS, "rate", "site"]), some.integers(0, 100), some.floats(0, 6 * DAY), some.sampled_from(list(EXPIRY)))
def test_a_wait_is_never_past_the_deadline_nor_hot(kind, attempts, age, stream):
    wait = next_attempt(kind, attempts, age, stream)
    if wait is None:
        assert age >= deadline(kind, stream)
    else:
        assert wait >= 15.0
        assert age + wait <= deadline(kind, stream) + MINUTE


@pytest.mark.parametrize("kind", ["rate", "site"])
def test_a_paced_wait_does_not_keep_a_login_code_alive(kind):
    assert next_attempt(kind, 0, HOUR - MINUTE, table="otp") == MINUTE
    assert next_attempt(kind, 0, HOUR, table="otp") is None
    assert next_attempt(kind, 0, HOUR, table="full") == HOUR


def test_every_failure_comes_to_an_end_by_itself():
    for kind in [*PLANS, "rate", "site"]:
        age, attempts = 0.0, 0
        while (wait := next_attempt(kind, attempts := attempts + 1, age, "marketing")) is not None:
            age += wait
        assert age >= deadline(kind, "marketing")
        assert attempts < 200


@pytest.mark.parametrize(("kind", "own"), [("standard", True), ("full", True), ("greylist", True), ("rate", False), ("site", False)])
def test_only_the_messages_own_failures_count(kind, own):
    assert counts(kind) is own


def test_jitter_is_full_and_bounded():
    assert spread(100.0, 0.0) == pytest.approx(100 * (1 - JITTER))
    assert spread(100.0, 0.5) == pytest.approx(100.0)
    assert spread(100.0, 0.999999) < 100 * (1 + JITTER)


@pytest.mark.parametrize(
    ("notify", "warned", "age", "due"),
    [
        pytest.param("DELAY", False, 4 * HOUR, True, id="asked-for"),
        pytest.param("SUCCESS,DELAY", False, 5 * HOUR, True, id="asked-among-others"),
        pytest.param("", False, 5 * HOUR, False, id="not-by-default"),
        pytest.param("NEVER", False, 5 * HOUR, False, id="never"),
        pytest.param("DELAY", True, 5 * HOUR, False, id="once"),
        pytest.param("DELAY", False, 3 * HOUR, False, id="too-early"),
    ],
)
def test_delay_report(notify, warned, age, due):
    assert warns(notify, warned, age, 4 * HOUR) is due
