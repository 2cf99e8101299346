"""Fifty deaths: at random moments and at every fault point, with and without workers, on both databases."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.store.faults import POINTS
from tests.crash.suite import together

KILLS = int(os.environ.get("RELAY_TEST_KILLS", "26"))  # of the two relays on each database; `make bench` has 500 (bench.crash)
WITH_WORKERS = KILLS * 4 // 13  # of them; such a start takes ten times as long. Every other life ends at a fault point: the first four are the handover's
SEED = int(os.environ.get("RELAY_TEST_SEED", random.randrange(10**6)))
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Two empty stores, by url."""
    if request.param == "sqlite":
        yield ["", ""]
        return
    server = request.getfixturevalue("postgres_server")
    urls = [asyncio.run(server.create()) for _ in range(2)]
    yield urls
    for url in urls:
        asyncio.run(server.drop(url))


@pytest.mark.limit(120 + KILLS * 16)  # a quiet machine takes one second for each; a busy one is no defect
def test_nothing_acknowledged_is_lost(tmp_path: Path, stores: list[str]) -> None:
    """One relay without workers, which comes to each of its fault points, and one with two, side by side."""
    relays = [(tmp_path / "alone", 0, stores[0], KILLS - WITH_WORKERS), (tmp_path / "workers", 2, stores[1], WITH_WORKERS)]
    for books in together(relays, SEED):
        books.check()


def test_the_list_of_fault_points_is_whole() -> None:
    found = {name for path in (ROOT / "relay").rglob("*.py") for name in re.findall(r'faults\.point\("([^"]+)"\)', path.read_text())}
    assert found == set(POINTS)
