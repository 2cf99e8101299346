"""SPF of a sender: whether the client may use the domain of the reverse-path, or of its greeting where that is null (RFC 7208).

pyspf evaluates, in a thread, and asks our own resolver. It keeps the limits of RFC 7208 §4.6.4 (ten mechanisms that look names up, two of them void), and all
together ends after TIME; what comes later is `temperror`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import spf

from relay.delivery.dns import Answer
from relay.errors import Invalid
from relay.mail import address

TIME = 15.0  # seconds for one evaluation; RFC 7208 §4.6.4 wants at least 20 allowed for, but a client waits for our 250 meanwhile
RESULTS = frozenset({"pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"})

Lookup = Callable[[str, str], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Spf:
    """`result` of RFC 7208 §2.6 about `domain`; `identity` "mailfrom" | "helo" says where the domain stood."""

    result: str
    domain: str
    identity: str = "mailfrom"
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.result == "pass"


async def check(lookup: Lookup, threads: Executor, client: str, sender: str, helo: str) -> Spf:
    """Never raises.

    client  IP address
    sender  reverse-path without brackets, "" for the null one
    helo    what EHLO said
    """
    identity, domain = ("mailfrom", _domain(sender)) if sender else ("helo", _host(helo))
    if not domain:
        return Spf("none", "", identity)
    loop = asyncio.get_running_loop()
    who = sender if sender.isascii() and sender else f"postmaster@{domain}"
    asked = (lookup, loop, client, f"{who.rpartition('@')[0]}@{domain}", _host(helo) or domain)
    try:
        result, why = await loop.run_in_executor(threads, _evaluate, *asked)
    except RuntimeError:  # the threads have ended: we are shutting down
        return Spf("temperror", domain, identity, "shutting down")
    return Spf(result, domain, identity, why)


def _domain(sender: str) -> str:
    try:
        found = address.domain_of(sender)
    except Invalid:
        return ""
    return "" if found.startswith("[") else found


def _host(helo: str) -> str:
    """The greeting as a domain name with more than one label (RFC 7208 §2.3: a literal or nonsense is no identity)."""
    try:
        found = address.a_label(helo.rstrip("."))
    except Invalid:
        return ""
    return found if "." in found else ""


def _evaluate(*asked: Any) -> tuple[str, str]:
    """Result and reason; runs in a thread."""
    try:
        result, _code, why = _Question(*asked).check()
    except Exception as error:  # pyspf lets out ValueError, UnicodeError and IndexError of records that nobody could mean
        return "permerror", _flat(error)
    return (result if result in RESULTS else "permerror"), _flat(why) if result in ("temperror", "permerror") else ""


class _Question(spf.query):
    """One evaluation; its lookups go through the event loop that asked."""

    def __init__(self, lookup: Lookup, loop: asyncio.AbstractEventLoop, client: str, sender: str, helo: str):
        self._lookup, self._loop, self._until = lookup, loop, time.monotonic() + TIME
        super().__init__(i=client, s=sender, h=helo, strict=True)

    def dns(self, name: Any, qtype: str, cnames: Any = None, ignore_void: bool = False) -> list[Any]:
        """What pyspf asks for; CNAMEs are followed by our resolver, a void answer counts against the limit (RFC 7208 §4.6.4)."""
        name = str(name).rstrip(".").lower()
        if not all(0 < len(label) < 64 for label in name.split(".")):
            return []
        found = self._records(name, qtype)
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")
        return found

    def _records(self, name: str, qtype: str) -> list[Any]:
        answer = self._ask(name, qtype)
        if answer.failed:
            raise spf.TempError(f"DNS {answer.why}")
        if qtype == "MX":
            return [(mx.preference, mx.host) for mx in answer.records]
        if qtype == "TXT":
            return [(text.encode(),) for text in answer.records]
        return list(answer.records)

    def _ask(self, name: str, qtype: str) -> Answer:
        asked = asyncio.run_coroutine_threadsafe(self._lookup(name, qtype), self._loop)  # type: ignore[arg-type]
        try:
            return asked.result(max(0.01, self._until - time.monotonic()))
        except TimeoutError:
            asked.cancel()
            raise spf.TempError("DNS takes too long") from None


def _flat(why: Any) -> str:
    return ascii(str(why)[:120]).strip("'\"")
