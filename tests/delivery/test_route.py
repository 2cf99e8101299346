"""The router: configured routes first, then MX, and what a site is called."""

import pytest

from relay.delivery.dns import Resolver
from relay.delivery.route import Host, Router, TlsRule, host_port, matches, site_name
from relay.errors import NoRoute
from relay.settings import RouteRule
from tests.delivery.build import settings
from tests.support.dns import DnsServer, Fault

ZONES = {
    "one.test": {"MX": "10 mx.big.test."},
    "two.test": {"MX": "5 MX.Big.test."},
    "pair.test": {"MX": ["20 b.test.", "10 a.test."]},
    "bare.test": {"A": "192.0.2.1"},
    "null.test": {"MX": "0 ."},
    "us.test": {"MX": "10 relay.test."},
    "alias.test": {"MX": "10 other-name.test."},
}


@pytest.fixture
def server():
    with DnsServer(dict(ZONES)) as server:
        yield server


def provider(hosts):
    return "big" if all(host.endswith(".big.test") for host in hosts) else None


async def test_an_mx_route(server):
    router = Router(settings(port=2525), Resolver([server.address]), provider)
    route = await router.route("pair.test")
    assert route.hosts == (Host("a.test", 2525, 10), Host("b.test", 2525, 20))
    assert (route.site, route.key, route.provider, route.exempt) == ("a.test,b.test", "a.test,b.test", "other", False)


async def test_domains_of_a_provider_share_a_site(server):
    router = Router(settings(), Resolver([server.address]), provider)
    one, two = await router.route("one.test"), await router.route("two.test")
    assert (one.site, one.provider, one.key) == ("big", "big", "mx.big.test")
    assert (two.site, two.key) == (one.site, one.key)


async def test_a_route_is_made_once_per_answer(server):
    router = Router(settings(), Resolver([server.address]), provider)
    assert await router.route("one.test") is await router.route("one.test")
    assert server.queries["one.test", "MX"] == 1


@pytest.mark.parametrize(("domain", "enhanced"), [("null.test", "5.1.10"), ("us.test", "5.4.6"), ("alias.test", "5.4.6"), ("none.test", "5.1.2"),
                                                  ("[10.0.0.1]", "5.4.4"), ("gone.test", "4.4.3")])
async def test_no_route(server, domain, enhanced):
    server.faults["gone.test"] = Fault(rcode="SERVFAIL")
    router = Router(settings(allow_private=False), Resolver([server.address]), names=["other-name.test"])
    with pytest.raises(NoRoute) as caught:
        await router.route(domain)
    assert caught.value.reply.enhanced == enhanced


async def test_an_address_literal_is_its_own_site(server):
    route = await Router(settings(port=2525), Resolver([server.address])).route("[127.0.0.9]")
    assert (route.site, route.hosts) == ("[127.0.0.9]", (Host("127.0.0.9", 2525, 0, "127.0.0.9"),))


async def test_the_first_configured_route_wins_and_asks_no_dns(server):
    rules = (RouteRule("one.test", "127.0.0.1:2600"), RouteRule("*.test", "smart.example.com:587", "user", "secret", "verified"),
             RouteRule("*", "[::1]:25", tls="implicit"))
    router = Router(settings(*rules), Resolver([server.address]))
    one, two, three = [await router.route(domain) for domain in ("one.test", "pair.test", "example.com")]
    assert one.hosts == (Host("127.0.0.1", 2600, 0, "127.0.0.1"),)
    assert (one.site, one.provider, one.exempt, one.tls) == ("route:127.0.0.1:2600", "route", True, TlsRule("opportunistic"))
    assert (two.site, two.username, two.password, two.tls) == ("route:smart.example.com:587", "user", "secret", TlsRule("verified"))
    assert (three.site, three.tls) == ("route:::1:25", TlsRule("verified", implicit=True))
    assert not server.queries
    assert "secret" not in repr(two)


@pytest.mark.parametrize(("pattern", "domain", "yes"), [
    ("x.test", "x.test", True), ("x.test", "a.x.test", False), ("*.x.test", "a.x.test", True), ("*.x.test", "a.b.x.test", True),
    ("*.x.test", "x.test", False), ("*.x.test", "ax.test", False), ("*", "anything", True), ("*", "[127.0.0.1]", True),
])
def test_matches(pattern, domain, yes):
    assert matches(pattern, domain) is yes


@pytest.mark.parametrize(("text", "expected"), [
    ("smtp.example.com:587", ("smtp.example.com", 587)), ("smtp.example.com", ("smtp.example.com", 25)), ("192.0.2.1:2525", ("192.0.2.1", 2525)),
    ("[2001:db8::1]:2525", ("2001:db8::1", 2525)), ("[2001:db8::1]", ("2001:db8::1", 25)), ("2001:db8::1", ("2001:db8::1", 25)),
    ("SMTP.Example.COM.:25", ("smtp.example.com", 25)),
])
def test_host_port(text, expected):
    assert host_port(text) == expected


def test_a_long_site_name_is_cut_and_stays_unique():
    names = [f"mx{number:02}.a-rather-long-provider-name.example" for number in range(20)]
    first, second = site_name(names), site_name(names[:-1])
    assert len(first) <= 200
    assert first != second
    assert first.startswith("mx00.a-rather-long-provider-name.example,mx01.")
