"""limit: so many and no more, always temporary, and what was not sent is not counted."""


import pytest

from policies import limit
from relay.errors import Defer, Refuse
from relay.mail.message import Envelope, replace
from relay.mail.reply import Reply
from relay.policy import Chain
from tests.support.services import KEY, SYSTEM, Kept, message, recipient, services

CONTENT = b"From: joe@example.com\r\n\r\nhello\r\n"
TWO = ("a@example.org", "b@example.org")


def built(kept, **rules):
    return limit.make({}, services(kept, limit=rules))


async def test_without_limits_nothing_is_counted():
    kept = Kept()
    for _ in range(3):
        await built(kept).apply(message(CONTENT, *TWO))
    assert kept.used == {}


@pytest.mark.parametrize(("rules", "counter"), [
    ({"key_per_hour": 5}, "limit:key:7:hour"), ({"key_per_day": 5}, "limit:key:7:day"),
    ({"project_per_hour": 5}, "limit:project:1:hour"), ({"project_per_day": 5}, "limit:project:1:day"),
], ids=lambda value: str(value))
async def test_the_message_that_does_not_fit_waits(rules, counter):
    kept = Kept()
    policy = built(kept, **rules)
    await policy.apply(message(CONTENT, *TWO))
    await policy.apply(message(CONTENT, *TWO))
    with pytest.raises(Defer) as caught:
        await policy.apply(message(CONTENT, *TWO))
    assert (caught.value.reply.code, caught.value.reply.enhanced, caught.value.code) == (452, "4.7.1", "rate_limit_exceeded")
    assert f"try again in {int(caught.value.retry_after)} seconds" in caught.value.reply.text
    await policy.apply(message(CONTENT, "a@example.org"))
    assert kept.used == {counter: 5}


async def test_the_options_win_over_the_settings():
    policy = limit.make({"key_per_hour": 1}, services(Kept(), limit={"key_per_hour": 100}))
    await policy.apply(message(CONTENT))
    with pytest.raises(Defer):
        await policy.apply(message(CONTENT))


async def test_a_second_limit_that_refuses_gives_back_the_first():
    kept = Kept(used={"limit:project:1:day": 4})
    with pytest.raises(Defer):
        await built(kept, key_per_hour=10, project_per_day=5).apply(message(CONTENT, *TWO))
    assert kept.used == {"limit:key:7:hour": 0, "limit:project:1:day": 4}


async def test_keys_are_counted_apart_and_projects_together():
    kept = Kept()
    policy = built(kept, key_per_hour=1, project_per_hour=2)
    for key_id in (7, 8):
        await policy.apply(message(CONTENT, principal=replace(KEY, key_id=key_id)))
    with pytest.raises(Defer, match="the project has sent"):
        await policy.apply(message(CONTENT, principal=replace(KEY, key_id=9)))


async def test_a_sender_without_key_is_limited_by_its_project():
    kept = Kept()
    await built(kept, key_per_hour=1, project_per_hour=1).apply(message(CONTENT, principal=replace(KEY, kind="trusted", key_id=None)))
    assert kept.used == {"limit:project:1:hour": 1}


async def test_our_own_reports_are_not_limited():
    kept = Kept(used={"limit:project:1:hour": 1})
    await built(kept, project_per_hour=1).apply(message(CONTENT, principal=SYSTEM))


async def test_a_message_that_can_never_fit_says_so():
    kept = Kept()
    with pytest.raises(Refuse, match="split the message"):
        await built(kept, project_per_hour=10, project_per_day=1).apply(message(CONTENT, *TWO))
    assert kept.used == {"limit:project:1:hour": 0}


async def test_rcpt_hears_it_before_the_message_is_sent():
    kept = Kept()
    policy = built(kept, key_per_hour=2)
    one = recipient("a@example.org")
    empty, full = Envelope("joe@example.com"), Envelope("joe@example.com", (one, one))
    assert await policy.recipient(KEY, empty, one) is None
    assert (await policy.recipient(KEY, full, one)).enhanced == "4.5.3"
    kept.used["limit:key:7:hour"] = 2
    assert await policy.recipient(KEY, empty, one) is None
    with pytest.raises(Defer):
        await policy.apply(message(CONTENT))
    reply = await policy.recipient(KEY, empty, one)
    assert (reply.code, reply.enhanced) == (450, "4.7.1")
    kept.elapsed = 1_800.1
    assert await policy.recipient(KEY, empty, one) is None


async def test_rcpt_lets_so_many_through_as_may_still_fit():
    kept = Kept(used={"limit:key:7:hour": 4})
    policy = built(kept, key_per_hour=5)
    with pytest.raises(Defer):
        await policy.apply(message(CONTENT, *TWO))
    one = recipient("a@example.org")
    assert await policy.recipient(KEY, Envelope("joe@example.com"), one) is None
    assert (await policy.recipient(KEY, Envelope("joe@example.com", (one,)), one)).code == 450


async def test_places_given_back_are_free_at_once():
    kept = Kept()
    policy = built(kept, key_per_hour=1)
    (kept_message,) = await policy.apply(message(CONTENT))
    with pytest.raises(Defer):
        await policy.apply(message(CONTENT))
    await policy.undo(kept_message)
    assert await policy.recipient(KEY, Envelope("joe@example.com"), recipient("a@example.org")) is None


class Refuser:
    async def apply(self, message):
        raise Refuse(Reply(550, "5.7.1", "no"))


async def test_a_refusal_further_down_the_chain_gives_the_places_back():
    kept = Kept()
    chain = Chain((("limit", built(kept, key_per_hour=5)), ("refuser", Refuser())))
    with pytest.raises(Refuse):
        await chain.apply(message(CONTENT, *TWO))
    assert kept.used == {"limit:key:7:hour": 0}


async def test_what_limit_itself_refused_is_not_given_back_twice():
    kept = Kept(used={"limit:key:7:hour": 5})
    with pytest.raises(Defer):
        await Chain((("limit", built(kept, key_per_hour=5)),)).apply(message(CONTENT, *TWO))
    assert kept.used == {"limit:key:7:hour": 5}


async def test_the_door_can_undo_a_whole_chain():
    kept = Kept()
    chain = Chain((("limit", built(kept, key_per_hour=5)),))
    (out,) = await chain.apply(message(CONTENT, *TWO))
    await chain.undo(out)
    assert kept.used == {"limit:key:7:hour": 0}
