"""Which addresses we send from, as far as can be known without sending: those of the settings, or the one that the kernel would choose."""

from __future__ import annotations

import socket

from relay.settings import Settings


def addresses(settings: Settings) -> tuple[str, ...]:
    """IP addresses; none when all mail goes to another relay, whose address it is then that receivers see."""
    if all_routed(settings):
        return ()
    return settings.delivery.sources or outbound()


def all_routed(settings: Settings) -> bool:
    """Whether no mail goes to the receivers' own hosts."""
    return any(rule.domain == "*" for rule in settings.delivery.route)


def outbound() -> tuple[str, ...]:
    """The address that the kernel would send from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 25))
        except OSError:
            return ()
        return (sock.getsockname()[0],)
