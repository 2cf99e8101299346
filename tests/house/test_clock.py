"""A clock that somebody sets: found by its distance from the other one, logged, counted, and kept for `relay check`."""

from __future__ import annotations

import pytest

from relay.clock import STEP, Clock, Steps
from relay.housekeeping import House, watch_clock
from relay.metrics import REGISTRY
from relay.store import steps
from relay.store.engine import Store

NOW = 1_790_000_000.0


class Hands:
    """Both clocks of a machine, moved by the test."""

    def __init__(self) -> None:
        self.wall, self.ticks = NOW, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.ticks)

    def passes(self, seconds: float, step: float = 0.0) -> None:
        self.wall += seconds + step
        self.ticks += seconds


@pytest.mark.parametrize(("moves", "told"), [
    pytest.param([(60, 0), (86_400, 0)], [0, 0], id="time-passes"),
    pytest.param([(60, 3_600), (60, 0)], [3_600, 0], id="forward-and-told-once"),
    pytest.param([(60, -3_600), (60, 3_600)], [-3_600, 3_600], id="back-and-forward-again"),
    pytest.param([(0, STEP)], [STEP], id="just-enough"),
    pytest.param([(60, 59)] * 3, [0, 0, 0], id="slewing-adds-up-to-nothing"),
])
def test_a_step_is_what_one_clock_went_and_the_other_did_not(moves, told):
    hands = Hands()
    watch = Steps(hands.clock)
    found = []
    for seconds, step in moves:
        hands.passes(seconds, step)
        found.append(watch.look())
    assert found == told


async def test_a_relay_counts_its_steps_and_keeps_the_last(store_url, tmp_path):
    hands = Hands()
    store = await Store.open(store_url, tmp_path / "data", clock=hands.clock, min_free=0, reserve=0)
    house = House(store, None, hands.clock, None, None, None)

    async def looked() -> list[float]:
        before = [counted(way) for way in ("forward", "back")]
        await watch_clock(house)
        return [counted(way) - was for way, was in zip(("forward", "back"), before, strict=True)]

    hands.passes(60)
    assert await looked() == [0, 0]
    assert await store.read(steps.last) is None
    hands.passes(60, 7_200)
    assert await looked() == [1, 0]
    assert await store.read(steps.last) == (hands.wall, 7_200)
    hands.passes(60, -3_600)
    assert await looked() == [0, 1]
    hands.passes(60)
    assert await looked() == [0, 0]
    assert await store.read(steps.last) == (hands.wall - 60, -3_600)
    await store.close()


def counted(way: str) -> float:
    return REGISTRY.get_sample_value("relay_clock_steps_total", {"direction": way}) or 0.0
