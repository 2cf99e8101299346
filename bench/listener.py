"""What a connection with one message costs the SMTP listener, with a desk that answers at once.

    python -m bench.listener [MESSAGES] [BYTES] [--asyncio] [--profile]

Drives Debian's smtp-source (20 sessions, one message per connection) against a listener in this process and prints messages per second and the CPU time
of this process per message, in microseconds; the client's own CPU is not counted. `--profile` prints where the time went (and costs some itself).
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import time

import uvloop

from relay.mail.message import Envelope, Recipient
from relay.mail.reply import Reply
from relay.smtp.desk import Session
from relay.smtp.server import Listener, ListenerOptions

RUNS = 5


class Yes:
    """A desk that takes everything."""

    def sender(self, session: Session, envelope: Envelope) -> None:
        return None

    def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> None:
        return None

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        return Reply(250, "2.0.0", "queued as em_0000000000001")


async def run(port: int, messages: int, size: int) -> tuple[float, float]:
    """Messages per second, and CPU microseconds of this process per message."""
    wall, cpu = time.perf_counter(), time.process_time()
    source = await asyncio.create_subprocess_exec("smtp-source", "-s", "20", "-m", str(messages), "-l", str(size), f"127.0.0.1:{port}")
    if await source.wait():
        raise SystemExit("smtp-source failed")
    return messages / (time.perf_counter() - wall), (time.process_time() - cpu) / messages * 1e6


async def main(messages: int, size: int, profiled: bool) -> None:
    listener = Listener(Yes(), ListenerOptions("submission", "relay.test", trusted_networks=("127.0.0.0/8",)))
    _, port = await listener.start("127.0.0.1")
    await run(port, 500, size)  # warm
    profile = cProfile.Profile()
    if profiled:
        profile.enable()
    figures = [await run(port, messages, size) for _ in range(1 if profiled else RUNS)]
    profile.disable()
    figures.sort(key=lambda figure: figure[1])
    rate, cost = figures[len(figures) // 2]
    print(f"{messages} messages of {size} bytes, one per connection: {rate:,.0f}/s, {cost:.0f} us CPU each (median of {len(figures)}, "
          f"best {figures[0][1]:.0f})")
    if profiled:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    await listener.drain(1.0)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    count, octets = (int(words[0]) if words else 8_000), (int(words[1]) if len(words) > 1 else 4_096)
    with asyncio.Runner(loop_factory=None if "--asyncio" in sys.argv else uvloop.new_event_loop) as runner:
        runner.run(main(count, octets, "--profile" in sys.argv))
