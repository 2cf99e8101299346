"""A policy that takes its time: `use = "tests.support.slow"`, `seconds` for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from relay.mail.message import Message
from relay.policy import Services


def make(options: Mapping[str, Any], services: Services) -> Slow:
    return Slow(options["seconds"])


class Slow:
    def __init__(self, seconds: float):
        self._seconds = seconds

    async def apply(self, message: Message) -> Sequence[Message]:
        await asyncio.sleep(self._seconds)
        return (message,)
