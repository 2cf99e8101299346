"""What the store's tests share: an open store with a project, and messages to put in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from relay.clock import Clock
from relay.mail import header
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient, Wishes
from relay.store import projects
from relay.store.engine import Store

NOW = 1_790_000_000.0
MAKER = Maker(7)
PROJECT = 1


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def store(store_url: str, tmp_path: Path, time: Time) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, tmp_path / "data", clock=Clock(now=time.now), min_free=0, reserve=0)
    await opened.write(projects.add, projects.Project(PROJECT, "default", {}, NOW))
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_url, tmp_path / "data", min_free=0, reserve=0)
    await opened.write(projects.add, projects.Project(PROJECT, "default", {}, NOW))
    yield opened
    await opened.close()


@pytest.fixture
def make() -> Callable[..., Message]:
    return made


def made(
    *to: str, body: bytes = b"Hello.\r\n", now: float = NOW, stream: str = "transactional", tags: tuple[str, ...] = (), send_at: float | None = None,
    key: str = "", key_id: int | None = 9, protocol: str = "smtp", project: int = PROJECT, topic: str = "",
) -> Message:
    """A message to these addresses (one at example.net if none)."""
    people = tuple(Recipient(MAKER.next(), a, a.lower(), a.rpartition("@")[2]) for a in to or ("ann@example.net",))
    fields = (header.make("From", "Shop <shop@example.com>"), header.make("Subject", "Your order"), header.make("Message-ID", f"<{MAKER.next()}@example.com>"))
    return Message(
        MAKER.next(), Principal("key", project, key_id, "app"), Envelope("bounce@example.com", people, "8BITMIME", False, "HDRS", "QQ314"),
        header.Header(fields), body, Origin(protocol, "192.0.2.7", "app.example.com", "ESMTPSA", "TLSv1.3"),
        Wishes(stream=stream, tags=tags, send_at=send_at, idempotency_key=key, topic=topic), now)
