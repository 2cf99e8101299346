"""The ledger: what acceptance writes, and that the message comes back as it was."""

from __future__ import annotations

import pytest

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.mail.reply import Reply
from relay.store import bodies, events, messages, queue
from relay.store.bodies import INLINE
from relay.store.segments import PIECE
from tests.store.conftest import NOW, PROJECT, made


@pytest.mark.parametrize("size", [0, 10, INLINE, INLINE * 10], ids=["empty", "small", "inline", "segment"])
async def test_a_message_comes_back_octet_for_octet(store, size):
    message = made("ann@example.net", "Bob@Example.NET", body=b"\xff\x00" * (size // 2), tags=("a", "b"))
    assert await store.write_many(messages.add_many, message) == message.id
    back = await store.read(messages.load, message.id)
    assert back == message
    assert back.octets() == message.octets()
    assert await store.read(messages.load_many, [message.id, 1]) == {message.id: message}


@pytest.mark.parametrize("size", [10, INLINE - 2_000, 3 * PIECE], ids=["all of it", "in the row", "in a segment"])
async def test_the_beginning_of_a_message_is_read_alone(store, size):
    message = made(body=b"\xff\x00" * (size // 2))
    await store.write_many(messages.add_many, message)
    read = await store.read(bodies.beginning, message.id, 5_000)
    assert message.octets().startswith(read)
    assert min(5_000, message.size) <= len(read) <= max(5_000, PIECE)


async def test_dropped_recipients_end_as_suppressed_with_the_reason(store):
    message = made("ann@example.net", "bob@example.net")
    bob = message.recipients[1]
    message = message.drop(bob, Reply(550, "5.7.1", "hard bounce in March"))
    await store.write_many(messages.add_many, message)
    line = await store.read(messages.timeline, message.id)
    assert {r.address: r.state for r in line.recipients} == {"ann@example.net": "queued", "bob@example.net": "suppressed"}
    assert [(e.type, e.data["to"]) for e in line.events] == [("email.queued", "ann@example.net"), ("email.suppressed", "bob@example.net")]
    assert line.events[1].data["reason"] == "hard bounce in March"
    assert set(line.waiting) == {message.recipients[0].id}
    assert line.status == "queued"


async def test_a_message_without_recipients_left_is_kept_and_ended(store):
    message = made("bob@example.net")
    message = message.drop(message.recipients[0], Reply(550, "5.7.1", "unsubscribed"))
    await store.write_many(messages.add_many, message)
    assert await store.read(messages.status, message.id) == "suppressed"
    assert await store.read(queue.count) == 0


async def test_scheduled_mail_waits_for_its_time(store):
    message = made(send_at=NOW + 3600)
    await store.write_many(messages.add_many, message)
    line = await store.read(messages.timeline, message.id)
    assert line.status == "scheduled"
    assert line.events[0].type == "email.scheduled"
    assert await store.read(queue.due, NOW) == []
    assert [r.message_id for r in await store.read(queue.due, NOW + 3600)] == [message.id]
    assert await store.read(queue.next_due, NOW) == NOW + 3600


async def test_what_people_wrote_never_stops_the_store(store):
    from relay.mail import header

    message = made()
    odd = (header.Field(b"subject", b"Subject: \xff\xfe =?utf-8?b?////?= " + b"x" * 5000 + b"\r\n"), header.Field(b"from", b"From: @@,\xff<>\r\n"))
    message = message.with_header(header.Header((*odd, *message.header.fields))).noted("rspamd", "warned", "a\0b")
    await store.write_many(messages.add_many, message)
    back = await store.read(messages.load, message.id)
    assert back.octets() == message.octets()


@pytest.mark.parametrize("question", ["id", "message-id", "bare message-id", "address"])
async def test_a_message_is_found_by(store, question):
    message = made("ann@example.net")
    other = made("bob@example.net")
    await store.write_many(messages.add_many, message)
    await store.write_many(messages.add_many, other)
    field = message.header.value(b"message-id")
    text = {"id": ids.public("em", message.id), "message-id": field, "bare message-id": field.strip("<>"), "address": "ann@example.net"}[question]
    assert await store.read(messages.find, text) == [message.id]
    assert await store.read(messages.find, text, PROJECT) == [message.id]
    assert await store.read(messages.find, text, PROJECT + 1) == []


async def test_another_projects_message_is_not_found(store):
    message = made()
    await store.write_many(messages.add_many, message)
    with pytest.raises(NotFound):
        await store.read(messages.get, message.id, PROJECT + 1)
    assert await store.read(messages.have, message.id)
    assert not await store.read(messages.have, message.id + 1)


async def test_an_idempotency_key_gives_the_first_message_again(store):
    first, again = made("ann@example.net", key="order-1", protocol="http"), made("ann@example.net", key="order-1", protocol="http")
    assert await store.write_many(messages.accept_many, (first,)) == first.id
    assert await store.write_many(messages.accept_many, (again,)) == first.id
    assert await store.read(messages.count) == 1


async def test_of_two_at_once_with_one_key_one_is_sent(store):
    import asyncio

    pair = [made("ann@example.net", key="order-1", protocol="http") for _ in range(2)]
    answers = await asyncio.gather(*(store.write_many(messages.accept_many, (m,)) for m in pair))
    assert len(set(answers)) == 1
    assert await store.read(messages.count) == 1


async def test_a_key_for_another_message_is_a_conflict_over_http(store):
    await store.write_many(messages.accept_many, (made(key="k", protocol="http"),))
    with pytest.raises(Conflict):
        await store.write_many(messages.accept_many, (made(key="k", protocol="http", body=b"Other.\r\n"),))


async def test_over_smtp_a_key_counts_for_each_recipient(store):
    first = made("ann@example.net", "bob@example.net", key="k")
    await store.write_many(messages.accept_many, (first,))
    retried = made("bob@example.net", "cy@example.net", key="k", body=b"new boundary\r\n")
    assert await store.write_many(messages.accept_many, (retried,)) == retried.id
    assert [r.address for r in (await store.read(messages.load, retried.id)).recipients] == ["cy@example.net"]
    assert await store.write_many(messages.accept_many, (made("ann@example.net", key="k"),)) == first.id


async def test_an_expired_key_is_free(store):
    await store.write_many(messages.accept_many, (made(key="k"),))
    later = made(key="k", now=NOW + 25 * 3600)
    assert await store.write_many(messages.accept_many, (later,)) == later.id


async def test_events_are_in_the_order_of_the_recipients(store):
    message = made("ann@example.net", "bob@example.net")
    await store.write_many(messages.add_many, message)
    found, _ = await store.read(events.since)
    assert [e.recipient_id for e in found] == [r.id for r in message.recipients]


@pytest.mark.parametrize("number", [1, 31, 32, 95, 96, 97, 130, 200])
async def test_as_many_as_came_are_there(store, number):
    batch = [made(f"user{n}@example.net") for n in range(number)]
    assert await store.write_each(messages.add_many, batch) == [each.id for each in batch]
    assert await store.read(messages.load_many, [each.id for each in batch]) == {each.id: each for each in batch}
    assert await store.read(queue.count) == number
