"""A release is replaced by a newer one while mail waits: what the older one accepted leaves as it came, once (B16)."""

from __future__ import annotations

import asyncio
import smtplib
from collections import Counter
from pathlib import Path

import pytest

from relay.store import migrations
from relay.store.engine import Store
from tests.support.ages import first_release
from tests.support.databases import DATABASES
from tests.support.running import OPEN, TRUSTING, Running, routed
from tests.support.sink import Sink
from tests.support.until import until

HEAD = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\n\r\n"
BODIES = {"small@example.net": b"hi\r\n", "large@example.net": b"0123456789 abcdef\r\n" * 4_000, "eight@example.net": "grün\r\n".encode()}


async def aged(url: str, data: Path) -> None:
    store = await Store.open(url, data, min_free=0, reserve=0)
    await store.write(first_release)
    assert await store.read(migrations.revision) == "0001"
    await store.close()


@pytest.mark.parametrize("database", DATABASES)
def test_mail_that_an_older_release_accepted_is_delivered_by_this_one(empty_store, tmp_path, database):
    with Sink() as sink, empty_store(database, tmp_path) as url:
        sink.script.rcpt["*"] = "451 4.2.0 come back later"
        relay = Running(tmp_path, {**OPEN, **TRUSTING, **routed(sink.address), "RELAY_STORE__URL": url, "RELAY_SECRET_KEY": "upgraded " * 4})
        with relay:
            for to, body in BODIES.items():
                with smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60) as line:
                    line.sendmail("a@example.com", [to], HEAD + body, ["BODY=8BITMIME"])
            until(lambda: sum(each["attempts"] > 0 for each in relay.command("queue", "list")) == len(BODIES), 60)
        asyncio.run(aged(url, tmp_path))
        sink.script.rcpt["*"] = "250 2.1.5 welcome"
        if database == "postgresql":  # an older relay may still use it, so an operator says when
            relay.command("migrate")
        with relay:
            relay.command("queue", "retry", "--all")
            until(lambda: not relay.command("queue", "list"), 60)
            assert "delivered" in relay.text("explain", "small@example.net")
        assert Counter(name for each in sink.messages for name in each.recipients) == dict.fromkeys(BODIES, 1)
        assert {each.recipients[0]: each.content.partition(b"\r\n\r\n")[2] for each in sink.messages} == BODIES
