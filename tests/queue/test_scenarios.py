"""What a queue meets: slow and dead sites, sites that say enough, policies that refuse, operators, and the end of the process."""

from __future__ import annotations

import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from relay.errors import Refuse
from relay.mail.reply import Reply
from relay.policy import Chain
from relay.queue.site import FAILS
from relay.store import messages, queue, sites
from relay.store.queue import Filter
from tests.queue.conftest import running, settings, until
from tests.support.dns import DnsServer, Fault
from tests.support.sink import Script, Sink


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tarpit() -> Script:
    """Greets after an hour."""
    return Script(delays={"greeting": 3600.0})


async def test_a_tarpit_delays_nobody_else(quick):
    """With thousands queued to a site that never greets, mail to another takes the processor's time that it took before, and waits for none of them."""
    with Sink() as sink, Sink(tarpit()) as pit:
        routes = {"slow.test": f"127.0.0.1:{pit.port}", "*": f"127.0.0.1:{sink.port}"}
        slow = f"route:127.0.0.1:{pit.port}"
        async with quick(settings(routes=routes)) as bench:
            alone = await costs(bench, 60)
            stuck = [bench.message(f"u{n}@slow.test") for n in range(1_500)]
            await bench.keep(stuck)
            for each in stuck:
                bench.runner.accepted(each)
            await until(lambda: bench.runner.sites.get(slow) and bench.runner.sites[slow].open)
            beside = await costs(bench, 60)
            assert bench.runner.sites[slow].open <= 10
            assert await bench.store.read(_results) == {"delivered": 120}, "no try at the tarpit has ended"
    assert middle(beside) < max(2 * middle(alone), middle(alone) + 0.05)


async def costs(bench, count: int) -> list[float]:
    """Seconds of this loop's thread from accepted to recorded for so many messages, one after the other."""
    found = []
    for _ in range(count):
        message = bench.message("ann@fast.test")
        await bench.keep([message])
        started = time.thread_time()
        bench.runner.accepted(message)
        await until(lambda number=message.recipients[0].id: number not in bench.runner.known)
        found.append(time.thread_time() - started)
    return found


def _results(conn: Any) -> Counter[str]:
    """How many attempts ended in which way."""
    return Counter(conn.exec_driver_sql("SELECT result FROM attempts").scalars())


def middle(values: list[float]) -> float:
    """The median: others on the machine may slow a few of them."""
    return sorted(values)[len(values) // 2]


async def test_a_dead_site_gets_a_few_tries_and_then_one_probe(quick):
    port = closed_port()
    async with quick(settings(routes={"*": f"127.0.0.1:{port}"})) as bench:
        sent = [await bench.send(f"u{n}@dead.test") for n in range(20)]
        site = await until(lambda: bench.runner.sites.get(f"route:127.0.0.1:{port}"))
        await until(lambda: site.failures >= FAILS and not site.open and not bench.runner.known)
        tried = [m for m in sent if (await bench.store.read(messages.timeline, m.id)).attempts]
        assert len(tried) == FAILS
        assert [state for m in tried for state in (await bench.states(m)).values()] == ["deferred"] * FAILS
        why, until_ = bench.runner.limit(sent[-1].recipients[0].id, "dead.test")
        assert why == "site unreachable, next probe"
        assert 30 < until_ - bench.clock.now() <= 60
        assert bench.runner.places["dead.test"].more
        with Sink(port=port) as sink:
            bench.runner.resume(site.name)
            await until(lambda: len(sink.messages) == 20 - FAILS)


async def test_a_failed_probe_ends_who_is_past_the_deadline(quick):
    port = closed_port()

    async def before(bench):
        old = [bench.message(f"u{n}@dead.test") for n in range(30)]
        await bench.keep(old)
        await bench.store.write(_age, 3 * 86_400.0)
        bench.old = old

    async with quick(settings(routes={"*": f"127.0.0.1:{port}"}), before=before) as bench:
        for message in bench.old:
            await bench.ended(message, "failed")
        told = await bench.store.read(messages.timeline, bench.old[-1].id)
        assert [e.type for e in told.events if e.type != "email.queued"] == ["email.failed"]


def _age(conn: Any, seconds: float) -> None:
    conn.exec_driver_sql(f"UPDATE queue SET due = due - {seconds}, first_due = first_due - {seconds}")


@pytest.mark.parametrize("told", [True, False], ids=["at once", "from disk"])
async def test_a_login_code_is_tried_again_within_seconds(relay, told):
    with Sink(Script(mail="451 4.3.0 busy")) as sink:
        async with relay(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            code, other = await bench.send("ann@example.net", retry="otp", told=told), await bench.send("bob@example.net", told=told)
            bench.runner.wake()
            waits = [next(iter((await bench.ended(each, "deferred")).waiting.values())) for each in (code, other)]
            assert [each.retry for each in waits] == ["otp", "standard"]
            assert [waits[0].due - bench.clock.now() < 20, waits[1].due - bench.clock.now() > 45] == [True, True]


async def test_a_login_code_ends_by_a_probe_after_its_hour(relay):
    """Others to the same dead site wait on."""
    port = closed_port()

    async def before(bench):
        bench.code, bench.other = bench.message("ann@dead.test", retry="otp"), bench.message("bob@dead.test")
        await bench.keep([bench.code, bench.other, *(bench.message(f"u{n}@dead.test", retry="otp") for n in range(9))])
        await bench.store.write(_age, 3_601.0)

    async with relay(settings(routes={"*": f"127.0.0.1:{port}"}), before=before) as bench:
        await bench.ended(bench.code, "failed")
        assert await bench.states(bench.other) in ({"bob@dead.test": "queued"}, {"bob@dead.test": "deferred"})


async def test_a_site_that_says_421_above_five_connections(quick):
    """Everything arrives, the refused connections cost no message an attempt, and few of them are made."""
    script = Script(connections=5, delays={"dot": 0.01})
    with Sink(script) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            sent = [bench.message(f"u{n}@busy.test") for n in range(300)]
            await bench.keep(sent)
            for each in sent:
                bench.runner.accepted(each)
            await until(lambda: len(sink.messages) == 300)
            for message in sent[:: 30]:
                told = await bench.ended(message, "delivered")
                assert [attempt.result for _, attempt in told.attempts] == ["delivered"]
    assert sink.rejected <= 20


async def test_a_suspension_by_reply_survives_a_restart(sqlite_url, tmp_path):
    dns_zone = {"busy.test": {"MX": "10 mta5.am0.yahoodns.net."}, "mta5.am0.yahoodns.net": {"A": "127.0.0.1"}}
    with Sink(Script(mail="421 4.7.0 [TSS04] Messages temporarily deferred")) as sink, DnsServer(dns_zone) as dns:
        config = settings(port=sink.port, nameservers=[dns.address], allow_private=True)
        async with running(sqlite_url, tmp_path, config) as bench:
            message = await bench.send("ann@busy.test")
            await bench.ended(message, "deferred")
            site = bench.runner.sites["yahoo"]
            assert 7_000 < site.suspended - bench.clock.elapsed() <= 7_200
            await until(lambda: bench.store.read(sites.remembered, bench.clock.now()))
        async with running(sqlite_url, tmp_path, config) as bench:
            second = await bench.send("bob@busy.test")
            await until(lambda: "yahoo" in bench.runner.sites)
            assert not bench.runner.couriers
            why, ends = bench.runner.limit(second.recipients[0].id, "busy.test")
            assert "TSS04" in why
            assert 6_900 < ends - bench.clock.now() <= 7_200
            assert not sink.messages


@dataclass
class Stops:
    """A depart policy that takes out, refuses or breaks by local part."""

    seen: list[Any] = field(default_factory=list)

    async def apply(self, message):
        self.seen.append(message)
        for recipient in message.recipients:
            if recipient.address.startswith("gone"):
                message = message.drop(recipient, Reply(550, "5.7.1", "suppressed since this morning"))
            if recipient.address.startswith("refuse"):
                raise Refuse(Reply(550, "5.7.0", "no key to sign with"))
            if recipient.address.startswith("break"):
                raise KeyError("a fault of the policy")
        return [message]


async def test_what_policies_decide_as_mail_leaves(quick):
    chain = Chain((("stops", Stops()),))
    with Sink() as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"}), depart=chain) as bench:
            both = await bench.send("ann@example.net", "gone@example.net")
            refused = await bench.send("refuse@example.net")
            broken = await bench.send("break@example.net")
            await bench.ended(both, "delivered", "suppressed")
            told = await bench.ended(refused, "failed")
            later = await bench.ended(broken, "deferred")
        assert [m.recipients for m in sink.messages] == [["ann@example.net"]]
        assert told.recipients[0].text == "no key to sign with"
        assert not told.attempts
        assert "policy stops failed" in later.recipients[0].text
        assert next(iter(later.waiting.values())).attempts == 0


@dataclass
class Splits:
    """A copy policy: each recipient its own copy."""

    async def apply(self, message):
        return [message.with_recipients([each]) for each in message.recipients]


async def test_copies_leave_one_by_one(quick):
    with Sink() as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"}), copy=Chain((("splits", Splits()),))) as bench:
            message = await bench.send("ann@example.net", "bob@example.net", "cat@example.net")
            await bench.ended(message, "delivered")
    assert len(sink.messages) == 3


async def test_a_test_key_sends_nothing(quick):
    port = closed_port()
    async with quick(settings(routes={"*": f"127.0.0.1:{port}"})) as bench:
        now = await bench.send("ann@example.net", mode="test")
        found = await bench.send("bob@example.net", mode="test", told=False)
        bench.runner.wake()
        for message in (now, found):
            told = await bench.ended(message, "delivered")
            assert [e.type for e in told.events] == ["email.queued", "email.sent", "email.delivered"]
            assert not told.attempts


async def test_scheduled_mail_leaves_at_its_time(quick):
    with Sink() as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            at = bench.clock.now() + 1.0
            message = await bench.send("ann@example.net", send_at=at)
            assert await bench.states(message) == {"ann@example.net": "scheduled"}
            told = await bench.ended(message, "delivered")
            left = told.attempts[0][1].at
    assert at <= left < at + 1.0


async def test_a_cancelled_recipient_is_not_sent(quick):
    with Sink(Script(delays={"greeting": 0.3})) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            first, second = await bench.send("ann@example.net"), await bench.send("bob@example.net")
            for message in (first, second):  # the first is with a courier that waits for the greeting, the second in line
                cancelled = await bench.store.write(queue.cancel, Filter(message=message.id), bench.clock.now())
                bench.runner.forget(cancelled)
            third = await bench.send("cat@example.net")
            await bench.ended(third, "delivered")
            assert await bench.states(first) == {"ann@example.net": "cancelled"}
            await until(lambda: not bench.runner.known)
            assert not bench.runner.bodies.used
    assert len(sink.messages) == 1


async def test_held_mail_waits_and_a_released_one_goes(quick):
    with Sink() as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"}), held=True) as bench:
            message = await bench.send("ann@example.net")
            bench.runner.wake()
            await until(lambda: bench.runner.places["example.net"].more)
            assert bench.runner.limit(message.recipients[0].id, "example.net")[0].startswith("the queue is held")
            assert not sink.messages
            bench.runner.rescan()
            await bench.ended(message, "delivered")


async def test_a_site_suspended_by_hand_waits_for_resume(quick):
    with Sink() as sink:
        name = f"route:127.0.0.1:{sink.port}"
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            bench.runner.suspend(name)
            message = await bench.send("ann@example.net")
            await until(lambda: name in bench.runner.sites and not bench.runner.known)
            assert bench.runner.limit(message.recipients[0].id, "example.net") == ("site suspended: by hand", None)
            bench.runner.resume(name)
            await bench.ended(message, "delivered")


async def test_the_end_of_the_process_cuts_what_waits_for_the_dot_as_ambiguous(sqlite_url, tmp_path):
    with Sink(Script(delays={"dot": 3600.0})) as sink:
        config = settings(routes={"*": f"127.0.0.1:{sink.port}"})
        async with running(sqlite_url, tmp_path, config) as bench:
            message = await bench.send("ann@example.net")
            await until(lambda: [c for c in bench.runner.couriers if c.connection is not None and c.connection.final])
            await bench.runner.drain(0.1)
            told = await bench.store.read(messages.timeline, message.id)
            assert [attempt.result for _, attempt in told.attempts] == ["ambiguous"]
            assert told.recipients[0].state == "deferred"


async def test_a_connection_that_died_while_it_was_quiet_costs_no_attempt(quick):
    with Sink(Script(farewell="421 4.4.2 idle too long")) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            for _ in range(5):
                told = await bench.ended(await bench.send("ann@example.net"), "delivered")
                assert [attempt.result for _, attempt in told.attempts] == ["delivered"]


async def test_a_domain_that_is_not_there_bounces_and_dns_that_fails_defers(quick):
    with DnsServer({"example.test": {"TXT": '"x"'}}) as dns:
        dns.faults["broken.test"] = Fault(rcode="SERVFAIL")
        async with quick(settings(nameservers=[dns.address])) as bench:
            gone, broken = await bench.send("ann@nowhere.test"), await bench.send("bob@broken.test")
            told = await bench.ended(gone, "bounced")
            assert (told.recipients[0].enhanced, told.attempts[0][1].phase) == ("5.1.2", "dns")
            told = await bench.ended(broken, "deferred")
            assert told.attempts[0][1].phase == "dns"
            assert next(iter(told.waiting.values())).attempts == 0


async def test_a_store_that_fails_stops_deliveries_and_loses_no_outcome(quick):
    with Sink() as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            ready, asked = False, []

            def departures_open() -> bool:
                asked.extend(c for c in bench.runner.couriers if c.connection is not None)
                return ready

            bench.store.departures_open = departures_open
            message = await bench.send("ann@example.net")
            await until(lambda: len(asked) > 2)  # the courier has a connection, has asked whether it may speak, and asks again
            assert not sink.messages
            ready = True
            await bench.ended(message, "delivered")


@pytest.mark.parametrize("count", [600])
async def test_memory_holds_a_share_and_the_rest_comes_from_disk(quick, count):
    with Sink() as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            bench.runner.loader.capacity = 100
            sent = [bench.message(f"u{n}@d{n % 7}.test") for n in range(count)]
            await bench.keep(sent)
            most = 0
            for each in sent:
                bench.runner.accepted(each)
                most = max(most, len(bench.runner.known))
            await until(lambda: len(sink.messages) == count)
            await until(lambda: not bench.runner.known)
            assert most <= 100
            assert bench.runner.bodies.used == 0
            assert await bench.store.read(queue.count) == 0
    assert len({tuple(m.recipients) for m in sink.messages}) == count


async def test_a_restart_takes_up_the_whole_queue(quick):
    """Over a thousand waiting recipients, those of fifty domains behind one slow site."""
    with Sink() as sink, Sink(tarpit()) as pit:
        async def before(bench):
            await bench.keep([bench.message(f"u{n}@slow{n % 20}.test") for n in range(700)])
            await bench.keep([bench.message(f"u{n}@d{n % 50}.fast.test") for n in range(500)])

        routes = {"*.fast.test": f"127.0.0.1:{sink.port}", "*": f"127.0.0.1:{pit.port}"}
        async with quick(settings(routes=routes), before=before) as bench:
            bench.runner.loader.capacity = 300
            await until(lambda: len(sink.messages) == 500)
            assert bench.runner.sites[f"route:127.0.0.1:{pit.port}"].count <= 300
    assert len({tuple(m.recipients) for m in sink.messages}) == 500


async def test_a_restart_serves_everybody_before_it_has_passed_the_longest_queue(quick):
    """The walk comes by due time, and all of its first page is of one site; a helping of each domain comes before it."""
    with Sink() as sink, Sink(tarpit()) as pit:
        async def before(bench):
            await bench.keep([bench.message(f"u{n}@slow.test") for n in range(1_000)])
            await bench.keep([bench.message("ann@fast.test")])
            await bench.runner.memory.loader._turn()
            assert {each.domain for each in bench.runner.memory.known.values()} == {"slow.test", "fast.test"}

        routes = {"slow.test": f"127.0.0.1:{pit.port}", "*": f"127.0.0.1:{sink.port}"}
        async with quick(settings(routes=routes), before=before):
            await until(lambda: len(sink.messages) == 1)
