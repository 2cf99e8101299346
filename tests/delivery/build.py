"""Settings, recipients, jobs and connections for the tests of this room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from relay.delivery.connect import Connector
from relay.delivery.connection import Connection
from relay.delivery.dns import Resolver
from relay.delivery.outcome import Job
from relay.delivery.route import Router
from relay.mail.message import Recipient
from relay.settings import Delivery, RouteRule, Settings, load
from relay.smtp.client import Timeouts

CONTENT = b"From: app@example.com\r\nSubject: hello\r\n\r\nhello\r\n"
QUICK = Timeouts(connect=30, tls=30)
MX = {"x.test": {"MX": ["10 mx1.x.test.", "20 mx2.x.test."]}, "mx1.x.test": {"A": "127.0.0.1"}, "mx2.x.test": {"A": "127.0.0.2"}}


def settings(*routes: RouteRule, hostname: str = "relay.test", **delivery: Any) -> Settings:
    """The default settings with this hostname, these routes, and `[delivery]` keys; private targets are allowed unless said."""
    return replace(load(), hostname=hostname, delivery=Delivery(**{"allow_private": True, "route": routes, **delivery}))


def recipient(address: str, number: int = 1, notify: str = "", orcpt: str = "") -> Recipient:
    domain = address.rpartition("@")[2]
    return Recipient(number, address, address.lower(), domain.encode("idna").decode() if not domain.isascii() else domain, notify, orcpt)


def job(*addresses: str, content: bytes = CONTENT, sender: str = "app@example.com", **more: Any) -> Job:
    """A job; without addresses for bob@x.test. Recipient ids count from 1."""
    return Job(sender, tuple(recipient(each, number) for number, each in enumerate(addresses or ("bob@x.test",), 1)), content, **more)


async def to_domain(dns, port: int, domain: str = "x.test", timeouts: Timeouts = QUICK, exclude=(), own=(), **delivery: Any) -> Connection:
    """A connection to a domain by its MX records in `dns`, all of whose hosts listen on `port`."""
    given = settings(port=port, **delivery)
    resolver = Resolver([dns.address], timeout=2)
    return await Connector(given, resolver, timeouts=timeouts, own=own).connect(await Router(given, resolver).route(domain), exclude)


async def until(true: Callable[[], object], patience: float = 60.0) -> None:
    """Until the condition holds; raises TimeoutError."""
    async with asyncio.timeout(patience):
        while not true():
            await asyncio.sleep(0.005)
