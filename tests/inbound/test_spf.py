"""SPF by pyspf on our resolver: results, identities, and the limits of RFC 7208 that keep a record from costing more than it may."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from relay.delivery.dns import Resolver
from relay.inbound import spf
from tests.support.dns import DnsServer, Fault

ZONES = {
    "pass.test": {"TXT": '"v=spf1 ip4:192.0.2.0/24 -all"'},
    "six.test": {"TXT": '"v=spf1 ip6:2001:db8::/32 -all"'},
    "soft.test": {"TXT": '"v=spf1 ~all"'},
    "neutral.test": {"TXT": '"v=spf1 ?all"'},
    "mx.test": {"TXT": '"v=spf1 mx -all"', "MX": "10 host.test."},
    "host.test": {"A": "192.0.2.7", "AAAA": "2001:db8::7"},
    "alias.test": {"TXT": '"v=spf1 a:www.alias.test -all"'},
    "www.alias.test": {"CNAME": "host.test."},
    "include.test": {"TXT": '"v=spf1 include:pass.test -all"'},
    "redirect.test": {"TXT": '"v=spf1 redirect=pass.test"'},
    "macro.test": {"TXT": '"v=spf1 exists:%{ir}.%{v}.list.test -all"'},
    "7.2.0.192.in-addr.list.test": {"A": "127.0.0.2"},
    "split.test": {"TXT": '"v=spf1 ip4:192.0" ".2.7 -all"'},
    "two.test": {"TXT": ['"v=spf1 -all"', '"v=spf1 +all"']},
    "junk.test": {"TXT": '"v=spf1 ip4:300.1.1.1 wibble -all"'},
    "loop.test": {"TXT": '"v=spf1 include:loop.test -all"'},
    "void.test": {"TXT": '"v=spf1 a:n1.test a:n2.test a:n3.test a:n4.test -all"'},
    "many.test": {"TXT": '"v=spf1 ' + " ".join(f"include:i{n}.test" for n in range(12)) + ' -all"'},
    **{f"i{n}.test": {"TXT": '"v=spf1 ?all"'} for n in range(12)},
    "down.test": {"TXT": '"v=spf1 a:dead.test -all"'},
    "none.test": {"TXT": '"something else"'},
}


@pytest.fixture(scope="module")
def dns():
    with DnsServer(ZONES) as server:
        server.faults["dead.test"] = Fault(rcode="SERVFAIL")
        yield server


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.mark.parametrize(("client", "sender", "helo", "result", "identity"), [
    pytest.param("192.0.2.7", "a@pass.test", "x.test", "pass", "mailfrom", id="ip4"),
    pytest.param("198.51.100.1", "a@pass.test", "pass.test", "fail", "mailfrom", id="another-address"),
    pytest.param("2001:db8::1", "a@six.test", "x.test", "pass", "mailfrom", id="ip6"),
    pytest.param("192.0.2.7", "a@soft.test", "x.test", "softfail", "mailfrom", id="softfail"),
    pytest.param("192.0.2.7", "a@neutral.test", "x.test", "neutral", "mailfrom", id="neutral"),
    pytest.param("192.0.2.7", "a@mx.test", "x.test", "pass", "mailfrom", id="mx"),
    pytest.param("2001:db8::7", "a@mx.test", "x.test", "pass", "mailfrom", id="mx-by-ip6"),
    pytest.param("192.0.2.7", "a@alias.test", "x.test", "pass", "mailfrom", id="cname"),
    pytest.param("192.0.2.7", "a@include.test", "x.test", "pass", "mailfrom", id="include"),
    pytest.param("192.0.2.7", "a@redirect.test", "x.test", "pass", "mailfrom", id="redirect"),
    pytest.param("192.0.2.7", "a@macro.test", "x.test", "pass", "mailfrom", id="macro"),
    pytest.param("192.0.2.7", "a@split.test", "x.test", "pass", "mailfrom", id="split-record"),
    pytest.param("192.0.2.7", "a@two.test", "x.test", "permerror", "mailfrom", id="two-records"),
    pytest.param("192.0.2.7", "a@junk.test", "x.test", "permerror", "mailfrom", id="junk"),
    pytest.param("192.0.2.7", "a@loop.test", "x.test", "permerror", "mailfrom", id="loop"),
    pytest.param("192.0.2.7", "a@void.test", "x.test", "permerror", "mailfrom", id="void-lookups"),
    pytest.param("192.0.2.7", "a@many.test", "x.test", "permerror", "mailfrom", id="eleven-lookups"),
    pytest.param("192.0.2.7", "a@down.test", "x.test", "temperror", "mailfrom", id="dns-down"),
    pytest.param("192.0.2.7", "a@none.test", "x.test", "none", "mailfrom", id="no-record"),
    pytest.param("192.0.2.7", "a@nowhere.test", "x.test", "none", "mailfrom", id="no-domain"),
    pytest.param("192.0.2.7", "", "pass.test", "pass", "helo", id="null-sender-by-greeting"),
    pytest.param("192.0.2.7", "", "[192.0.2.7]", "none", "helo", id="null-sender-with-a-literal"),
    pytest.param("192.0.2.7", "", "localhost", "none", "helo", id="one-label"),
    pytest.param("192.0.2.7", "a@[192.0.2.7]", "x.test", "none", "mailfrom", id="literal-sender"),
    pytest.param("192.0.2.7", "jörg@pass.test", "x.test", "pass", "mailfrom", id="smtputf8-sender"),
    pytest.param("192.0.2.7", '"a b%{d}"@macro.test', "x.test", "pass", "mailfrom", id="odd-local-part"),
    pytest.param("uid:1000", "a@pass.test", "x.test", "permerror", "mailfrom", id="no-address"),
])
async def test_results(dns, threads, client, sender, helo, result, identity):
    found = await spf.check(Resolver([dns.address]).lookup, threads, client, sender, helo)
    assert (found.result, found.identity) == (result, identity)


async def test_the_loop_goes_on_while_dns_is_slow(dns, threads):
    dns.faults["slow.test"] = Fault(delay=0.3)
    waiting = asyncio.ensure_future(spf.check(Resolver([dns.address]).lookup, threads, "192.0.2.7", "a@slow.test", "x.test"))
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0)
        turns += 1
    assert waiting.result().result == "none"
    assert turns > 10


async def test_a_resolver_that_never_answers_is_a_temporary_error_in_time(dns, threads):
    """The evaluation ends with its lookup's own time, and the thread is free again."""
    dns.faults["silent.test"] = Fault(drop=True)
    lookup = Resolver([dns.address], timeout=0.3).lookup
    found = await spf.check(lookup, threads, "192.0.2.7", "a@silent.test", "x.test")
    assert (found.result, found.domain) == ("temperror", "silent.test")
    assert (await spf.check(Resolver([dns.address]).lookup, threads, "192.0.2.7", "a@pass.test", "x.test")).result == "pass"
