"""How processes of ours give way to mail. A sandbox may forbid it (EPERM), and then they work all the same."""

from __future__ import annotations

import contextlib
import os


def give_way(niceness: int) -> None:
    """Run after whoever is less nice (nice(2))."""
    with contextlib.suppress(OSError):
        os.nice(niceness)


def idle(niceness: int) -> None:
    """Run where nothing else wants a processor (SCHED_IDLE, sched(7)): one that runs only this counts as free for whoever wakes, which no niceness is enough
    for. On a machine that is busy already it would hardly ever come to its turn, and is nice instead."""
    if hasattr(os, "SCHED_IDLE") and os.getloadavg()[0] < (os.cpu_count() or 1):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        give_way(niceness)
