"""verp: a reverse-path for each copy where its bounces can come back, and the sender's own everywhere else."""

from dataclasses import replace

import pytest

from policies import verp
from relay.errors import Expired
from relay.mail.address import LOCAL
from relay.mail.tokens import BOUNCE, unpack
from relay.policy import Domain
from tests.support.services import NOW, SYSTEM, Kept, message, services

MAIL = b"From: Joe <joe@news.example.com>\r\nSubject: hello\r\n\r\nhello\r\n"
DOMAIN = Domain(3, "example.com", True, return_path="bounces.example.com")


def built(domain=DOMAIN, inbound="127.0.0.1:2500"):
    kept = Kept(domains={1: {domain.name: domain}})
    tools = services(kept, smtp={"inbound": inbound})
    return verp.make({}, tools), tools, kept


async def test_each_recipient_gets_a_copy_with_a_path_of_its_own():
    policy, tools, _ = built()
    given = message(MAIL, "a@one.example", "b@two.example")
    out = await policy.apply(given)
    assert [copy.recipients for copy in out] == [(each,) for each in given.recipients]
    for copy in out:
        local, _, host = copy.envelope.sender.partition("@")
        assert (host, local[:7], len(local) <= LOCAL) == ("bounces.example.com", "bounce+", True)
        assert unpack(tools.tokens.read(BOUNCE, local[7:].upper())) == (copy.recipients[0].id, b"")
        assert copy.octets() == given.octets()


async def test_each_attempt_has_the_same_path():
    policy, _, kept = built()
    given = message(MAIL)
    first = await policy.apply(given)
    kept.now += 86_400
    assert [copy.envelope for copy in await policy.apply(given)] == [copy.envelope for copy in first]


async def test_a_path_lasts_thirty_days():
    policy, tools, kept = built()
    (out,) = await policy.apply(message(MAIL))
    token = out.envelope.sender.partition("@")[0][7:]
    kept.now = NOW + 29 * 86_400
    assert tools.tokens.read(BOUNCE, token)
    kept.now = NOW + 31 * 86_400
    with pytest.raises(Expired):
        tools.tokens.read(BOUNCE, token)


@pytest.mark.parametrize(("domain", "inbound", "more"), [
    pytest.param(DOMAIN, "", {}, id="nobody-listens"),
    pytest.param(replace(DOMAIN, return_path=""), "127.0.0.1:2500", {}, id="no-mx-yet"),
    pytest.param(replace(DOMAIN, name="example.org"), "127.0.0.1:2500", {}, id="another-domain"),
    pytest.param(DOMAIN, "127.0.0.1:2500", {"sender": ""}, id="null-reverse-path"),
    pytest.param(DOMAIN, "127.0.0.1:2500", {"principal": SYSTEM}, id="our-own-report"),
])
async def test_elsewhere_recipients_share_the_senders_own(domain, inbound, more):
    policy, *_ = built(domain, inbound)
    given = message(MAIL, "a@one.example", "b@two.example", **more)
    assert await policy.apply(given) == (given,)
