"""Fifty deaths: at random moments and at every fault point, with and without workers, on both databases."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from relay.store.faults import POINTS
from tests.crash.suite import run

KILLS = int(os.environ.get("RELAY_TEST_KILLS", "13"))  # of each of the four relays; `make bench` has 250 (bench.crash)
SEED = int(os.environ.get("RELAY_TEST_SEED", random.randrange(10**6)))
ROOT = Path(__file__).parents[2]


@pytest.mark.limit(120 + KILLS * 6)
@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "two workers"])
def test_nothing_acknowledged_is_lost(tmp_path: Path, store_url: str, workers: int) -> None:
    url = store_url if store_url.startswith("postgresql") else ""
    run(tmp_path, KILLS, SEED, workers=workers, store_url=url).check()


def test_the_list_of_fault_points_is_whole() -> None:
    found = {name for path in (ROOT / "relay").rglob("*.py") for name in re.findall(r'faults\.point\("([^"]+)"\)', path.read_text())}
    assert found == set(POINTS)
