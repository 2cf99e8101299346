"""verp: a reverse-path for each copy where its bounces can come back, and the sender's own everywhere else."""

from dataclasses import replace

import pytest

from policies import verp
from relay.errors import Expired
from relay.mail import traces
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


def traced(tools, copy):
    """Whom or what the trace of a copy was made for."""
    (field,) = [each for each in copy.header.fields if each.name == b"relay-trace"]
    ((kind, token),) = traces.marks(field.raw)
    return unpack(tools.tokens.read(kind, token))


async def test_each_recipient_gets_a_copy_with_a_path_of_its_own():
    policy, tools, _ = built()
    given = message(MAIL, "a@one.example", "b@two.example")
    out = await policy.apply(given)
    assert [copy.recipients for copy in out] == [(each,) for each in given.recipients]
    for copy in out:
        local, _, host = copy.envelope.sender.partition("@")
        assert (host, local[:7], len(local) <= LOCAL) == ("bounces.example.com", "bounce+", True)
        assert unpack(tools.tokens.read(BOUNCE, local[7:].upper())) == (copy.recipients[0].id, b"")
        assert traced(tools, copy) == (copy.recipients[0].id, b"")
        assert copy.octets().partition(b"\r\n")[2] == given.octets()


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
])
async def test_elsewhere_recipients_share_the_senders_own(domain, inbound, more):
    policy, tools, _ = built(domain, inbound)
    given = message(MAIL, "a@one.example", "b@two.example", **more)
    (out,) = await policy.apply(given)
    assert out.envelope == given.envelope
    assert traced(tools, out) == (given.id, traces.SHARED)


async def test_one_recipient_without_a_path_of_its_own_is_traced_for_itself():
    policy, tools, _ = built(inbound="")
    (out,) = await policy.apply(message(MAIL, "a@one.example"))
    assert traced(tools, out) == (out.recipients[0].id, b"")


async def test_our_own_reports_stay_as_they_are():
    policy, *_ = built()
    given = message(MAIL, "a@one.example", principal=SYSTEM)
    assert await policy.apply(given) == (given,)
