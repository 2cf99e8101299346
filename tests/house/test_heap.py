"""How much memory the process has and may have, as Linux says it in both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay import heap, metrics
from relay.metrics import REGISTRY

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # bytes


@pytest.mark.parametrize(("groups", "files", "limit"), [
    ("0::/system.slice/relay.service\n", {"system.slice/relay.service/memory.max": "1000000\n"}, 1_000_000),
    ("0::/system.slice/relay.service\n", {"system.slice/relay.service/memory.max": "max\n", "system.slice/memory.max": "2000000\n"}, 2_000_000),
    ("0::/system.slice/relay.service\n", {"system.slice/relay.service/memory.max": "3000000\n", "system.slice/memory.max": "2000000\n"}, 2_000_000),
    ("0::/\n", {"memory.max": "4000000\n"}, 4_000_000),
    ("12:cpu,memory:/docker/abc\n0::/\n", {"memory/docker/abc/memory.limit_in_bytes": "5000000\n"}, 5_000_000),
    ("12:cpu,memory:/docker/abc\n", {"memory/memory.limit_in_bytes": "6000000\n"}, 6_000_000),
    ("12:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
    ("0::/user.slice\n", {"user.slice/memory.max": "max\n"}, MACHINE),
    ("", {}, MACHINE),
], ids=["own", "above", "least", "container", "version 1", "version 1 in a container", "version 1 without", "without", "no groups"])
def test_the_limit_is_the_least_of_machine_and_groups(tmp_path, groups, files, limit):
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(groups)
    assert heap.limit(tmp_path / "cgroup", tmp_path / "own") == limit


def test_where_the_kernel_says_nothing_the_machine_is_the_limit():
    assert heap.limit(Path("/nowhere"), Path("/nowhere/cgroup")) == MACHINE
    assert heap.resident(Path("/nowhere/statm")) == 0
    assert heap.private(Path("/nowhere/smaps_rollup")) == 0


def test_what_a_fork_shares_is_not_its_own():
    held = os.urandom(64) * 1_000_000
    kept = heap.private()
    assert len(held) < kept <= heap.resident()
    come, go = os.pipe()
    if not (pid := os.fork()):
        os.write(go, str(heap.private()).encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert int(os.read(come, 100)) < kept - 0.9 * len(held)
    os.close(come)
    os.close(go)


def test_the_share_grows_with_what_the_process_holds():
    heap.watch()
    before = REGISTRY.get_sample_value("relay_memory_limit_ratio")
    held = bytearray(os.urandom(64)) * 1_000_000
    after = REGISTRY.get_sample_value("relay_memory_limit_ratio")
    assert 0 < before < after
    assert (after - before) * heap.limit() > 0.9 * len(held)


def test_the_workers_shares_add_up():
    heap.watch()
    main, worker = metrics.Ledger(), metrics.Ledger()
    share = next(delta for name, _, delta in worker.drain() if name == "relay_memory_limit_ratio")
    main.absorb([("relay_memory_limit_ratio", (), share)], "w1")
    total = next(s.value for family in main.collect() for s in family.samples if s.name == "relay_memory_limit_ratio")
    assert total == pytest.approx(2 * share, rel=0.5)
