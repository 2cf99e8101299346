"""Opening connections: which host and address, what a greeting means, and the end."""

import asyncio
import socket

import pytest

from relay.delivery.connect import MADE, MOST, OPEN, Connector
from relay.delivery.dns import Resolver
from relay.errors import ConnectFailed
from relay.smtp.client import Timeouts
from tests.delivery.build import MX, job, settings, to_domain
from tests.delivery.conftest import NOWHERE
from tests.support.dns import Fault
from tests.support.sink import CUT, Script

pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize("first", [
    pytest.param({"greeting": "554 5.3.2 no mail here"}, id="554 greeting"), pytest.param({"greeting": "421 4.3.2 busy"}, id="421 greeting"),
    pytest.param({"greeting": "521 5.3.2 never"}, id="521 greeting"), pytest.param({"greeting": CUT}, id="cut before the greeting"),
    pytest.param({"greeting": "HTTP/1.1 400 Bad Request"}, id="no SMTP"), pytest.param({"ehlo": "451 4.3.0 later"}, id="EHLO deferred"),
    pytest.param({"ehlo": "550 5.7.1 no"}, id="EHLO refused"), pytest.param({"ehlo": CUT}, id="cut at EHLO"),
])
async def test_the_next_host_takes_over(dns, two, first):
    dns.zones = dict(MX)
    one, _ = two(Script(**first, hostname="mx1.x.test"), Script())
    connection = await to_domain(dns, one.port)
    assert (connection.mx, connection.address) == ("mx2.x.test", "127.0.0.2")
    assert one.opened == 1
    connection.close()


async def test_a_refused_address_is_passed_over(dns, sinks):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": ["127.0.0.3", "127.0.0.2"]}}
    sink = sinks(host="127.0.0.2")
    for _ in range(4):  # equal addresses come in random order
        connection = await to_domain(dns, sink.port)
        assert connection.address == "127.0.0.2"
        connection.close()


async def test_excluded_hosts_and_addresses_are_passed_over(dns, two):
    dns.zones = dict(MX)
    one, _ = two(Script(), Script())
    for exclude in (["mx1.x.test"], ["127.0.0.1"]):
        connection = await to_domain(dns, one.port, exclude=exclude)
        assert connection.mx == "mx2.x.test"
        connection.close()
    with pytest.raises(ConnectFailed) as caught:
        await to_domain(dns, one.port, exclude=["mx1.x.test", "mx2.x.test"])
    assert caught.value.reply.transient


@pytest.mark.parametrize(("script", "code", "enhanced", "phase"), [
    ({"greeting": "554 5.7.1 blocked"}, 451, "4.7.1", "banner"), ({"greeting": "554 go away"}, 451, "4.3.2", "banner"),
    ({"greeting": "421 4.7.0 too many"}, 421, "4.7.0", "banner"), ({"greeting": "521 5.3.2 no mail"}, 521, "5.3.2", "banner"),
    ({"greeting": "220-x\n550 odd"}, 451, "4.3.2", "banner"), ({"greeting": "350 what"}, 451, "4.3.2", "banner"),
    ({"greeting": CUT}, 451, "4.4.2", "banner"), ({"ehlo": "550 5.7.1 no"}, 451, "4.7.1", "ehlo"), ({"ehlo": CUT}, 451, "4.4.2", "ehlo"),
    ({"ehlo": "521 5.3.2 never"}, 521, "5.3.2", "ehlo"), ({"greeting": "220 relay.test ESMTP"}, 554, "5.4.6", "banner"),
    ({"greeting": "220 x", "hostname": "Relay.Test"}, 554, "5.4.6", "ehlo"),
])
async def test_what_a_host_says_before_mail(dns, sinks, script, code, enhanced, phase):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": "127.0.0.1"}}
    sink = sinks(Script(**script))
    with pytest.raises(ConnectFailed) as caught:
        await to_domain(dns, sink.port)
    error = caught.value
    assert (error.reply.code, error.reply.enhanced, error.phase, error.mx, error.address) == (code, enhanced, phase, "mx.x.test", "127.0.0.1")
    assert sink.opened == 1


async def test_a_greeting_with_our_name_is_no_loop_on_a_route(sinks, connector, to):
    sink = sinks(Script(hostname="relay.test"))
    connection = await connector.connect(to(sink))
    assert (await connection.deliver(job()))[0].result == "delivered"
    connection.close()


async def test_hosts_at_or_beyond_ourselves_are_not_tried(dns, two):
    dns.zones = {**MX, "mx3.x.test": {"A": "127.0.0.1"}, "x.test": {"MX": ["5 mx1.x.test.", "10 mx2.x.test.", "10 mx3.x.test."]}}
    one, other = two(Script(greeting="421 4.3.2 busy"), Script(hostname="relay.test"))
    with pytest.raises(ConnectFailed) as caught:
        await to_domain(dns, one.port)
    assert caught.value.reply.code == 421, "the better host may take it later"
    assert other.opened <= 1


@pytest.mark.parametrize(("zone", "code", "enhanced"), [
    ({}, 550, "5.4.4"), ({"mx.x.test": {"A": "10.1.2.3"}}, 550, "5.4.4"), ({"mx.x.test": {"A": "0.0.0.0"}}, 550, "5.4.4"),
    ({"mx.x.test": {"A": "203.0.113.5"}}, 554, "5.4.6"),
], ids=["no address", "private", "unspecified", "our own address"])
async def test_hosts_that_mail_may_not_go_to(dns, zone, code, enhanced):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, **zone}
    with pytest.raises(ConnectFailed) as caught:
        await to_domain(dns, 2525, allow_private=False, own=["203.0.113.5"])
    assert (caught.value.reply.code, caught.value.reply.enhanced, caught.value.phase) == (code, enhanced, "dns")


async def test_an_address_that_cannot_be_looked_up_waits(dns):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}}
    dns.faults["mx.x.test"] = Fault(rcode="SERVFAIL")
    with pytest.raises(ConnectFailed) as caught:
        await to_domain(dns, 2525)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (451, "4.4.3")


async def test_nobody_listens(dns):
    dns.zones = dict(MX)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectFailed) as caught:
            await to_domain(dns, taken.getsockname()[1])
    assert (caught.value.reply.code, caught.value.reply.enhanced, caught.value.phase) == (451, "4.4.1", "connect")
    assert caught.value.seconds > 0


async def test_at_most_eight_addresses_are_tried(dns):
    before = MADE.labels("other", "connect")._value.get()
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": [f"127.0.1.{number}" for number in range(1, 13)]}}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectFailed):
            await to_domain(dns, taken.getsockname()[1])
    assert MADE.labels("other", "connect")._value.get() - before == MOST


async def test_a_connect_that_never_ends_is_given_up(to):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fill = [socket.socket() for _ in range(3)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(connect=0.3))
        with pytest.raises(ConnectFailed) as caught:
            await hasty.connect(to(f"127.0.0.1:{full.getsockname()[1]}"))
        for each in fill:
            each.close()
    assert (caught.value.reply.enhanced, caught.value.phase) == ("4.4.1", "connect")


async def test_quit_is_said_and_the_connection_counted_out(sinks, connector, to):
    sink = sinks()
    before = OPEN.labels("route", "default")._value.get()
    connection = await connector.connect(to(sink))
    assert OPEN.labels("route", "default")._value.get() == before + 1
    connection.close()
    assert not connection.usable
    while OPEN.labels("route", "default")._value.get() != before:
        await asyncio.sleep(0.005)
    assert sink.transcript[0][-1] == "QUIT"


async def test_quit_waits_for_nobody(sinks, to):
    sink = sinks(Script(quit=""))
    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(quit=0.3))
    connection = await hasty.connect(to(sink))
    connection.close()
    while sink.open_now:
        await asyncio.sleep(0.01)
