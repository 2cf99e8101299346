"""The queue: what is due and in which order, what a settlement changes, what operators do."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event

from relay.mail.reply import Reply
from relay.store import arrivals, attempts, events, messages, queue, reports
from relay.store.attempts import Attempt
from relay.store.queue import Filter, Settlement
from tests.store.conftest import NOW, PROJECT, made

OK = Reply(250, "2.0.0", "queued as 4711")
LATER = Reply(451, "4.7.1", "greylisted")


async def add(store, *given):
    for message in given:
        await store.write_many(messages.add_many, message)
    return given


def attempt(reply=OK, result="delivered"):
    return Attempt(NOW, 0.2, "example.net", "mx1.example.net", "192.0.2.25", "", "TLSv1.3", "dot", result, reply)


def settlement(message, state="delivered", reply=OK, which=0, **given):
    r = message.recipients[which]
    result = {"delivered": "delivered", "deferred": "tempfail"}.get(state, "permfail")
    given.setdefault("events", ((f"email.{state}", {"to": r.address}),))
    return Settlement(r.id, message.id, PROJECT, state, reply, NOW + 1, attempt(reply, result), **given)


async def settle(store, *given):
    return await asyncio.gather(*(store.write_many(queue.settle_many, each, lane="outcomes") for each in given))


@pytest.mark.parametrize("state", ["delivered", "bounced", "failed", "suppressed", "cancelled"])
async def test_an_end_leaves_no_queue_row(store, state):
    message, = await add(store, made())
    assert await settle(store, settlement(message, state)) == [True]
    line = await store.read(messages.timeline, message.id)
    recipient, = line.recipients
    assert (recipient.state, recipient.code, recipient.enhanced, recipient.text, recipient.ended_at) == (state, 250, "2.0.0", OK.text, NOW + 1)
    assert line.waiting == {}
    assert line.status == state
    assert [(r, a.reply, a.mx) for r, a in line.attempts] == [(recipient.id, OK, "mx1.example.net")]
    assert [e.type for e in line.events] == ["email.queued", f"email.{state}"]


async def test_a_deferral_moves_the_row_and_keeps_it(store):
    message, = await add(store, made())
    await settle(store, settlement(message, "deferred", LATER, due=NOW + 300, attempts=1, retry="greylist", warned=True))
    assert await store.read(queue.due, NOW + 299) == []
    row, = await store.read(queue.due, NOW + 300)
    assert (row.attempts, row.retry, row.warned, row.first_due) == (1, "greylist", True, NOW)
    line = await store.read(messages.timeline, message.id)
    assert (line.status, line.recipients[0].text, line.recipients[0].ended_at) == ("deferred", "greylisted", None)


async def test_many_recipients_of_one_message_settle_apart(store):
    message, = await add(store, made("a@example.net", "b@example.net", "c@example.net"))
    results = await settle(store, settlement(message, "delivered", which=0), settlement(message, "bounced", which=1),
                           settlement(message, "deferred", LATER, which=2, due=NOW + 60, attempts=1))
    assert results == [True, True, True]
    line = await store.read(messages.timeline, message.id)
    assert [r.state for r in line.recipients] == ["delivered", "bounced", "deferred"]
    assert line.status == "deferred"
    assert [r.address for r in (await store.read(messages.load, message.id)).recipients] == ["c@example.net"]


async def test_a_late_settlement_leaves_only_its_attempt(store):
    message, = await add(store, made())
    assert await store.write(queue.cancel, Filter(message=message.id), NOW) == [message.recipients[0].id]
    assert await settle(store, settlement(message, "delivered", report="relayed")) == [False]
    line = await store.read(messages.timeline, message.id)
    assert line.status == "cancelled"
    assert len(line.attempts) == 1
    assert [e.type for e in line.events] == ["email.queued", "email.cancelled"]
    assert await store.read(reports.due, NOW + 100) == []


async def test_two_settlements_of_a_recipient_in_one_batch_count_once(store):
    message, = await add(store, made())
    results = await store.write(queue.settle_many, [settlement(message, "delivered"), settlement(message, "bounced")])
    assert results == [True, False]
    assert await store.read(messages.status, message.id) == "delivered"


async def test_a_remotes_words_never_wedge_the_queue(store):
    message, = await add(store, made())
    words = Reply(550, "5.999.999", "x" * 100_000 + "\0\ud800")
    ugly = Attempt(NOW, 1.0, "s" * 999, "m" * 999, "a" * 99, "", "t" * 999, "dot", "permfail", words)
    r = message.recipients[0]
    done = Settlement(r.id, message.id, PROJECT, "bounced", words, NOW, ugly, events=(("email.bounced", {"to": r.address, "text": "\0\ud800"}),))
    assert await settle(store, done) == [True]
    assert await store.read(messages.status, message.id) == "bounced"


async def test_an_attempt_with_its_own_id_is_recorded_once(store):
    message, = await add(store, made())
    tried = Attempt(NOW, 1.0, "", "", "", "", "", "dot", "tempfail", LATER, id=77)
    r = message.recipients[0]
    for _ in range(2):
        await settle(store, Settlement(r.id, message.id, PROJECT, "deferred", LATER, NOW, tried, due=NOW + 1))
    assert len(await store.read(attempts.of_message, message.id)) == 1


async def test_reports_are_written_with_the_outcome_and_gathered_by_message_and_kind(store):
    message, = await add(store, made("a@example.net", "b@example.net", "c@example.net"))
    await settle(store, settlement(message, "bounced", which=0, report="failed"), settlement(message, "bounced", which=1, report="failed"),
                 settlement(message, "delivered", which=2, report="relayed"))
    assert await store.read(reports.due, NOW) == []
    found = {r.kind: r for r in await store.read(reports.due, NOW + 10)}
    assert found["failed"].recipients == (message.recipients[0].id, message.recipients[1].id)
    await store.write(reports.later, found["relayed"].rows, NOW + 500)
    await store.write(reports.done, found["failed"].rows)
    assert await store.read(reports.due, NOW + 10) == []
    assert await store.read(reports.next_due) == NOW + 500


async def test_transactional_mail_is_due_before_marketing(store):
    early, late = made(stream="marketing", now=NOW - 100), made(stream="transactional", now=NOW)
    await add(store, early, late)
    assert [r.message_id for r in await store.read(queue.due, NOW)] == [late.id, early.id]


async def test_a_domain_with_much_mail_leaves_room_for_the_others(store):
    await add(store, *(made(f"u{n}@dead.example") for n in range(30)), made("ann@alive.example"))
    rows = await store.read(lambda conn: queue.due(conn, NOW, 20, per_domain=10))
    assert [r.domain for r in rows].count("dead.example") == 10
    assert [r.domain for r in rows].count("alive.example") == 1
    assert await store.read(queue.domains_waiting) == ["alive.example", "dead.example"]
    skipped = await store.read(lambda conn: queue.due(conn, NOW, skip=["dead.example"]))
    assert {r.domain for r in skipped} == {"alive.example"}
    assert len(await store.read(lambda conn: queue.due(conn, NOW, 25, domain="dead.example"))) == 25


async def test_held_recipients_are_not_due_and_released_ones_are(store):
    one, two = await add(store, made("ann@example.net"), made("bob@example.org"))
    held = await store.write(queue.hold, Filter(domains=("example.net",)))
    assert held == [one.recipients[0].id]
    assert [r.message_id for r in await store.read(queue.due, NOW)] == [two.id]
    assert await store.read(queue.domains_waiting) == ["example.org"]
    assert await store.write(queue.hold, Filter(domains=("example.net",))) == []
    assert await store.write(queue.release, Filter(), NOW) == held
    assert len(await store.read(queue.due, NOW)) == 2


async def test_releasing_does_not_send_scheduled_mail_early(store):
    _message, = await add(store, made(send_at=NOW + 9000))
    await store.write(queue.hold)
    await store.write(queue.release, Filter(), NOW)
    assert await store.read(queue.next_due, NOW) == NOW + 9000


async def test_retry_makes_deferred_recipients_due_now(store):
    message, = await add(store, made())
    await settle(store, settlement(message, "deferred", LATER, due=NOW + 3600, attempts=1))
    assert await store.write(queue.retry, Filter(), NOW + 5) == [message.recipients[0].id]
    assert await store.write(queue.retry, Filter(), NOW + 5) == []
    assert len(await store.read(queue.due, NOW + 5)) == 1


FILTERS = {
    "project": (Filter(project=PROJECT), 3), "another project": (Filter(project=99), 0), "key": (Filter(key_id=9), 2),
    "domain": (Filter(domains=("example.org",)), 1), "no domain": (Filter(domains=()), 0), "tag": (Filter(tag="welcome"), 1),
    "part of a tag": (Filter(tag="wel"), 0), "older": (Filter(older_than=NOW), 1),
    "address": (Filter(address="ann@example.net"), 2), "topic": (Filter(topic="news"), 1), "stream": (Filter(stream="marketing"), 1),
    "held": (Filter(held=True), 0), "key and tag": (Filter(key_id=9, tag="welcome"), 1), "all": (Filter(), 3),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_a_filter_picks(store, name):
    await add(store, made("ann@example.net", tags=("welcome", "x")), made("ann@example.net", now=NOW - 50, key_id=8),
              made("bob@example.org", stream="marketing", topic="news"))
    wanted, number = FILTERS[name]
    assert await store.read(queue.count, wanted) == number
    assert len(await store.read(queue.listed, wanted)) == number
    assert len(await store.write(queue.cancel, wanted, NOW)) == number
    assert await store.read(queue.count) == 3 - number


async def test_acts_go_in_slices(store):
    await add(store, made(*(f"u{n}@example.net" for n in range(25))))
    gone = []
    while more := await store.write(queue.cancel, Filter(), NOW, "cancelled by hand", 10):
        gone.append(len(more))
    assert gone == [10, 10, 5]


async def test_counts_by_domain(store):
    message, *_ = await add(store, made("a@example.net"), made("b@example.net"), made("c@example.net", now=NOW - 7), made("d@example.org"))
    await settle(store, settlement(message, "deferred", LATER, due=NOW + 60, attempts=1))
    await store.write(queue.hold, Filter(address="b@example.net"))
    rows = [tuple(r) for r in await store.read(queue.counts, NOW)]
    assert rows == [("example.net", 1, 1, 1, NOW - 7), ("example.org", 1, 0, 0, NOW)]
    assert await store.read(queue.oldest) == NOW - 7
    assert await store.read(queue.oldest, "marketing") is None


async def test_a_message_that_was_not_tried_can_be_moved(store):
    one, two = await add(store, made(send_at=NOW + 10), made())
    await settle(store, settlement(two, "deferred", LATER, due=NOW + 20, attempts=1))
    assert await store.write(queue.reschedule, one.id, NOW + 500) == 1
    assert await store.write(queue.reschedule, two.id, NOW + 500) == 0
    assert await store.read(queue.next_due, NOW + 20) == NOW + 500


async def test_waiting_recipients_are_listed_in_pages(store):
    _message, = await add(store, made(*(f"u{n}@example.net" for n in range(5))))
    first = await store.read(lambda conn: queue.listed(conn, limit=3))
    rest = await store.read(lambda conn: queue.listed(conn, after=first[-1].recipient_id))
    assert [r.address for r in (*first, *rest)] == [f"u{n}@example.net" for n in range(5)]
    assert (first[0].subject, first[0].sender) == ("Your order", "bounce@example.com")


async def test_suppressing_ends_what_waits_with_an_event(store):
    message, = await add(store, made())
    reply = Reply(550, "5.7.1", "unsubscribed")
    assert await store.write(queue.end, Filter(address="ann@example.net"), "suppressed", reply, NOW) == [message.recipients[0].id]
    found, _ = await store.read(events.since)
    assert found[-1].type == "email.suppressed"
    assert found[-1].data["reason"] == "unsubscribed"


SEEKS = {
    "due of a domain": lambda conn: queue.due(conn, NOW, domain="example.net"),
    "due": lambda conn: queue.due(conn, NOW),
    "next due": lambda conn: queue.next_due(conn, NOW),
    "arrived": lambda conn: arrivals.arrived(conn, 0.0, 0, NOW),
    "of a message": lambda conn: queue.count(conn, Filter(message=4711)),
    "to an address": lambda conn: queue.count(conn, Filter(project=PROJECT, address="ann@example.net")),
    "timeline": lambda conn: messages.timeline(conn, conn.exec_driver_sql("SELECT min(id) FROM messages").scalar()),
}


@pytest.mark.parametrize("name", SEEKS)
async def test_a_question_of_the_hot_path_never_scans_the_queue(sqlite, name):
    """A queue of millions costs it no more than one of ten."""
    await add(sqlite, made("ann@example.net", "bob@example.org"))

    def plans(conn):
        asked = []
        event.listen(conn, "before_cursor_execute", lambda _c, _cursor, statement, given, *_: asked.append((statement, given)))
        SEEKS[name](conn)
        return [row[3] for statement, given in asked[:] if "queue" in statement
                for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)]

    found = await sqlite.read(plans)
    assert found
    assert [step for step in found if step.startswith(("SCAN queue", "USE TEMP B-TREE"))] == []
