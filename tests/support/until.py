"""Waiting for what must happen: each test waits for the very state that it asserts, never for one that comes before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0  # seconds that a test waits for what must happen: a machine that does much else is no defect

T = TypeVar("T")


def until(look: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What `look` finds once that is true; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} seconds: {found!r}")
        threading.Event().wait(0.03)
    return found
