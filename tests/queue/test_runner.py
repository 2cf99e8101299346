"""Mail through the runner: from the store to a sink and back into the store."""

from __future__ import annotations

from relay.metrics import REGISTRY
from relay.queue import figures
from tests.queue.conftest import settings, until
from tests.support.sink import Script, Sink


async def test_accepted_mail_is_delivered_and_recorded(relay):
    with Sink() as sink:
        async with relay(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            message = await bench.send("ann@example.net", "bob@example.net")
            told = await bench.ended(message)
        assert [each.state for each in told.recipients] == ["delivered", "delivered"]
        assert not told.waiting
        assert {attempt.result for _, attempt in told.attempts} == {"delivered"}
        assert [e.type for e in told.events].count("email.delivered") == 2
        assert len(sink.messages) == 1
        assert sink.messages[0].content == message.octets()


async def test_what_left_is_counted(quick):
    def counted() -> dict[str, float]:
        names = ("attempts_per_message_count", "attempts_per_message_sum", "queue_age_seconds_count", 'delivery_attempt_seconds_count')
        return {name: REGISTRY.get_sample_value(f"relay_{name}", {"phase": "dot"} if "delivery" in name else {}) or 0.0 for name in names}

    before = counted()
    with Sink(Script(rcpt={"cat": "450 4.2.0 busy", "*": "250 2.1.5 fine"})) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            message = await bench.send("ann@example.net", "cat@example.net")
            await bench.ended(message, "delivered", "deferred")
            await figures.measure(bench.runner)
            site = {"site": f"route:127.0.0.1:{sink.port}"}
            assert REGISTRY.get_sample_value("relay_queue_messages", {"state": "deferred", "provider": "route"}) == 1
    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        "attempts_per_message_count": 1, "attempts_per_message_sum": 1, "queue_age_seconds_count": 1, "delivery_attempt_seconds_count": 1}
    assert REGISTRY.get_sample_value("relay_controller_concurrency_limit", site) == 5


async def test_mail_that_nobody_brought_is_found_on_disk(relay):
    with Sink() as sink:
        async with relay(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            message = await bench.send("ann@example.net", told=False)
            bench.runner.wake()
            await bench.ended(message, "delivered")


async def test_mail_that_the_loader_found_first_is_delivered_once(quick):
    """Its row can be read as soon as it is committed, so the walk may come before whoever waits for the commit."""
    with Sink(Script(delays={"greeting": 0.2})) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            message = await bench.send("ann@example.net", told=False)
            bench.runner.wake()
            found = await until(lambda: bench.runner.known.get(message.recipients[0].id))
            bench.runner.accepted(message)
            assert bench.runner.known[message.recipients[0].id] is found
            told = await bench.ended(message, "delivered")
            assert [attempt.result for _, attempt in told.attempts] == ["delivered"]
    assert len(sink.messages) == 1


async def test_each_recipient_gets_its_own_answer(relay):
    script = Script(rcpt={"bob": "550 5.1.1 no such user", "cat": "450 4.2.0 busy", "*": "250 2.1.5 fine"})
    with Sink(script) as sink:
        async with relay(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            message = await bench.send("ann@example.net", "bob@example.net", "cat@example.net")
            told = await bench.ended(message, "delivered", "bounced", "deferred")
        assert {each.address.partition("@")[0]: each.state for each in told.recipients} == {"ann": "delivered", "bob": "bounced", "cat": "deferred"}
        [row] = told.waiting.values()
        assert (row.attempts, row.retry) == (1, "standard")
        assert 45 < row.due - bench.clock.now() < 75
