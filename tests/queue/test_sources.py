"""Which of our addresses a retry comes from."""

from __future__ import annotations

import pytest

from relay.store import messages, queue
from relay.store.queue import Filter
from tests.queue.conftest import settings
from tests.support.script import Script
from tests.support.sink import Sink

SOURCES = ("127.0.0.5", "127.0.0.6")


@pytest.mark.parametrize(("said", "same"), [
    ("451 4.7.1 <late@x.test>: Recipient address rejected: Greylisted, try again in 300 seconds", True),
    ("450 4.2.1 mailbox busy", False),
], ids=["greylisted", "busy"])
async def test_who_was_greylisted_comes_back_from_the_same_source(relay, said, same):
    """A server keeps (client, sender, recipient) and would begin its wait anew; a connection that stands from another source is not used for it."""
    script = Script(farewell="421 4.3.2 going down")
    script.rcpt["late@x.test"] = [said, "250 2.1.5 fine"]
    with Sink(script) as sink:
        async with relay(settings(routes={"*": sink.address}, sources=SOURCES)) as bench:
            late = await bench.send("late@x.test")
            await bench.ended(late, "deferred")
            first = await bench.send("ann@x.test")
            await bench.ended(first)
            sink.script.farewell = ""
            second = await bench.send("bob@x.test")
            await bench.ended(second)
            assert [each.client for each in sink.messages] == list(SOURCES), "a connection from the second source stands"
            await bench.store.write(queue.retry, Filter(message=late.id), bench.clock.now())
            bench.runner.wake()
            await bench.ended(late, "delivered")
            tries = [attempt.source for _, attempt in (await bench.store.read(messages.timeline, late.id)).attempts]
    assert tries == [SOURCES[0], SOURCES[0] if same else SOURCES[1]]
