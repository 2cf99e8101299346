"""authorize: who may say they are whom, and that a refusal tells what to do."""


import pytest

from policies import authorize
from relay.errors import Invalid, Refuse
from relay.mail.message import replace
from relay.policy import Domain, SigningKey
from tests.support.services import KEY, SYSTEM, Kept, message, services

OURS = {name: Domain(number, name, verified) for number, (name, verified) in enumerate({"example.com": True, "b.example": True, "new.example": False}.items())}
OTHERS = {"other.example": Domain(9, "other.example", True)}


async def judge(fields, sender="joe@example.com", principal=KEY, strict=True, domains=OURS):
    kept = Kept(domains={1: domains, 2: OTHERS})
    kept.keys[1, "example.com"] = [SigningKey("example.com", "s", "rsa-sha256", b"")]
    policy = authorize.make({}, services(kept, domains={"require_verified": strict}))
    given = message(f"{fields}\r\n\r\nhello\r\n".encode(), sender=sender, principal=principal)
    (out,) = await policy.apply(given)
    assert out.octets() == given.octets()
    return out


GOOD = {
    "a domain of the project": "From: Joe <joe@example.com>",
    "in upper case": "From: Joe <joe@EXAMPLE.com>",
    "a sub-domain": "From: joe@mail.shop.example.com",
    "several, all ours": "From: joe@example.com, ann@b.example\r\nSender: joe@example.com",
    "Sender ours": "From: joe@example.com\r\nSender: ann@b.example",
    "somebody else in the display name": 'From: "eve@evil.example" <joe@example.com>',
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
async def test_allowed(fields):
    await judge(fields)


@pytest.mark.parametrize("sender", ["", "bounces@mail.b.example", "joe@example.com"], ids=["null", "another of ours", "the same"])
async def test_reverse_paths_that_are_ours_or_null(sender):
    await judge("From: joe@example.com", sender)


BAD = {
    "not ours": ("From: eve@evil.example", "joe@example.com", "From <eve@evil.example>"),
    "another project's": ("From: x@other.example", "joe@example.com", "From <x@other.example>"),
    "one of several": ("From: joe@example.com, eve@evil.example", "joe@example.com", "From <eve@evil.example>"),
    "in a group": ("From: Us: joe@example.com, eve@evil.example;", "joe@example.com", "From <eve@evil.example>"),
    "the parent of ours": ("From: x@com", "joe@example.com", "From <x@com>"),
    "ends like ours": ("From: x@badexample.com", "joe@example.com", "From <x@badexample.com>"),
    "ours as local part": ("From: joe@example.com@evil.example", "joe@example.com", ""),
    "Sender": ("From: joe@example.com\r\nSender: eve@evil.example", "joe@example.com", "Sender <eve@evil.example>"),
    "reverse-path": ("From: joe@example.com", "eve@evil.example", "reverse-path <eve@evil.example>"),
    "null reverse-path does not lift From": ("From: eve@evil.example", "", "From <eve@evil.example>"),
    "literal": ("From: joe@[192.0.2.1]", "joe@example.com", "From <joe@[192.0.2.1]>"),
    "two From fields": ("From: joe@example.com\r\nFrom: eve@evil.example", "joe@example.com", "2 From fields"),
    "no From": ("Subject: x", "joe@example.com", "0 From fields"),
    "From without address": ("From: nobody:;", "joe@example.com", "no address"),
    "From that two readers read differently": ("From: joe@example.com eve@evil.example", "joe@example.com", "cannot be read"),
}


@pytest.mark.parametrize(("fields", "sender", "seen"), BAD.values(), ids=BAD.keys())
async def test_refused(fields, sender, seen):
    with pytest.raises((Refuse, Invalid)) as caught:
        await judge(fields, sender)
    assert caught.value.reply.code == 550
    assert seen in caught.value.reply.text


async def test_the_refusal_names_what_was_seen_what_is_allowed_and_what_to_type():
    with pytest.raises(Refuse) as caught:
        await judge("From: eve@evil.example")
    assert str(caught.value.reply) == ("550 5.7.1 From <eve@evil.example> is not allowed: the project sends from b.example, example.com; "
                                       "add it with: relay domain add evil.example (--project NAME unless default)")


async def test_a_domain_that_is_not_verified_yet_says_how_to_go_on():
    with pytest.raises(Refuse, match=r"relay domain verify new\.example"):
        await judge("From: joe@mail.new.example", "joe@example.com")


async def test_many_domains_leave_the_refusal_short():
    domains = {f"d{n}.example": Domain(n, f"d{n}.example", True) for n in range(500)}
    with pytest.raises(Refuse, match="and 495 more") as caught:
        await judge("From: eve@evil.example", domains=domains)
    assert len(caught.value.reply.text) < 300


BOUND = replace(KEY, domain="b.example")


@pytest.mark.parametrize("strict", [True, False])
async def test_a_key_of_one_domain_sends_from_that_one_only(strict):
    await judge("From: ann@x.b.example", "ann@b.example", BOUND, strict)
    for fields, sender in (("From: joe@example.com", "ann@b.example"), ("From: ann@b.example", "joe@example.com")):
        with pytest.raises(Refuse, match=r"this key sends from b\.example only"):
            await judge(fields, sender, BOUND, strict)


async def test_require_verified_off_lifts_it():
    await judge("From: eve@evil.example", "any@where.example", strict=False)


async def test_our_own_reports_pass():
    await judge("From: MAILER-DAEMON@relay.example", "", SYSTEM)


async def test_local_users_may_use_the_machines_own_name():
    local = replace(KEY, kind="local", key_id=None)
    await judge("From: root@relay.example", "root@relay.example", local)
    for principal, fields in ((KEY, "From: root@relay.example"), (local, "From: eve@evil.example")):
        with pytest.raises(Refuse):
            await judge(fields, "joe@example.com", principal)


async def test_a_domain_without_key_is_noted():
    out = await judge("From: ann@b.example", "ann@b.example")
    assert out.trace[0].action == "warned"
    assert "relay domain dkim b.example" in out.trace[0].detail
    assert (await judge("From: joe@example.com")).trace == ()
