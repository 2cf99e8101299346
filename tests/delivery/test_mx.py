"""MX answers and addresses: what each means for mail, by table."""

import random

import pytest

from relay.delivery import mx
from relay.delivery.dns import Answer, Mx
from relay.delivery.route import Host
from relay.errors import NoRoute

US = frozenset({"relay.test"})


def found(*records: tuple[int, str]) -> Answer:
    return Answer("found", "x.test", tuple(Mx(*each) for each in records))


@pytest.mark.parametrize(("answer", "hosts"), [
    pytest.param(found((10, "a.test"),), ["a.test"], id="one"),
    pytest.param(found((20, "b.test"), (10, "a.test")), ["a.test", "b.test"], id="by preference"),
    pytest.param(found((10, "b.test"), (10, "a.test"), (5, "c.test")), ["c.test", "a.test", "b.test"], id="equals in a stable order"),
    pytest.param(found((10, "a.test"), (10, "a.test")), ["a.test"], id="doubled record"),
    pytest.param(found((0, ""), (10, "a.test")), ["a.test"], id="null MX beside a real one is no null MX"),
    pytest.param(Answer("nodata", "x.test"), ["x.test"], id="implicit MX"),
    pytest.param(Answer("nodata", "real.test"), ["real.test"], id="implicit MX of a CNAME's target"),
    pytest.param(found((10, "a.test"), (20, "relay.test"), (30, "c.test")), ["a.test"], id="ourselves and worse leave"),
    pytest.param(found((10, "a.test"), (10, "relay.test"), (5, "c.test")), ["c.test"], id="equal to ourselves leaves"),
    pytest.param(found(*((n, f"m{n:02}.test") for n in range(40))), [f"m{n:02}.test" for n in range(mx.MOST)], id="a mad list is cut"),
])
def test_exchangers(answer, hosts):
    assert [each.host for each in mx.exchangers("x.test", answer, US)] == hosts


@pytest.mark.parametrize(("answer", "code", "enhanced"), [
    pytest.param(Answer("nxdomain", "x.test"), 550, "5.1.2", id="NXDOMAIN is permanent"),
    pytest.param(Answer("failed", "x.test", why="no answer in time"), 451, "4.4.3", id="SERVFAIL or timeout waits"),
    pytest.param(found((0, "")), 556, "5.1.10", id="null MX"),
    pytest.param(found((10, "relay.test")), 554, "5.4.6", id="only ourselves"),
    pytest.param(found((10, "relay.test"), (20, "b.test")), 554, "5.4.6", id="ourselves best"),
    pytest.param(Answer("nodata", "relay.test"), 554, "5.4.6", id="implicit MX is ourselves"),
])
def test_no_exchanger(answer, code, enhanced):
    with pytest.raises(NoRoute) as caught:
        mx.exchangers("x.test", answer, US)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (code, enhanced)
    assert "x.test" in caught.value.reply.text


def test_equals_are_shuffled_and_preferences_kept():
    hosts = [Host("a", 25, 10), Host("b", 25, 10), Host("c", 25, 20), Host("d", 25, 20)]
    rng = random.Random(4)
    orders = {"".join(h.name for h in mx.order(hosts, rng.shuffle)) for _ in range(200)}
    assert orders == {"abcd", "bacd", "abdc", "badc"}


@pytest.mark.parametrize(("address", "prohibited"), [
    ("8.8.8.8", False), ("127.0.0.1", True), ("127.9.9.9", True), ("10.1.2.3", True), ("172.16.0.1", True), ("172.32.0.1", False), ("192.168.1.1", True),
    ("169.254.1.1", True), ("0.0.0.0", True), ("0.1.2.3", True), ("100.64.0.1", True), ("224.0.0.1", True), ("255.255.255.255", True), ("240.0.0.1", True),
    ("192.0.2.1", True), ("::1", True), ("::", True), ("fe80::1", True), ("fc00::1", True), ("ff02::1", True), ("2001:db8::1", True),
    ("2a00:1450:4001::1a", False), ("::ffff:127.0.0.1", True), ("::ffff:8.8.8.8", False), ("64:ff9b::7f00:1", True), ("64:ff9b::808:808", False),
    ("2002:7f00:1::", True),
])
def test_prohibited(address, prohibited):
    assert mx.prohibited(address) is prohibited


@pytest.mark.parametrize(("domain", "private", "address"), [
    ("[8.8.8.8]", False, "8.8.8.8"), ("[IPv6:2a00:1450:4001::1a]", False, "2a00:1450:4001::1a"), ("[ipv6:2A00:1450:4001::1A]", False, "2a00:1450:4001::1a"),
    ("[127.0.0.1]", True, "127.0.0.1"),
])
def test_literal(domain, private, address):
    assert mx.literal(domain, private) == address


@pytest.mark.parametrize(("domain", "enhanced"), [
    ("[127.0.0.1]", "5.4.4"), ("[IPv6:::1]", "5.4.4"), ("[300.1.1.1]", "5.1.2"), ("[]", "5.1.2"), ("[x", "5.1.2"),
])
def test_literal_refused(domain, enhanced):
    with pytest.raises(NoRoute) as caught:
        mx.literal(domain)
    assert caught.value.reply.enhanced == enhanced
    assert caught.value.reply.permanent
