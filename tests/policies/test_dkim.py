"""dkim: signed with the right keys, sealed, and what leaves verifies."""

import asyncio

import pytest

from policies import dkim as policy_module
from relay.mail.dkim import ED25519, RSA
from relay.mail.message import replace
from relay.policy import SigningKey
from tests.support.dkim import dkimpy, pair, pem
from tests.support.services import Kept, message, services

CONTENT = b"From: Joe <joe@mail.example.com>\r\nTo: jane@example.org\r\nSubject: x\r\n\r\nhello  world \r\n"


def kept(domain="example.com", *algorithms):
    keys = [SigningKey(domain, algorithm.partition("-")[0], algorithm, pem(algorithm)) for algorithm in algorithms or (RSA, ED25519)]
    return Kept(keys={(1, domain): keys}), {**pair(RSA, domain)[1], **pair(ED25519, domain)[1]}


@pytest.mark.parametrize("domain", ["mail.example.com", "example.com"], ids=["the domain itself", "its parent"])
async def test_both_signatures_are_on_top_and_verify(domain):
    store, records = kept(domain)
    given = message(CONTENT)
    (out,) = await policy_module.make({}, services(store)).apply(given)
    assert out.octets().endswith(CONTENT)
    assert [field.name for field in out.header.fields[:2]] == [b"dkim-signature"] * 2
    assert f"d={domain}; s=rsa" in out.header.value(b"dkim-signature")
    assert dkimpy(out.octets(), records) == [True, True]
    assert out.trace[-1].detail == f"d={domain} s=rsa rsa-sha256, d={domain} s=ed25519 ed25519-sha256"


async def test_a_signed_message_is_sealed():
    (out,) = await policy_module.make({}, services(kept()[0])).apply(message(CONTENT))
    with pytest.raises(RuntimeError, match="signed"):
        out.with_header(out.header)


@pytest.mark.parametrize("content", [
    b"From: x@elsewhere.example\r\n\r\nx\r\n", b"From: x@com\r\n\r\nx\r\n", b"Subject: no From\r\n\r\nx\r\n", b"From: a@b c@d\r\n\r\nx\r\n",
], ids=["no key", "a parent of ours", "no From", "unreadable From"])
async def test_without_a_key_it_leaves_unsigned(content):
    (out,) = await policy_module.make({}, services(kept()[0])).apply(message(content))
    assert out.octets() == content
    assert not out.sealed
    assert out.trace[-1].action == "skipped"


async def test_another_projects_key_does_not_sign():
    store, _ = kept()
    store.keys = {(2, "example.com"): store.keys[1, "example.com"]}
    (out,) = await policy_module.make({}, services(store)).apply(message(CONTENT))
    assert not out.sealed


async def test_a_stream_of_messages_signed_in_threads_verifies():
    store, records = kept("example.com", RSA)
    policy = policy_module.make({}, services(store))
    bodies = [b"From: joe@example.com\r\n\r\nmessage %d\r\n" % number for number in range(30)]
    done = await asyncio.gather(*(policy.apply(message(body)) for body in bodies))
    assert all(dkimpy(out.octets(), records) == [True] for (out,) in done)
    assert [out.octets()[-len(body):] for (out,), body in zip(done, bodies, strict=True)] == bodies


async def test_a_single_message_is_signed_at_once():
    """Long after the last one there is no hop to a thread: apply ends without the loop getting a turn."""
    store, records = kept("example.com", RSA)
    store.elapsed = 100.0
    work = policy_module.make({}, services(store)).apply(message(b"From: joe@example.com\r\n\r\nx\r\n"))
    with pytest.raises(StopIteration) as done:
        work.send(None)
    assert dkimpy(done.value.value[0].octets(), records) == [True]


async def test_a_copy_with_another_body_has_its_own_hash():
    """Copies of one message share its id; a rewritten body must not get the hash of the first."""
    store, records = kept("example.com", ED25519)
    policy = policy_module.make({}, services(store))
    given = message(b"From: joe@example.com\r\n\r\none\r\n")
    for body in (b"one\r\n", b"two\r\n", b"one\r\n"):
        (out,) = await policy.apply(replace(given, body=body))
        assert dkimpy(out.octets(), records) == [True]
