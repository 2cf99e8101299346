"""What a site taught us is as it was after a restart."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relay.clock import Clock
from relay.queue import pace
from relay.queue.site import START, Site, Slowed
from relay.schedule import HOUR
from relay.shaping import Limits, Rate
from relay.store import sites
from tests.queue.conftest import running, settings
from tests.support.sink import Script, Sink

HERE, OFFSET = 1_000.0, 1_700_000_000.0  # monotonic seconds, and what UTC is more

SLOWED = some.builds(Slowed, some.floats(HERE - 100, HERE + 10_000), some.none() | some.builds(Rate, some.integers(1, 100), some.floats(1, 100)),
                     some.none() | some.integers(1, 10), some.none() | some.integers(1, 100))


def site(**state):
    made = Site("mx.test", Limits(), "other")
    for name, value in state.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(("window", "back"), [(1.0, 1.0), (2.7, 2.0), (4.99, 4.0), (START, START), (9.0, START)])
def test_a_smaller_window_comes_back_whole(window, back):
    fresh = site()
    lessons = pace.of(site(window=window), HERE, OFFSET)
    assert bool(lessons) == (window < START)
    if lessons:
        pace.teach(fresh, lessons, HERE, OFFSET)
    assert fresh.window == back


@given(some.floats(1, 20), some.lists(SLOWED, max_size=30), some.floats(-500, 500))
def test_a_site_is_no_faster_after_a_restart_than_before_it(window, slowed, later):
    before, after = site(window=window, slowed=slowed), site()
    lessons = pace.of(before, HERE, OFFSET)
    now, offset = 5.0, OFFSET + HERE + later - 5.0  # the machine has started again: its monotonic clock too
    if lessons:
        pace.teach(after, lessons, now, offset)
    assert after.window <= max(1.0, before.window)
    assert len(after.slowed) <= pace.MOST
    kept = [each for each in before.slowed if each.until > HERE][:pace.MOST]
    for each in after.slowed:
        assert any((each.rate, each.connections, each.messages) == (b.rate, b.connections, b.messages)
                   and abs(each.until + offset - b.until - OFFSET) < 1 for b in kept)


async def test_what_a_server_bears_is_known_after_a_restart_and_for_an_hour(store_url, tmp_path):
    shift = [0.0]
    clock = Clock(now=lambda: time.time() + shift[0], elapsed=lambda: time.monotonic() + shift[0])
    with Sink(Script(connections=1, delays={"dot": 0.01})) as sink:
        config = settings(routes={"*": f"127.0.0.1:{sink.port}"})
        name = f"route:127.0.0.1:{sink.port}"
        async with running(store_url, tmp_path, config, clock=clock) as bench:
            learned = await taught(bench, name)
            assert learned < START
            await bench.runner.drain(1.0)
        async with running(store_url, tmp_path, config, clock=clock) as bench:
            assert await window(bench, name) == learned
            shift[0] += 0.9 * HOUR
            await bench.runner.paces.keep()  # it is so yet, and so counts for another hour
        shift[0] += 0.9 * HOUR
        async with running(store_url, tmp_path, config, clock=clock) as bench:
            assert await window(bench, name) == learned
            await bench.store.write(sites.resume, name, clock.now())  # as an operator does
            bench.runner.resume(name)
            await bench.runner.paces.keep()
            assert [site.pace for site in await bench.store.read(sites.remembered, clock.now())] == []


async def test_what_a_server_bore_an_hour_ago_is_forgotten(store_url, tmp_path):
    with Sink() as sink:
        config = settings(routes={"*": f"127.0.0.1:{sink.port}"})
        name = f"route:127.0.0.1:{sink.port}"
        async with running(store_url, tmp_path, config) as bench:
            now = bench.clock.now()
            await bench.store.write(sites.learn, {name: pace.of(site(window=2.0), HERE, OFFSET)}, now - 1.0, now - HOUR)
        async with running(store_url, tmp_path, config) as bench:
            assert await window(bench, name) == START


async def taught(bench, name: str) -> int:
    """The window after mail to a server that refuses all connections but one."""
    sent = [bench.message(f"u{n}@busy.test") for n in range(60)]
    await bench.keep(sent)
    for each in sent:
        bench.runner.accepted(each)
    for each in sent:
        await bench.ended(each, "delivered")
    return int(bench.runner.sites[name].window)


async def window(bench, name: str) -> float:
    """What a site is given when mail first leads there."""
    await bench.ended(await bench.send("ann@busy.test"), "delivered")
    route = await bench.runner.router.route("busy.test")
    assert route.site == name
    return bench.runner.dispatch.new_site(route).window
