"""Signed tokens: what links and return paths carry, so that nobody but us can make them and nothing has to be looked up to believe them.

    octets = flags (1) [expiry (4, UTC seconds)] data mac (12)       mac = HMAC-SHA256(key of the kind, the rest), first 96 bits

Each kind has its own key, derived from the secret, so a token of one kind is none of another. Most are written in lower-case base 32 without padding and
read in any letter case, because mail servers fold local parts: `unsub+TOKEN` with 8 octets of data has 46 characters of the 64 allowed. Kinds that carry
much and stand in a URL are base64url, which is a sixth shorter. The secret may be a list: the first signs, all verify (a rotation kills no link).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32decode, b32encode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from relay.clock import Clock
from relay.errors import Expired, NotFound

UNSUBSCRIBE = "unsub"
OPEN = "open"
CLICK = "click"
BOUNCE = "bounce"
TRACE = "trace"
REPORTS = "reports"
SIGNUP = "signup"
IN_URLS = frozenset({CLICK, SIGNUP})

MAC = 12  # octets: 2^96 tries for one forgery, and a token that fits a local part
LONGEST = 8_192  # characters; longer than any link that we rewrite
BLOCK = 64  # octets of a block of SHA-256
ID = 8  # octets of a recipient's or message's id

_EXPIRES = 1


@dataclass(frozen=True, slots=True)
class Tokens:
    """Makes and reads tokens. `secrets` as in settings.secret_key, at least one."""

    secrets: tuple[str, ...]
    clock: Clock

    def make(self, kind: str, data: bytes, expires: float | None = None) -> str:
        """The token; `expires` in UTC seconds. The same arguments give the same token."""
        head = b"\0" if expires is None else b"\1" + int(expires).to_bytes(4, "big")
        body = head + data
        octets = body + _mac(self.secrets[0], kind, body)
        return urlsafe_b64encode(octets).rstrip(b"=").decode() if kind in IN_URLS else b32encode(octets).rstrip(b"=").decode().lower()

    def read(self, kind: str, token: str) -> bytes:
        """The data; raises NotFound for a token that we did not make as this kind, Expired for one whose time has passed."""
        data, expires = self._opened(kind, token)
        if expires is not None and expires < self.clock.now():
            raise Expired("this link has expired")
        return data

    def lapsed(self, kind: str, token: str) -> bytes:
        """The data of a token whose time may have passed; it proves who had it, and no longer allows anything. Raises NotFound."""
        return self._opened(kind, token)[0]

    def _opened(self, kind: str, token: str) -> tuple[bytes, int | None]:
        """Data and expiry; raises NotFound."""
        octets = _octets(kind, token)
        body, mac = octets[:-MAC], octets[-MAC:]
        if not body or not any([hmac.compare_digest(_mac(secret, kind, body), mac) for secret in self.secrets]):
            raise NotFound("this link is not one of ours")
        return (body[5:], int.from_bytes(body[1:5], "big")) if body[0] & _EXPIRES else (body[1:], None)


def pack(number: int, rest: bytes = b"") -> bytes:
    """Data that begins with an id."""
    return number.to_bytes(ID, "big") + rest


def unpack(data: bytes) -> tuple[int, bytes]:
    """The id and what follows it."""
    return int.from_bytes(data[:ID], "big"), data[ID:]


def _mac(secret: str, kind: str, body: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104), from hashes that have the key already: setting one up costs more than the rest, and every message that leaves has a token."""
    inner, outer = (keyed.copy() for keyed in _keyed(secret, kind))
    inner.update(body)
    outer.update(inner.digest())
    return outer.digest()[:MAC]


@lru_cache(maxsize=64)
def _keyed(secret: str, kind: str) -> tuple[Any, Any]:
    """The inner and the outer hash of the kind's key."""
    key = hmac.digest(secret.encode(), b"relay token " + kind.encode(), "sha256").ljust(BLOCK, b"\0")
    return hashlib.sha256(bytes(octet ^ 0x36 for octet in key)), hashlib.sha256(bytes(octet ^ 0x5C for octet in key))


def _octets(kind: str, token: str) -> bytes:
    """What the text stands for, in its one spelling but for letter case; raises NotFound."""
    if len(token) > LONGEST or not token.isascii():
        raise NotFound("this link is not one of ours")
    encode, decode, block, text = (urlsafe_b64encode, urlsafe_b64decode, 4, token) if kind in IN_URLS else (b32encode, b32decode, 8, token.upper())
    try:
        octets = decode(text + "=" * (-len(text) % block))
    except ValueError:
        raise NotFound("this link is not one of ours") from None
    if encode(octets).rstrip(b"=").decode() != text:
        raise NotFound("this link is not one of ours")
    return octets
