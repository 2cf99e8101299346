"""What systemd gives and wants: listening sockets (sd_listen_fds(3)), state (sd_notify(3)), a sign of life (WatchdogSec=).

Each function does nothing where the relay was not started by systemd. A socket is known by its FileDescriptorName= where the unit gives it one of ours, else by
its port, so one relay.socket with several ListenStream= lines is enough. Python finds the protocol of an inherited socket itself; asyncio sets TCP_NODELAY
only where that is IPPROTO_TCP, without it pipelined mail waits 40 ms for each delayed ACK.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

FIRST = 3  # SD_LISTEN_FDS_START


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket and the name that its unit gave it."""

    name: str
    socket: socket.socket

    def serves(self, name: str, port: int) -> bool:
        """Whether it is the listener `name` ("submission") of this port."""
        return self.name == name or (self.socket.family in (socket.AF_INET, socket.AF_INET6) and self.socket.getsockname()[1] == port)


def inherited(environ: MutableMapping[str, str] = os.environ) -> tuple[Inherited, ...]:
    """The sockets that systemd opened for this process; takes the variables away, so that no child thinks they are its own."""
    pid, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return ()
    named = [*names.split(":"), *[""] * int(count)]
    return tuple(Inherited(named[number], _adopt(FIRST + number)) for number in range(int(count)))


def _adopt(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    adopted = socket.socket(fileno=fd)
    adopted.setblocking(False)
    return adopted


def notify(*lines: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Tell systemd the state, "READY=1" or "STATUS=..."; True when somebody was there to hear it."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        try:
            line.sendto("\n".join(lines).encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:  # systemd is being restarted: it asks again by its own means
            return False
    return True


def reloading() -> bool:
    """Say that a reload has begun; the READY=1 that ends it must follow. Type=notify-reload wants the monotonic time with it."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """Seconds between signs of life, half of what the unit allows, or None where nobody watches."""
    allowed, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not allowed.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(allowed) / 2_000_000


async def watchdog(interval: float) -> None:
    """A sign of life every `interval` seconds, from the event loop itself: a loop that hangs is restarted."""
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
