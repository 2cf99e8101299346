"""Room on the disk, as operators see it and as the doors do."""

from __future__ import annotations

import os

import pytest

from relay.clock import Clock
from relay.metrics import REGISTRY
from relay.store.space import FULL, Space


def shown(name: str, path: object) -> float:
    return REGISTRY.get_sample_value(f"relay_{name}", {"path": str(path)})


def test_what_is_free_is_told_in_bytes_files_and_as_a_part(tmp_path):
    space = Space(tmp_path, Clock(), 0, 0)
    free, whole = space.free, os.statvfs(tmp_path)
    assert shown("disk_free_bytes", tmp_path) == free > 0
    assert shown("disk_free_ratio", tmp_path) == pytest.approx(free / (whole.f_blocks * whole.f_frsize))
    assert shown("disk_free_inodes", tmp_path) >= 0


def test_a_file_system_that_does_not_answer_has_no_room(tmp_path):
    space = Space(tmp_path / "gone", Clock(), 1, 1)
    assert (space.intake(), space.departures()) == (FULL, False)
    assert shown("disk_free_ratio", tmp_path / "gone") == 0
