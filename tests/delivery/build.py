"""Settings, recipients and jobs for the tests of this room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relay.delivery.outcome import Job
from relay.mail.message import Recipient
from relay.settings import Delivery, RouteRule, Settings, load

CONTENT = b"From: app@example.com\r\nSubject: hello\r\n\r\nhello\r\n"


def settings(*routes: RouteRule, hostname: str = "relay.test", **delivery: Any) -> Settings:
    """The default settings with this hostname, these routes, and `[delivery]` keys; private targets are allowed unless said."""
    return replace(load(), hostname=hostname, delivery=Delivery(**{"allow_private": True, "route": routes, **delivery}))


def recipient(address: str, number: int = 1, notify: str = "", orcpt: str = "") -> Recipient:
    domain = address.rpartition("@")[2]
    return Recipient(number, address, address.lower(), domain.encode("idna").decode() if not domain.isascii() else domain, notify, orcpt)


def job(*addresses: str, content: bytes = CONTENT, sender: str = "app@example.com", **more: Any) -> Job:
    """A job; without addresses for bob@x.test. Recipient ids count from 1."""
    return Job(sender, tuple(recipient(each, number) for number, each in enumerate(addresses or ("bob@x.test",), 1)), content, **more)
