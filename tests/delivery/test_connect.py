"""Opening connections: which host and address, what a greeting means, TLS and its memory, AUTH, time limits."""

import asyncio
import socket

import pytest

from relay.delivery.connect import MADE, MOST, OPEN, Connector
from relay.delivery.dns import Resolver
from relay.delivery.route import Router
from relay.errors import ConnectFailed
from relay.smtp.client import Timeouts
from tests.delivery.build import job, settings
from tests.delivery.conftest import NOWHERE
from tests.support.dns import DnsServer, Fault, reverse
from tests.support.sink import CUT, Script, Sink, authority, certificate

pytestmark = pytest.mark.both_loops
QUICK = Timeouts(connect=5, tls=5)


@pytest.fixture
def dns():
    with DnsServer() as server:
        yield server


@pytest.fixture
def two(sinks):
    """Two sinks on the same port of two addresses: mx1 at 127.0.0.1, mx2 at 127.0.0.2."""

    def two(first: Script, second: Script) -> tuple[Sink, Sink]:
        one = sinks(first)
        return one, sinks(second, host="127.0.0.2", port=one.port)

    return two


MX = {"x.test": {"MX": ["10 mx1.x.test.", "20 mx2.x.test."]}, "mx1.x.test": {"A": "127.0.0.1"}, "mx2.x.test": {"A": "127.0.0.2"}}


async def to_domain(dns, port, domain="x.test", timeouts=QUICK, exclude=(), own=(), **delivery):
    given = settings(port=port, **delivery)
    resolver = Resolver([dns.address], timeout=2)
    return await Connector(given, resolver, timeouts=timeouts, own=own).connect(await Router(given, resolver).route(domain), exclude)


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


@pytest.mark.parametrize(("phase", "limits", "expected"), [
    ("greeting", {"greeting": 0.3}, "banner"), ("ehlo", {"ehlo": 0.3}, "ehlo"), ("mail", {"mail": 0.3}, "mail"), ("rcpt", {"mail": 0.3}, "rcpt"),
    ("data", {"mail": 0.3}, "data"), ("dot", {"dot": 0.3}, "dot"),
])
async def test_a_server_that_keeps_silent_is_cut(sinks, to, phase, limits, expected):
    sink = sinks(Script(delays={phase: 30}))
    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(**limits))
    try:
        connection = await hasty.connect(to(sink))
    except ConnectFailed as failure:
        found = (failure.phase, failure.reply.enhanced)
    else:
        (outcome,) = await connection.deliver(job())
        assert outcome.result == ("ambiguous" if phase == "dot" else "conn_error")
        assert "no answer in 0.3 s" in outcome.reply.text
        found = (outcome.phase, outcome.reply.enhanced)
    assert found == (expected, "4.4.2")


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in turn"])
async def test_a_server_cannot_hold_a_transaction_by_answering_slowly(sinks, to, pipelining):
    sink = sinks(Script(delays={"rcpt": 0.25}, pipelining=pipelining, rcpt={"a0": "550 5.1.1 no"}))
    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(mail=5, rcpt=5, envelope=0.6))
    connection = await hasty.connect(to(sink))
    outcomes = await connection.deliver(job(*(f"a{number}@x.test" for number in range(20))))
    assert [o.result for o in outcomes] == ["permfail"] + ["conn_error"] * 19
    assert "took too long" in outcomes[-1].reply.text


async def test_a_slow_reader_is_cut_without_progress_only(serve, to):
    """Octets that leave, however slowly, keep the connection; none for the length of `block` end it."""
    async def session(reader, writer):
        writer.write(b"220 slow\r\n")
        while line := await reader.readline():
            writer.write({b"EHLO": b"250 PIPELINING\r\n", b"MAIL": b"250 ok\r\n", b"RCPT": b"250 ok\r\n", b"DATA": b"354 go\r\n"}.get(line[:4], b""))
            if line.startswith(b"DATA"):
                reader._transport.pause_reading()
                await asyncio.sleep(20)

    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(block=0.5))
    connection = await hasty.connect(to(await serve(session)))
    (outcome,) = await connection.deliver(job(content=b"Subject: x\r\n\r\n" + (b"x" * 78 + b"\r\n") * 400_000))
    assert (outcome.result, outcome.phase) == ("conn_error", "data")
    assert "no answer in 0.5 s" in outcome.reply.text


# TLS

@pytest.mark.parametrize(("script", "level", "tls"), [
    ({"starttls": True}, "opportunistic", "TLSv1.3 TLS_AES_256_GCM_SHA384"), ({"starttls": True}, "required", "TLSv1.3 TLS_AES_256_GCM_SHA384"),
    ({"starttls": True}, "verified", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"),
    ({"implicit_tls": True}, "implicit", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"),
    ({"starttls": True}, "none", ""), ({}, "opportunistic", ""),
])
async def test_tls_as_the_rule_says(sinks, to, script, level, tls):
    sink = sinks(Script(**script))
    connector = Connector(settings(), Resolver(NOWHERE), timeouts=QUICK, trust=_trust())
    connection = await connector.connect(to(sink, tls=level))
    (outcome,) = await connection.deliver(job())
    assert (outcome.result, outcome.tls) == ("delivered", tls)
    assert bool((await sink.arrived(1))[0].tls) == bool(tls)
    connection.close()


def _trust():
    import ssl

    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@pytest.mark.parametrize(("script", "level", "enhanced"), [
    ({}, "required", "4.7.4"), ({}, "verified", "4.7.4"), ({"starttls": True, "broken_tls": True}, "required", "4.7.5"),
    ({"starttls": True, "broken_tls": True}, "verified", "4.7.5"), ({}, "implicit", "4.7.5"),
])
async def test_a_rule_that_wants_tls_never_falls_back(sinks, to, script, level, enhanced):
    connector = Connector(settings(), Resolver(NOWHERE), timeouts=QUICK, trust=_trust())
    with pytest.raises(ConnectFailed) as caught:
        await connector.connect(to(sinks(Script(**script)), tls=level))
    assert (caught.value.reply.enhanced, caught.value.reply.transient) == (enhanced, True)
    assert not connector.broken.until


@pytest.mark.parametrize("names", [("other.test",), ("sink.test",)])
async def test_a_certificate_of_another_name_or_authority_is_not_verified(sinks, to, names):
    sink = sinks(Script(starttls=True), context=certificate(*names))
    for trust in (_trust(), None):
        connector = Connector(settings(), Resolver(NOWHERE), timeouts=QUICK, trust=trust)
        with pytest.raises(ConnectFailed) as caught:
            await connector.connect(to(sink, tls="verified"))
        assert caught.value.reply.enhanced == "4.7.5"


async def test_broken_tls_is_remembered_for_three_days(sinks, to):
    now, kept = [1_000_000.0], []
    sink = sinks(Script(starttls=True, broken_tls=True))
    connector = Connector(settings(), Resolver(NOWHERE), timeouts=QUICK, now=lambda: now[0])
    connector.broken.remember = lambda host, until: kept.append((host, until))
    opened = []
    for later in (0, 10, 259_000, 1_000):
        now[0] += later
        connection = await connector.connect(to(sink))
        opened.append(sink.opened)
        assert connection.tls == ""
        connection.close()
    assert opened == [2, 3, 4, 6], "a failed handshake costs a second connection, once in three days"
    assert kept[0] == ("127.0.0.1", 1_259_200.0)
    assert connector.broken.until.keys() == {"127.0.0.1"}


async def test_a_refused_starttls_goes_on_in_the_clear(serve, to, connector):
    async def session(reader, writer):
        writer.write(b"220 x\r\n")
        while line := await reader.readline():
            writer.write(b"250-x\r\n250 STARTTLS\r\n" if line.startswith(b"EHLO") else b"454 4.7.0 TLS not available\r\n")

    connection = await connector.connect(to(await serve(session)))
    assert connection.usable
    assert connection.tls == ""
    assert not connector.broken.until
    connection.abort()


async def test_plain_text_injected_behind_the_220_is_not_heard(serve, to, connector):
    """RFC 3207 §4.2: what came before the handshake is discarded (CVE-2011-0411)."""
    async def session(reader, writer):
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n250-evil\r\n250-SIZE 1\r\n250 DSN\r\n")
        await writer.start_tls(certificate("127.0.0.1"))
        await reader.readline()
        writer.write(b"250-x\r\n250 SIZE 7777\r\n")
        await reader.readline()

    connection = await connector.connect(to(await serve(session)))
    assert connection.extensions.size in (0, 7777)
    assert not connection.extensions.dsn
    connection.abort()


# AUTH

@pytest.mark.parametrize(("offer", "password", "result"), [
    (None, "secret", "ok"), (None, "s3cret", "4.7.8"), ("AUTH LOGIN", "secret", "ok"), ("AUTH GSSAPI", "secret", "4.7.8"), ("PIPELINING", "secret", "4.7.8"),
], ids=["PLAIN", "wrong password", "LOGIN", "nothing we know", "no AUTH"])
async def test_auth_to_a_route(sinks, connector, to, offer, password, result):
    sink = sinks(Script(auth="user:secret", starttls=True, **({"ehlo": f"250-sink.test\n250 {offer}"} if offer else {})))
    route = to(sink, username="user", password=password, tls="opportunistic")
    if result == "ok":
        connection = await connector.connect(route)
        assert (await connection.deliver(job()))[0].result == "delivered"
        assert (await sink.arrived(1))[0].user == "user"
        connection.close()
        return
    with pytest.raises(ConnectFailed) as caught:
        await connector.connect(route)
    assert (caught.value.phase, caught.value.reply.enhanced, caught.value.reply.transient) == ("auth", result, True)
    assert password not in str(caught.value)


async def test_a_password_does_not_cross_a_network_in_the_clear(dns, sinks, to):
    """127.0.0.1 is this machine and excused; the rule is asked with the address as it would be elsewhere."""
    from relay.delivery.addresses import Target
    from relay.delivery.connect import _Attempt

    attempt = _Attempt(to("192.0.2.1:25", username="user", password="secret"), None, Target("192.0.2.1"), "relay.test", QUICK, None, None)
    sink = sinks(Script(auth="user:secret"))
    connector = Connector(settings(), Resolver(NOWHERE), timeouts=QUICK)
    connection = await connector.connect(to(sink))
    attempt.host = connection.host
    with pytest.raises(ConnectFailed) as caught:
        await attempt._login(connection._client)
    assert "in the clear" in caught.value.text
    connection.close()
    assert "AUTH" not in sink.transcript[0]


# hosts that lack an extension

@pytest.mark.parametrize(("second", "result"), [
    pytest.param({}, "delivered 2.0.0", id="another host has it"), pytest.param({"utf8": False}, "permfail 5.6.7", id="no host has it"),
    pytest.param({"greeting": "421 4.3.2 busy"}, "conn_error 4.3.2", id="the other is away"),
])
async def test_another_host_may_know_smtputf8(dns, two, second, result):
    dns.zones = dict(MX)
    one, other = two(Script(utf8=False), Script(**second))
    connection = await to_domain(dns, one.port)
    (outcome,) = await connection.deliver(job("jürgen@x.test", smtputf8=True))
    assert f"{outcome.result} {outcome.reply.enhanced}" == result
    assert connection.usable
    connection.close()
    assert other.opened == 1


# sources

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


async def test_quit_is_said_and_the_connection_counted_out(sinks, connector, to):
    sink = sinks()
    before = OPEN.labels("route")._value.get()
    connection = await connector.connect(to(sink))
    assert OPEN.labels("route")._value.get() == before + 1
    connection.close()
    assert not connection.usable
    while OPEN.labels("route")._value.get() != before:
        await asyncio.sleep(0.005)
    assert sink.transcript[0][-1] == "QUIT"


async def test_quit_waits_for_nobody(sinks, to):
    sink = sinks(Script(quit=""))
    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(quit=0.3))
    connection = await hasty.connect(to(sink))
    connection.close()
    while sink.open_now:
        await asyncio.sleep(0.01)
