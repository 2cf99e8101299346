"""A listener in a process of its own, for test_memory: prints its port, then on each line of standard input its resident and its peak memory in bytes."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import uvloop

from relay.mail.message import Envelope, Recipient
from relay.mail.reply import Reply
from relay.smtp.desk import Session
from relay.smtp.server import Listener, ListenerOptions


class Slow:
    """A desk whose store takes its time, as it does with 100 large messages waiting."""

    def sender(self, session: Session, envelope: Envelope) -> None:
        return None

    def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> None:
        return None

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        await asyncio.sleep(0.2)
        return Reply(250, "2.0.0", f"queued {len(content)} as em_0000000000001")


def memory(name: str) -> int:
    """One line of /proc/self/status, in bytes. Its peak is this program's own: getrusage's would be that of the process which started it, if larger."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) * 1024


async def main() -> None:
    listener = Listener(Slow(), ListenerOptions("submission", "relay.test", trusted_networks=("127.0.0.0/8",)))
    print((await listener.start("127.0.0.1"))[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(memory("VmRSS"), memory("VmHWM"), listener.options.budget.used, flush=True)


uvloop.run(main())
