"""A real Postfix as the far side: by MX, over STARTTLS, with wishes for reports, with a recipient it does not know."""

import asyncio
import hashlib
import ssl
from pathlib import Path

import pytest

from relay.delivery.connect import Connector
from relay.delivery.dns import Resolver
from relay.delivery.outcome import Job
from relay.delivery.route import Router
from relay.smtp.client import Timeouts
from tests.delivery.build import recipient, settings
from tests.support import postfix
from tests.support.certificates import authority
from tests.support.dns import DnsServer

pytestmark = pytest.mark.both_loops


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    chain = tmp_path_factory.mktemp("tls") / "chain.pem"
    issued = authority().issue_cert("mx.example.net")
    chain.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    zones = {"example.net": {"MX": "10 mx.example.net."}, "mx.example.net": {"A": "127.0.0.2"}}
    with postfix.mx(["example.net"], "127.0.0.2", chain=Path(chain)) as running, DnsServer(zones) as dns:
        running.dns = dns
        yield running


async def connected(far):
    trust = ssl.create_default_context()
    authority().configure_trust(trust)
    given, resolver = settings(port=far.port), Resolver([far.dns.address])
    return await Connector(given, resolver, timeouts=Timeouts(dot=30), trust=trust).connect(await Router(given, resolver).route("example.net"))


async def test_mail_arrives_as_it_was_sent(far):
    before = len(far.mails())
    body = b"".join(b"." * (n % 4) + hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\r\n" for n in range(3000)) + "grüße\r\n.\r\n".encode()
    content = b"From: app@example.com\r\nSubject: to Postfix\r\nMessage-ID: <1@example.com>\r\nDate: Sat, 21 Nov 2026 08:00:00 +0000\r\n\r\n" + body
    connection = await connected(far)
    people = (recipient("bob@example.net", 1, "SUCCESS", "rfc822;bob@example.net"), recipient("nobody@example.net", 2), recipient("eve@example.net", 3))
    outcomes = await connection.deliver(Job("app@example.com", people, content, ret="HDRS", envid="QQ314159"))
    connection.close()
    assert [(o.result, o.reply.code, o.phase) for o in outcomes] == [("delivered", 250, "dot"), ("permfail", 550, "rcpt"), ("delivered", 250, "dot")]
    assert "queued as" in outcomes[0].reply.text
    assert outcomes[1].reply.enhanced == "5.1.1"
    assert outcomes[0].tls.startswith("TLSv1.3 ")
    assert outcomes[0].dsn_passed
    arrived = (await asyncio.to_thread(far.wait, before + 2))[before:]
    assert sorted(mail.recipient for mail in arrived) == ["bob@example.net", "eve@example.net"]
    for mail in arrived:
        assert mail.sent == content
        assert mail.sender == "app@example.com"
        assert "with ESMTPS" in mail.received


async def test_a_hundred_messages_use_one_connection(far):
    before = len(far.mails())
    connection = await connected(far)
    for number in range(100):
        content = b"From: app@example.com\r\nSubject: %d\r\n\r\nhello\r\n" % number
        (outcome,) = await connection.deliver(Job("", (recipient("bob@example.net", number),), content))
        assert outcome.result == "delivered", outcome
    assert (connection.delivered, connection.usable) == (100, True)
    connection.close()
    arrived = (await asyncio.to_thread(far.wait, before + 100))[before:]
    assert {mail.sender for mail in arrived} == {""}
