"""What a waiting recipient costs in memory: under 500 bytes with its place in every index."""

from __future__ import annotations

import gc
import tracemalloc

from relay.queue.waiting import Waiting
from tests.queue.conftest import settings, until
from tests.support.sink import Script, Sink

COUNT = 20_000


async def test_a_waiting_recipient_costs_under_500_bytes(quick):
    with Sink(Script(delays={"greeting": 3600.0})) as pit:
        async with quick(settings(routes={"*": f"127.0.0.1:{pit.port}"})) as bench:
            await bench.send("first@slow.test")
            await until(lambda: bench.runner.couriers)
            runner, now = bench.runner, bench.clock.now()
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            runner.memory.enter([
                Waiting(bench.maker.next(), bench.maker.next(), bench.project, "slow.test", "transactional", now) for _ in range(COUNT)
            ])
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            each = (after - before) / COUNT
            runner.known.clear()  # they are in no store
    assert each < 500, f"{each:.0f} bytes"
