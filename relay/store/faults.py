"""Points where a test kills the process, as a power cut would: RELAY_FAULT="name:count" in the environment.

The process ends itself with SIGKILL when it comes to the point of that name for the `count`-th time (1 if none is given). Without the variable a point costs
one call and one comparison. Names are "room.moment", such as "store.before-commit"; the crash suite lists them.
"""

from __future__ import annotations

import os
import signal

_name, _, _count = os.environ.get("RELAY_FAULT", "").partition(":")
_left = int(_count or 1)


def point(name: str) -> None:
    """Die here, if this is the point and the time that RELAY_FAULT names."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
