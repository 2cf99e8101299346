"""What settlements say of addresses, in the transaction that records them, on both databases."""

from __future__ import annotations

import pytest

from relay import bounces
from relay.consent import Terms
from relay.mail.reply import Reply
from relay.queue.evidence import Evidence
from relay.store import messages, projects, suppressions
from relay.store.attempts import Attempt
from relay.store.engine import Store
from relay.store.queue import Settlement
from tests.store.conftest import NOW, PROJECT, made

RULES = bounces.read()
TO = "gone@example.net"


@pytest.fixture
async def store(store_url, tmp_path):
    opened = await Store.open(store_url, tmp_path / "data", min_free=0, reserve=0)
    await opened.write(projects.add, projects.Project(PROJECT, "default", {}, NOW))
    yield opened
    await opened.close()


def bounced(message, category="hard", at=NOW):
    reply = Reply(550, "5.1.1", "no such user")
    attempt = Attempt(at, 0.1, "example.net", "mx.example.net", "192.0.2.1", "", "", "rcpt", "permfail", reply)
    return Settlement(message.recipients[0].id, message.id, PROJECT, "bounced", reply, at, attempt, category=category, rule="no-such-user")


@pytest.mark.parametrize(("terms", "ends"), [
    pytest.param(Terms(), None, id="until-lifted"),
    pytest.param(Terms(hard=3_600.0), NOW + 3_600.0, id="for-an-hour"),
])
async def test_a_hard_bounce_lasts_as_long_as_the_settings_say(store, terms, ends):
    message = made(TO)
    await store.write(messages.add_many, [message])
    assert await store.write(Evidence(RULES, terms).record, [bounced(message)]) == ()
    (entry,) = await store.read(suppressions.of, PROJECT, TO)
    assert (entry.reason, entry.expires_at) == ("hard_bounce", ends)
    assert entry.evidence["mx"] == "mx.example.net"


async def test_others_who_wait_at_the_address_are_named(store):
    first, second, other = made(TO), made(TO), made("else@example.net")
    await store.write(messages.add_many, [first, second, other])
    assert await store.write(Evidence(RULES, Terms()).record, [bounced(first)]) == (second.recipients[0].id,)


@pytest.mark.parametrize("category", ["", "soft", "mailbox-full"])
async def test_one_that_is_not_hard_changes_nothing(store, category):
    message = made(TO)
    await store.write(messages.add_many, [message])
    await store.write(Evidence(RULES, Terms()).record, [bounced(message, category)])
    assert await store.read(suppressions.of, PROJECT, TO) == []


async def test_a_settlement_that_came_late_says_nothing(store):
    """The recipient was cancelled meanwhile: its attempt is recorded, and the address stays as it is."""
    message = made(TO)
    await store.write(messages.add_many, [message])
    evidence = Evidence(RULES, Terms())
    await store.write(evidence.record, [Settlement(message.recipients[0].id, message.id, PROJECT, "cancelled", Reply(250), NOW)])
    await store.write(evidence.record, [bounced(message)])
    assert await store.read(suppressions.of, PROJECT, TO) == []


@pytest.mark.parametrize(("days", "gap", "phase", "delivered", "worn"), [
    pytest.param(5, 1, "rcpt", (), True, id="five-days"),
    pytest.param(4, 1, "rcpt", (), False, id="four-days"),
    pytest.param(5, 7, "report", (), True, id="spread-over-thirty"),
    pytest.param(5, 8, "rcpt", (), False, id="over-more-than-thirty"),
    pytest.param(9, 1, "rcpt", (3,), False, id="delivered-since"),
    pytest.param(9, 1, "rcpt", (6,), True, id="delivered-before"),
    pytest.param(9, 1, "connect", (), False, id="never-reached"),
    pytest.param(9, 1, "guess", (), True, id="guesses"),
])
def test_when_an_address_is_worn_out(days, gap, phase, delivered, worn):
    full = Reply(552, "5.2.2", "mailbox full")
    ends = [bounces.End(NOW - number * gap * 86_400, number in delivered, full, "mx.example.net", phase) for number in range(days)]
    assert RULES.worn(ends, NOW) is worn


def test_many_on_one_day_are_one():
    assert not RULES.worn([bounces.End(NOW - number, False, Reply(552, "5.2.2", "full"), "", "rcpt") for number in range(500)], NOW)
