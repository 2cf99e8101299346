"""The resolver against a real nameserver on loopback: four kinds of answer, the cache, one lookup per question, turns per zone."""

import asyncio
from collections.abc import Iterator

import pytest

from relay.delivery.dns import IN_FLIGHT, Mx, Resolver, Tlsa, zone
from tests.delivery.build import until
from tests.support.dns import DnsServer, Fault, reverse

ZONES = {
    "x.test": {"MX": ["20 MX2.x.test.", "10 mx1.x.test."], "TXT": '"v=spf1 " "-all"'},
    "mx1.x.test": {"A": ["127.0.0.2", "127.0.0.3"], "AAAA": "2001:db8::1"},
    "alias.test": {"CNAME": "x.test."},
    "loop.test": {"CNAME": "loop.test."},
    "null.test": {"MX": "0 ."},
    "_25._tcp.mx1.x.test": {"TLSA": "3 1 1 " + "ab" * 32},
    reverse("192.0.2.7"): {"PTR": "mail.x.test."},
    "mail.x.test": {"A": "192.0.2.7"},
    reverse("192.0.2.8"): {"PTR": "mail.x.test."},
}


class Ticks:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(dict(ZONES)) as server:
        yield server


@pytest.fixture
def clock() -> Ticks:
    return Ticks()


@pytest.fixture
def resolver(server, clock) -> Resolver:
    return Resolver([server.address], timeout=2.0, elapsed=clock)


@pytest.mark.both_loops
@pytest.mark.parametrize(("name", "kind", "status", "records"), [
    ("x.test", "MX", "found", {Mx(10, "mx1.x.test"), Mx(20, "mx2.x.test")}),
    ("X.Test.", "MX", "found", {Mx(10, "mx1.x.test"), Mx(20, "mx2.x.test")}),
    ("null.test", "MX", "found", {Mx(0, "")}),
    ("alias.test", "MX", "found", {Mx(10, "mx1.x.test"), Mx(20, "mx2.x.test")}),
    ("mx1.x.test", "A", "found", {"127.0.0.2", "127.0.0.3"}),
    ("mx1.x.test", "AAAA", "found", {"2001:db8::1"}),
    ("x.test", "TXT", "found", {"v=spf1 -all"}),
    ("_25._tcp.mx1.x.test", "TLSA", "found", {Tlsa(3, 1, 1, b"\xab" * 32)}),
    ("x.test", "AAAA", "nodata", set()),
    ("_tcp.mx1.x.test", "TLSA", "nodata", set()),
    ("no.test", "MX", "nxdomain", set()),
    ("loop.test", "MX", "failed", set()),
    ("a..b", "MX", "nxdomain", set()),
    ("x" * 64 + ".test", "MX", "nxdomain", set()),
])
async def test_answers(resolver, name, kind, status, records):
    answer = await resolver.lookup(name, kind)
    assert (answer.status, set(answer.records)) == (status, records)
    assert (answer.found, answer.absent, answer.failed) == (status == "found", status in ("nxdomain", "nodata"), status == "failed")


async def test_nodata_behind_a_cname_names_its_target(resolver):
    assert (await resolver.lookup("alias.test", "AAAA")).name == "x.test"


@pytest.mark.parametrize("fault", [Fault(rcode="SERVFAIL"), Fault(rcode="REFUSED"), Fault(drop=True)], ids=["servfail", "refused", "silent"])
async def test_faults_are_failures(server, resolver, fault):
    server.faults["x.test"] = fault
    assert (await resolver.lookup("x.test", "MX")).failed


async def test_nobody_there():
    answer = await Resolver(["127.0.0.1:1"], timeout=0.5).lookup("x.test", "MX")
    assert answer.failed
    assert answer.why


async def test_truncated_answers_come_over_tcp(server, resolver):
    server.faults["x.test"] = Fault(truncated=True)
    assert (await resolver.lookup("x.test", "MX")).found
    assert server.over_tcp == 1


@pytest.mark.parametrize(("name", "fault", "kept"), [("x.test", Fault(), 60.0), ("no.test", Fault(), 30.0), ("x.test", Fault(rcode="SERVFAIL"), 5.0)],
                         ids=["positive", "negative", "failure"])
async def test_answers_live_as_long_as_their_ttl(server, resolver, clock, name, fault, kept):
    server.faults[name] = fault
    await resolver.lookup(name, "MX")
    asked = server.queries[name, "MX"]
    clock.now += kept - 0.1
    await resolver.lookup(name, "MX")
    assert server.queries[name, "MX"] == asked
    clock.now += 0.2
    await resolver.lookup(name, "MX")
    assert server.queries[name, "MX"] > asked


async def test_old_records_serve_while_nobody_answers(server, resolver, clock):
    await resolver.lookup("x.test", "MX")
    server.faults["x.test"] = Fault(rcode="SERVFAIL")
    clock.now += 3600
    assert (await resolver.lookup("x.test", "MX")).found
    asked = server.queries["x.test", "MX"]
    assert (await resolver.lookup("x.test", "MX")).found
    assert server.queries["x.test", "MX"] == asked, "a stale answer serves for a while before the next try"
    clock.now += 86_400
    assert (await resolver.lookup("x.test", "MX")).failed, "but not for ever"


async def test_nxdomain_ends_what_was_there(server, resolver, clock):
    await resolver.lookup("x.test", "MX")
    server.zones = {}
    clock.now += 61
    assert (await resolver.lookup("x.test", "MX")).status == "nxdomain"


async def test_askers_share_a_lookup(server, resolver):
    server.faults["x.test"] = Fault(delay=0.1)
    asking = [asyncio.create_task(resolver.lookup("x.test", "MX")) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    answers = await asyncio.gather(*asking[1:])
    assert all(answer.found for answer in answers)
    assert server.queries["x.test", "MX"] == 1


async def test_a_zone_has_few_lookups_in_flight_and_delays_no_other(server, resolver):
    for number in range(12):
        server.zones[f"d{number}.slow.test"] = {"MX": "10 mx1.x.test."}
        server.faults[f"d{number}.slow.test"] = Fault(delay=0.4)
    slow = [asyncio.create_task(resolver.lookup(f"d{number}.slow.test", "MX")) for number in range(12)]
    await until(lambda: server.in_flight == IN_FLIGHT)
    assert (await resolver.lookup("x.test", "MX")).found
    assert not any(task.done() for task in slow)
    assert all(answer.found for answer in await asyncio.gather(*slow))
    assert server.most_in_flight <= IN_FLIGHT + 1


async def test_the_cache_is_bounded(server, clock):
    resolver = Resolver([server.address], size=10, elapsed=clock)
    for number in range(30):
        await resolver.lookup(f"n{number}.test", "MX")
    assert len(resolver._answers) == 10
    assert resolver.known("n29.test", "MX") is not None
    assert resolver.known("n0.test", "MX") is None


@pytest.mark.parametrize(("address", "name"), [("192.0.2.7", "mail.x.test"), ("192.0.2.8", ""), ("192.0.2.9", "")],
                         ids=["confirmed", "leads elsewhere", "no PTR"])
async def test_forward_confirmed_reverse_names(resolver, address, name):
    assert await resolver.confirmed(address) == name


@pytest.mark.parametrize(("name", "expected"), [
    ("mx1.mail.example.com", "example.com"), ("example.com", "example.com"), ("com", "com"), ("a.b.co.uk", "b.co.uk"), ("b.co.uk", "b.co.uk"),
    ("mail.example.de", "example.de"), ("1.2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa"), ("x.test.", "x.test"),
])
def test_zone(name, expected):
    assert zone(name) == expected
