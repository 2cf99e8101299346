"""suppress: refused at RCPT, dropped after DATA and before MAIL, and only where the entry's scope reaches."""

import pytest

from policies import suppress
from relay.mail.message import MARKETING, Envelope, Wishes
from relay.policy import Suppression
from tests.support.services import KEY, NOW, SYSTEM, Kept, message, recipient, services

CONTENT = b"From: joe@example.com\r\n\r\nhello\r\n"


def kept(*entries, project=1):
    return Kept(suppressions={(project, key, scope): Suppression(reason, scope, NOW) for key, reason, scope in entries})


def built(kept_, smtp="reject", **options):
    return suppress.make(options, services(kept_, suppress={"smtp": smtp}))


async def at_rcpt(kept_, spec, smtp="reject", principal=KEY):
    return await built(kept_, smtp).recipient(principal, Envelope("joe@example.com"), recipient(spec))


BOUNCED = ("jane@example.org", "hard_bounce", "all")


async def test_rcpt_is_refused_with_a_clear_text():
    reply = await at_rcpt(kept(BOUNCED), "Jane@Example.ORG")
    assert str(reply) == ("550 5.7.1 <Jane@Example.ORG> is suppressed: hard_bounce since 2026-09-21; nothing was sent. "
                          "To lift it: relay suppress remove Jane@Example.ORG")


@pytest.mark.parametrize(("entries", "spec", "smtp", "principal"), [
    (BOUNCED, "other@example.org", "reject", KEY),
    (("jane@example.org", "unsubscribe", "marketing"), "jane@example.org", "reject", KEY),
    (("jane@example.org", "unsubscribe", "topic:7"), "jane@example.org", "reject", KEY),
    (BOUNCED, "jane@example.org", "accept", KEY),
    (BOUNCED, "jane@example.org", "reject", SYSTEM),
], ids=["somebody else", "marketing only", "a topic only", "accepted by setting", "our own report"])
async def test_rcpt_goes_through(entries, spec, smtp, principal):
    assert await at_rcpt(kept(entries), spec, smtp, principal) is None


async def test_another_projects_list_is_not_ours():
    assert await at_rcpt(kept(BOUNCED, project=2), "jane@example.org") is None


SCOPES = {
    # id: scope of the entry, stream, topic of the message, stopped
    "all stops transactional": ("all", "transactional", "", True),
    "all stops marketing": ("all", MARKETING, "", True),
    "all stops a topic": ("all", "transactional", "7", True),
    "marketing lets transactional go": ("marketing", "transactional", "", False),
    "marketing stops marketing": ("marketing", MARKETING, "", True),
    "a topic stops that topic": ("topic:7", MARKETING, "7", True),
    "a topic lets others go": ("topic:7", MARKETING, "8", False),
    "a topic lets mail without topic go": ("topic:7", "transactional", "", False),
}


@pytest.mark.parametrize(("scope", "stream", "topic", "stopped"), SCOPES.values(), ids=SCOPES.keys())
async def test_scopes(scope, stream, topic, stopped):
    given = message(CONTENT, "jane@example.org", "bob@example.org", wishes=Wishes(stream=stream, topic=topic))
    (out,) = await built(kept(("jane@example.org", "unsubscribe", scope))).apply(given)
    assert [r.address for r in out.recipients] == (["bob@example.org"] if stopped else ["jane@example.org", "bob@example.org"])
    assert [(r.address, reply.code) for r, reply in out.dropped] == ([("jane@example.org", 550)] if stopped else [])
    assert [d.action for d in out.trace] == (["dropped"] if stopped else [])
    assert out.octets() == given.octets()


async def test_when_nobody_is_left_the_message_says_who_was_dropped():
    (out,) = await built(kept(BOUNCED)).apply(message(CONTENT, "jane@example.org"))
    assert out.recipients == ()
    assert len(out.dropped) == 1


async def test_reports_are_never_suppressed():
    (out,) = await built(kept(BOUNCED)).apply(message(CONTENT, "jane@example.org", principal=SYSTEM))
    assert len(out.recipients) == 1


async def test_the_door_looks_once_and_departure_looks_again():
    store = kept()
    door, departure = built(store), built(store)
    given = message(CONTENT, "jane@example.org")
    assert await door.recipient(KEY, given.envelope, given.recipients[0]) is None
    await door.apply(given)
    assert store.lookups == 1
    store.suppressions[1, "jane@example.org", "all"] = Suppression("manual", "all", NOW)
    (out,) = await departure.apply(given)
    assert out.recipients == ()
    (out,) = await door.apply(given)
    assert out.recipients == ()


async def test_a_topic_is_looked_up_after_data():
    store = kept(("jane@example.org", "unsubscribe", "topic:7"))
    door, given = built(store), message(CONTENT, "jane@example.org", wishes=Wishes(topic="7"))
    assert await door.recipient(KEY, given.envelope, given.recipients[0]) is None
    (out,) = await door.apply(given)
    assert out.recipients == ()


async def test_many_recipients_are_looked_up_together_and_not_again_after_data():
    store = kept(BOUNCED, ("other@example.org", "unsubscribe", "marketing"), ("other@example.org", "manual", "topic:7"))
    policy, people = built(store), [recipient(name) for name in ("ann@example.org", "Jane@example.org", "other@example.org")]
    replies = await policy.recipients(KEY, [(Envelope("joe@example.com"), each) for each in people])
    assert [reply and reply.code for reply in replies] == [None, 550, None]
    looked, plain = store.lookups, message(CONTENT).with_recipients((people[0], people[2]))
    assert (await policy.apply(plain))[0].recipients == plain.recipients
    assert store.lookups == looked
