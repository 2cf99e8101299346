"""The memory of a long-lived process that handles messages of 4 kB and of 25 MB.

glibc raises its mmap threshold when a large block is freed; from then on large messages live in the heap, which fragments and is never given back (measured
with 100 clients of 25 MB: 363 MB of growth instead of 254). A fixed threshold keeps each of them a mapping of its own. Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import os
from functools import cache
from pathlib import Path

from relay.metrics import gauge

MMAP_THRESHOLD = 524_288  # bytes from which a block is a mapping of its own; above the 256 kB that the event loop reads at once
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
ARENAS = 2  # heaps of threads; more only hold freed memory apart
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes

USED = gauge("memory_limit_ratio", "Resident memory of all processes of this relay, by the memory that they may have: 1 is where the kernel kills", summed=True)


def fix() -> None:
    """Set the allocator, before anything large is allocated."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    mallopt(M_ARENA_MAX, ARENAS)


def settle() -> None:
    """After start-up: take what is there out of the garbage collector's sight, and let it look less often; a message dies by reference count."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def watch(forked: bool = False) -> None:
    """Expose what share of the memory that we may have this process has; main adds its workers' shares.

    forked  of a worker only what it does not share with the process that it was forked from, which main counts
    """
    USED.set_function(lambda: (private() if forked else resident()) / limit())


def private(rollup: Path = Path("/proc/self/smaps_rollup")) -> int:
    """Bytes in memory that no other process shares, 0 where the kernel does not say (proc(5))."""
    try:
        lines = rollup.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def resident(statm: Path = Path("/proc/self/statm")) -> int:
    """Bytes of this process that are in memory, 0 where the kernel does not say (proc(5))."""
    try:
        return int(statm.read_text().split()[1]) * PAGE
    except OSError:
        return 0


@cache
def limit(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process and its like may have together: the least of the machine's memory and the limits of its control groups.

    cgroups(7): version 2 has memory.max in the group and in each one above it, version 1 memory.limit_in_bytes; "max", or more than there is, is no limit.
    """
    least = os.sysconf("SC_PHYS_PAGES") * PAGE
    for path in _limits(root, groups):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        least = min(least, int(text)) if text.isdigit() else least
    return least


def _limits(root: Path, groups: Path) -> list[Path]:
    """Where limits may be; in a container the group's own path is often not there, and its limit is at the root."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, name in lines:
        if not controllers or "memory" in controllers.split(","):
            top, file = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
            own = Path(name.strip("/"))
            found += [top / each / file for each in (own, *own.parents)]
    return found
