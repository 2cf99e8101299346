"""DKIM signatures of mail that comes in: which ones a message claims, and what becomes of each (RFC 6376, RFC 8301, RFC 8463).

dkimpy verifies; the keys are handed in, so nothing here waits for DNS and it may run in a thread. A signature with SHA-1 or of less than the whole body (`l=`)
proves too little and is `policy` (RFC 8301 §3.1, RFC 6376 §8.2, RFC 8601 §2.7.1). Only the first SIGNATURES are looked at: each hashes the whole message.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import dkim

from relay.errors import Invalid
from relay.mail import address
from relay.mail.header import Header

SIGNATURES = 5  # of one message; lists and forwarders make it three
BITS = 1024  # of an RSA key at least (RFC 8301 §3.2)
OCTETS = 30_000_000  # hashed for all signatures of a message together: 25 MB take a second of CPU
TAG = 500  # characters of a tag's value that we repeat

_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*([^;]*)")
_SELECTOR = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62}){0,5}")
_QUIET = logging.getLogger("relay.signatures")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A DKIM-Signature field: `index` among the message's, `domain` (d=) as A-label, "" for one that cannot be read; `partial`: it has l=."""

    index: int
    domain: str
    selector: str
    algorithm: str
    identity: str = ""
    partial: bool = False

    @property
    def record(self) -> str:
        """The name of the TXT record that has its key."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class Signature:
    """What became of a claim: `result` of RFC 8601 §2.7.1 (pass, fail, policy, temperror, permerror), `reason` for people."""

    claim: Claim
    result: str
    reason: str = ""

    @property
    def domain(self) -> str:
        return self.claim.domain

    @property
    def passed(self) -> bool:
        return self.result == "pass"


def claims(header: Header) -> tuple[Claim, ...]:
    """The signatures that the message claims, in their order."""
    return tuple(_claim(index, each.value) for index, each in enumerate(header.all(b"dkim-signature")[:SIGNATURES]))


def _claim(index: int, value: str) -> Claim:
    tags = {name: "".join(text.split()) for name, text in _TAG.findall(value[:20_000])}
    try:
        domain = address.a_label(tags.get("d", ""))
    except Invalid:
        domain = ""
    selector = tags.get("s", "").lower()
    if not _SELECTOR.fullmatch(selector):
        domain = ""
    return Claim(index, domain, selector[:TAG], tags.get("a", "").lower()[:40], tags.get("i", "")[:TAG], "l" in tags)


def verify(content: bytes, wanted: tuple[Claim, ...], keys: Mapping[str, str | None]) -> tuple[Signature, ...]:
    """What became of each claim, of a very large message only of the first.

    content  header and body, lines ending in CRLF
    keys     TXT record by `Claim.record`: "" where there is none, None where DNS did not answer
    """
    enough = max(1, OCTETS // max(1, len(content)))
    return tuple(_verdict(content, claim, keys) for claim in wanted[:enough])


def _verdict(content: bytes, claim: Claim, keys: Mapping[str, str | None]) -> Signature:
    if not claim.domain:
        return Signature(claim, "permerror", "the signature cannot be read")
    key = keys.get(claim.record)
    if key is None:
        return Signature(claim, "temperror", "DNS does not answer for the key")
    if not key:
        return Signature(claim, "permerror", "there is no key")
    if claim.algorithm == "rsa-sha1":
        return Signature(claim, "policy", "SHA-1 proves nothing any more")
    return _proved(content, claim, key)


def _proved(content: bytes, claim: Claim, key: str) -> Signature:
    try:
        good = dkim.DKIM(content, logger=_QUIET, minkey=BITS).verify(claim.index, dnsfunc=lambda _name, timeout=5: key.encode())
    except dkim.ValidationError as error:
        return Signature(claim, "fail", _why(error))
    except Exception as error:  # dkimpy lets out whatever its parsers and number theory raise at hostile tags and keys
        return Signature(claim, "permerror", _why(error))
    if not good:
        return Signature(claim, "fail", "the signature does not fit")
    return Signature(claim, "policy", "it covers a part of the body only") if claim.partial else Signature(claim, "pass")


def _why(error: Exception) -> str:
    text = str(error).partition("(")[0].strip()
    return ascii(text[:100]).strip("'\"") or "it cannot be read"
