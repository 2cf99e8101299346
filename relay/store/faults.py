"""Points where a test kills the process, as a power cut would: RELAY_FAULT="name:count" in the environment.

The process ends itself with SIGKILL when it comes to the point of that name for the `count`-th time (1 if none is given). Without the variable a point costs
one call and one comparison. POINTS are all there are; the crash suite goes through them (tests/crash).
"""

from __future__ import annotations

import os
import signal

POINTS = {
    "store.begun": "a transaction is open, nothing is in it",
    "store.before-commit": "all of a batch is in the transaction, bodies are flushed",
    "store.committed": "the batch is durable, nobody has been told",
    "body.appended": "octets are in a segment file, not flushed",
    "body.flushed": "they are on the disk, the row that names them is not",
    "settle.gathered": "remotes have answered, none of it is recorded",
    "settle.written": "outcomes are recorded, the runner has not heard",
    "report.submitted": "a DSN is accepted, the row that asked for it is still there",
    "broadcast.gathered": "a slice of an audience is in the ledger, not committed",
    "broadcast.queued": "a slice of copies is in ledger and queue, not committed",
    "broadcast.committed": "it is durable, the runner has not heard of the messages",
    "workflow.heard": "runs have begun by a page of the event log, not committed",
    "workflow.taken": "a step and its message are written, not committed",
    "workflow.committed": "they are durable, the runner has not heard of the message",
    "workflow.called": "an endpoint has answered, the step is not noted",
    "handover.sent": "a worker has handed a message over and waits",
    "handover.taken": "the main process has it, nothing is written",
    "handover.committed": "the main process has committed it, the worker has not heard",
    "handover.heard": "the worker knows of the commit, the client does not",
}

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
