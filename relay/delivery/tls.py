"""TLS towards other servers: contexts, what to print of a session, and the memory of servers whose STARTTLS is broken (RFC 3207, RFC 7435).

Opportunistic TLS takes any certificate and old keys: the alternative is plain text. When its handshake fails, the server is tried again in the clear at
once and for three days; a rule of "required" or "verified" never falls back, it defers.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cache

BROKEN = 259_200.0  # seconds that a failed handshake is remembered: three days, as KumoMTA does
MOST = 10_000  # servers remembered


@cache
def any_certificate() -> ssl.SSLContext:
    """A client context that encrypts and verifies nothing; TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


@cache
def trusted() -> ssl.SSLContext:
    """A client context that verifies name and chain against the machine's authorities."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def described(secure: ssl.SSLObject | None, verified: bool) -> str:
    """ "TLSv1.3 TLS_AES_256_GCM_SHA384 verified", "" in the clear."""
    if secure is None:
        return ""
    cipher = secure.cipher()
    return f"{secure.version()} {cipher[0] if cipher else '?'}{' verified' if verified else ''}"


class Broken:
    """Hosts whose STARTTLS failed, with the UTC seconds until which they are spoken to in the clear.

    until     the memory itself, for the store to keep over a restart
    remember  called with host and time for each new entry
    """

    __slots__ = ("_now", "remember", "until")

    def __init__(self, now: Callable[[], float], until: dict[str, float] | None = None, remember: Callable[[str, float], None] | None = None):
        self._now = now
        self.until = until if until is not None else {}
        self.remember = remember

    def __contains__(self, host: str) -> bool:
        until = self.until.get(host)
        if until is None:
            return False
        if until > self._now():
            return True
        del self.until[host]
        return False

    def add(self, host: str) -> None:
        while len(self.until) >= MOST:
            del self.until[next(iter(self.until))]
        self.until[host] = until = self._now() + BROKEN
        if self.remember is not None:
            self.remember(host, until)
