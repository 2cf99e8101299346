"""Which of our addresses a connection comes from."""

import socket

import pytest

from relay.delivery.connect import OPEN, UNBOUND, Connector
from relay.delivery.dns import Resolver
from relay.delivery.route import Router
from relay.errors import ConnectFailed
from relay.smtp.client import Timeouts
from tests.delivery.build import job, settings, to_domain, until
from tests.support.dns import reverse

pytestmark = pytest.mark.both_loops


async def test_sources_take_turns_within_a_site(dns, sinks):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": "127.0.0.1"}}
    sink = sinks()
    given = settings(port=sink.port, sources=("127.0.0.5", "127.0.0.6"))
    resolver = Resolver([dns.address])
    connector, route = Connector(given, resolver), await Router(given, resolver).route("x.test")
    for _ in range(4):
        connection = await connector.connect(route)
        assert (await connection.deliver(job()))[0].source == connection.source
        connection.close()
    assert [m.client for m in await sink.arrived(4)] == ["127.0.0.5", "127.0.0.6"] * 2


async def test_each_source_carries_its_share_and_is_counted(dns, sinks):
    """A site's connections are spread evenly: a new one comes from the source that has fewest."""
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": "127.0.0.1"}}
    sink, sources = sinks(), ("127.0.0.5", "127.0.0.6", "127.0.0.7")
    given = settings(port=sink.port, sources=sources)
    resolver = Resolver([dns.address])
    connector, route = Connector(given, resolver), await Router(given, resolver).route("x.test")
    before = {each: OPEN.labels(route.provider, each)._value.get() for each in sources}
    standing = [await connector.connect(route) for _ in range(6)]
    gone = [each for each in standing if each.source == "127.0.0.6"]
    for each in gone:
        each.abort()
    await until(lambda: OPEN.labels(route.provider, "127.0.0.6")._value.get() == before["127.0.0.6"])
    assert [OPEN.labels(route.provider, each)._value.get() - before[each] for each in sources] == [2, 0, 2]
    again = [await connector.connect(route) for _ in range(2)]
    assert {each.source for each in again} == {"127.0.0.6"}
    for each in (*standing, *again):
        each.abort()


async def test_a_source_that_is_not_ours_is_named(dns, sinks):
    """192.0.2.0/24 belongs to nobody."""
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": "127.0.0.1"}}
    before = UNBOUND._value.get()
    with pytest.raises(ConnectFailed, match=r"cannot send from 192.0.2.9: .*delivery.sources") as caught:
        await to_domain(dns, sinks().port, sources=("192.0.2.9",))
    assert caught.value.reply.transient
    assert UNBOUND._value.get() == before + 1


async def test_a_dial_that_fails_takes_no_share(dns):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": "127.0.0.1"}}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = settings(port=port, sources=("127.0.0.5", "127.0.0.6"))
    resolver = Resolver([dns.address])
    connector, route = Connector(given, resolver), await Router(given, resolver).route("x.test")
    for _ in range(3):
        with pytest.raises(ConnectFailed):
            await connector.connect(route)
    assert not connector.addresses._open


@pytest.mark.parametrize(("mode", "sources", "ptr", "expected"), [
    ("auto", ("::1",), "relay.test.", "::1"), ("auto", ("::1",), None, None), ("auto", ("::1",), "other.test.", None), ("always", ("::1",), None, "::1"),
    ("never", ("::1",), "relay.test.", None), ("always", ("127.0.0.5",), None, None),
])
async def test_ipv6_only_from_a_confirmed_source(dns, mode, sources, ptr, expected):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"AAAA": "::1"}, "relay.test": {"AAAA": "::1"}, "other.test": {"AAAA": "::2"}}
    if ptr:
        dns.zones[reverse("::1")] = {"PTR": ptr}
    with socket.socket(socket.AF_INET6) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("::1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with pytest.raises(ConnectFailed) as caught:
            await to_domain(dns, port, ipv6=mode, sources=sources, timeouts=Timeouts(greeting=0.3))
    reached = caught.value.phase == "banner"
    assert reached == (expected is not None), caught.value.text


async def test_ipv6_addresses_are_looked_up_only_where_they_could_be_used(dns, sinks):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": "127.0.0.1", "AAAA": "::1"}}
    sink = sinks()
    for mode, asked in (("never", 0), ("always", 1)):
        (await to_domain(dns, sink.port, ipv6=mode)).close()
        assert dns.queries["mx.x.test", "AAAA"] == asked


async def test_a_host_of_ipv6_alone_waits_for_a_source(dns):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"AAAA": "::1"}}
    with pytest.raises(ConnectFailed) as caught:
        await to_domain(dns, 2525, ipv6="never")
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (451, "4.4.1")
