"""Free loopback ports for servers that must be told their port before they start; servers of our own bind port 0 instead."""

from __future__ import annotations

import random
import socket

RANGE = (15_000, 32_000)  # below Linux's ephemeral ports, so that no outgoing connection takes one between our look and the server's bind


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port of this address that was free a moment ago."""
    for port in random.sample(range(*RANGE), 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port in 200 tries")
