"""The capture server of the laptop: a desk that accepts everything delivered to it, for the dashboard to show.

`config/local.toml` routes all mail here over real SMTP, so a newcomer sees the whole path work without owning a domain. The newest messages are
kept in memory, bounded by count and octets; nothing is written and nothing leaves.
"""

from __future__ import annotations

import email
import email.policy
from collections import deque
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from relay.clock import Clock
from relay.mail.message import Envelope, Recipient
from relay.mail.reply import Reply

KEPT = 200  # messages
OCTETS = 64_000_000  # octets of all kept messages


@dataclass(frozen=True, slots=True)
class Captured:
    """One delivery: envelope as the wire gave it, and the octets."""

    number: int
    at: float
    sender: str
    recipients: tuple[str, ...]
    octets: bytes

    def parsed(self) -> EmailMessage:
        return email.message_from_bytes(self.octets, policy=email.policy.default)  # type: ignore[return-value]

    @property
    def subject(self) -> str:
        return str(self.parsed()["subject"] or "(no subject)")


class Capture:
    """A desk for relay.smtp.server.Listener that keeps the newest `keep` of what it is given."""

    def __init__(self, clock: Clock, keep: int = KEPT):
        self._clock = clock
        self._keep = keep
        self._kept: deque[Captured] = deque()
        self._octets = 0
        self._number = 0

    async def authenticate(self, session: Any, mechanism: str, username: str, password: str) -> None:
        return None

    def sender(self, session: Any, envelope: Envelope) -> Reply | None:
        return None

    def recipient(self, session: Any, envelope: Envelope, recipient: Recipient) -> Reply | None:
        return None

    async def message(self, session: Any, envelope: Envelope, content: bytes) -> Reply:
        self._number += 1
        recipients = tuple(recipient.address for recipient in envelope.recipients)
        self._kept.append(Captured(self._number, self._clock.now(), envelope.sender, recipients, content))
        self._octets += len(content)
        while len(self._kept) > self._keep or (self._octets > OCTETS and len(self._kept) > 1):
            self._octets -= len(self._kept.popleft().octets)
        return Reply(250, "2.0.0", f"captured as {self._number}")

    def newest(self) -> list[Captured]:
        return list(reversed(self._kept))

    def find(self, number: int) -> Captured | None:
        return next((captured for captured in self._kept if captured.number == number), None)
