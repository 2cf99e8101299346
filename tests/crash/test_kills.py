"""Fifty deaths: at random moments and at every boundary of a commit, with and without workers, on both databases."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.crash.suite import POINTS, run

KILLS = int(os.environ.get("RELAY_TEST_KILLS", "13"))  # of each of the four relays; the bench sets 250


@pytest.mark.limit(600)
@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "two workers"])
def test_nothing_acknowledged_is_lost(tmp_path: Path, store_url: str, workers: int) -> None:
    url = store_url if store_url.startswith("postgresql") else ""
    run(tmp_path, KILLS, random.randrange(10**6), workers=workers, store_url=url, points=POINTS).check()
