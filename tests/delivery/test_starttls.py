"""TLS as a route's rule says, its memory, and AUTH to a route."""


import pytest

from relay.delivery.addresses import Target
from relay.delivery.connect import Connector, _Attempt
from relay.delivery.dns import Resolver
from relay.errors import ConnectFailed
from relay.metrics import REGISTRY
from tests.delivery.build import QUICK, job, settings
from tests.delivery.conftest import NOWHERE
from tests.support.certificates import authority, certificate
from tests.support.sink import Script

pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize(("script", "level", "tls"), [
    ({"starttls": True}, "opportunistic", "TLSv1.3 TLS_AES_256_GCM_SHA384"), ({"starttls": True}, "required", "TLSv1.3 TLS_AES_256_GCM_SHA384"),
    ({"starttls": True}, "verified", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"),
    ({"implicit_tls": True}, "implicit", "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"),
    ({"starttls": True}, "none", ""), ({}, "opportunistic", ""),
])
async def test_tls_as_the_rule_says(sinks, to, script, level, tls):
    def sessions() -> float:
        return REGISTRY.get_sample_value("relay_smtp_tls_sessions_total", {"proto": "TLSv1.3", "cipher_family": "aes-gcm", "direction": "out"}) or 0.0

    sink, before = sinks(Script(**script)), sessions()
    connector = Connector(settings(), Resolver(NOWHERE), timeouts=QUICK, trust=_trust())
    connection = await connector.connect(to(sink, tls=level))
    (outcome,) = await connection.deliver(job())
    assert (outcome.result, outcome.tls) == ("delivered", tls)
    assert bool((await sink.arrived(1))[0].tls) == bool(tls)
    assert sessions() - before == bool(tls)
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
    connector = Connector(settings(), Resolver(NOWHERE), timeouts=QUICK)
    attempt = _Attempt(connector, to("192.0.2.1:25", username="user", password="secret"), None, Target("192.0.2.1"), None)
    sink = sinks(Script(auth="user:secret"))
    connection = await connector.connect(to(sink))
    attempt.host = connection.host
    with pytest.raises(ConnectFailed) as caught:
        await attempt._login(connection._client)
    assert "in the clear" in caught.value.text
    connection.close()
    assert "AUTH" not in sink.transcript[0]
