"""The memory of a long-lived process that handles messages of 4 kB and of 25 MB.

glibc raises its mmap threshold when a large block is freed; from then on large messages live in the heap, which fragments and is never given back (measured
with 100 clients of 25 MB: 363 MB of growth instead of 254). A fixed threshold keeps each of them a mapping of its own. Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import gc

MMAP_THRESHOLD = 524_288  # bytes from which a block is a mapping of its own; above the 256 kB that the event loop reads at once
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
ARENAS = 2  # heaps of threads; more only hold freed memory apart


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
