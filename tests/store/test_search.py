"""Finding emails: every filter, alone and with others, against plain Python, by each of the two ways to answer; totals through all that comes and goes."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from sqlalchemy import update

from relay.errors import Invalid
from relay.mail import header, ids
from relay.store import messages, projects, retention, search, substrings, totals
from relay.store.pages import Page
from relay.store.retention import Keep
from relay.store.schema import queue, recipients
from relay.store.search import Filter
from tests.store.conftest import MAKER, NOW, PROJECT, made

OTHER = 2
STATES = ("queued", "delivered", "bounced", "deferred", "failed", "scheduled", "suppressed", "cancelled")
TAGS = (("welcome",), ("welcome", "de"), (), ("receipt", "receipt"))
PEOPLE = ("ann@example.net", "bob@example.net", "eve@example.org")


def settled(conn, states):
    """Put recipients into states as the queue would."""
    for number, state in states.items():
        conn.execute(update(recipients).where(recipients.c.id == number).values(state=state))
    open_ones = [number for number, state in states.items() if state in ("queued", "deferred", "scheduled")]
    conn.execute(queue.delete().where(queue.c.recipient_id.not_in(open_ones)))


def from_domain(message, domain):
    return message.with_header(message.header.without(b"from").prepend(header.make("From", f"<a@{domain}>")))


@pytest.fixture
async def ledger(store):
    """60 emails of one project and 10 of another, and what a plain list of them says: (id, project, domain, tags, at, states by address)."""
    await store.write(projects.add, projects.Project(OTHER, "other", {}, NOW))
    picked, mail, written, states = random.Random(7), [], [], {}
    for number in range(70):
        people = picked.sample(PEOPLE, picked.choice((1, 1, 2)))
        domain = picked.choice(("shop.example", "mail.shop.example", "news.example"))
        message = from_domain(made(*people, now=NOW + number, tags=TAGS[number % 4], project=PROJECT if number < 60 else OTHER), domain)
        mail.append(message)
        each = {r.key: picked.choice(STATES) for r in message.recipients}
        states |= {r.id: each[r.key] for r in message.recipients}
        written.append((message.id, message.principal.project, domain, set(message.wishes.tags), message.received_at, each))
    await asyncio.gather(*(store.write_many(messages.add_many, message) for message in mail))
    await store.write(settled, states)
    return list(reversed(written))


def expected(ledger, project, wanted):
    def fits(row):
        _, whose, domain, tags, at, states = row
        status = next(state for state in messages.STATUS if state in states.values())
        return (whose == project and wanted.status in (None, status) and wanted.tag in (None, *tags) and wanted.to in (None, *states)
                and (wanted.domain is None or f".{domain}".endswith(f".{wanted.domain}"))
                and (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until))

    return [row[0] for row in ledger if fits(row)]


CHOICES = {
    "status": (None, *messages.STATUS), "domain": (None, "shop.example", "mail.shop.example", "none.example"), "to": (None, "bob@example.net"),
    "tag": (None, "welcome", "nothing"), "since": (None, NOW + 20), "until": (None, NOW + 50),
}


ALONE = [[value if name == each else None for each in CHOICES] for name, values in CHOICES.items() for value in values]
COMBINED = ALONE + random.Random(1).sample(list(itertools.product(*CHOICES.values())), 60)


@pytest.mark.parametrize("most", [pytest.param(search.MOST, id="looking at few"), pytest.param(3, id="walking many")])
async def test_each_filter_and_all_together_find_what_a_plain_list_says(store, ledger, most, monkeypatch):
    monkeypatch.setattr(search, "MOST", most)
    for values in COMBINED:
        wanted = Filter(**dict(zip(CHOICES, values, strict=True)))
        right = expected(ledger, PROJECT, wanted)
        hits = await store.read(search.find, PROJECT, wanted, Page(1, 100))
        assert (hits.ids, hits.more) == (right, False), wanted
        assert hits.total == len(right) if hits.exact else most <= hits.total < len(right), wanted
        assert (await store.read(search.find, OTHER, wanted, Page(1, 100))).ids == expected(ledger, OTHER, wanted), wanted


@pytest.mark.parametrize("most", [pytest.param(search.MOST, id="looking at few"), pytest.param(3, id="walking many")])
@pytest.mark.parametrize("wanted", [Filter(), Filter(tag="welcome"), Filter(status="delivered"), Filter(domain="shop.example"), Filter(since=NOW + 5)],
                         ids=["all", "tag", "delivered", "domain", "since"])
async def test_pages_by_number_and_by_cursor_are_the_same(store, ledger, wanted, most, monkeypatch):
    monkeypatch.setattr(search, "MOST", most)
    right, by_number, by_cursor, after = expected(ledger, PROJECT, wanted), [], [], None
    for number in itertools.count(1):
        one = await store.read(search.find, PROJECT, wanted, Page(number, 7))
        other = await store.read(search.find, PROJECT, wanted, Page(1, 7, after))
        by_number += one.ids
        by_cursor += other.ids
        assert one.more is other.more
        if not one.more:
            break
        after = other.ids[-1]
    assert by_number == by_cursor == right


async def test_a_page_by_number_is_not_looked_for_where_it_may_be_far(store, ledger, monkeypatch):
    """Where not all were counted, nobody walks over more than DEEP emails; a cursor goes on."""
    monkeypatch.setattr(search, "MOST", 3)
    monkeypatch.setattr(search, "DEEP", 7)
    wanted = Filter(status="delivered", since=NOW)
    right = expected(ledger, PROJECT, wanted)
    with pytest.raises(Invalid, match="cursor") as refused:
        await store.read(search.find, PROJECT, wanted, Page(2, 7))
    assert refused.value.field == "page"
    assert (await store.read(search.find, PROJECT, wanted, Page(2, 7, right[6]))).ids == right[7:14]
    assert (await store.read(search.find, PROJECT, Filter(), Page(9, 7))).ids == expected(ledger, PROJECT, Filter())[56:63]


async def test_a_cursor_whose_email_has_gone_goes_on_by_the_time_in_its_id(store, ledger, monkeypatch):
    monkeypatch.setattr(search, "MOST", 3)
    newest = ledger[0][0] + 1
    assert (await store.read(search.find, PROJECT, Filter(), Page(1, 100, newest))).ids == expected(ledger, PROJECT, Filter())


async def test_totals_follow_what_comes_and_goes(store, time):
    rows = [made("ann@example.net", now=NOW, tags=("welcome", "welcome", "de")), made("bob@example.net", now=NOW, tags=("welcome",))]
    for message in rows:
        await store.write_many(messages.add_many, message)
    read = lambda kind, name="": store.read(totals.of, PROJECT, kind, name)  # noqa: E731
    assert [await read(totals.ALL), await read(totals.DOMAIN, "example.com"), await read(totals.TAG, "welcome"), await read(totals.TAG, "de")] == [2, 2, 2, 1]
    assert await store.read(totals.of, OTHER, totals.ALL) == 0
    await store.write(settled, {message.recipients[0].id: "delivered" for message in rows})
    await store.write(lambda conn: conn.execute(update(recipients).values(ended_at=NOW)))
    await retention.sweep(store, Keep(messages=0.0), ids.EPOCH / 1000 + (MAKER.next() >> 21) / 1000 + 10)
    assert [await read(totals.ALL), await read(totals.TAG, "welcome"), await store.read(totals.names, PROJECT, totals.DOMAIN)] == [0, 0, []]
    assert (await store.read(search.find, PROJECT, Filter(tag="welcome"), Page())).total == 0


@pytest.mark.parametrize("window", [1, 7, 1_000])
@pytest.mark.parametrize("wanted", [Filter(), Filter(since=NOW + 20, until=NOW + 50)], ids=["any time", "between"])
async def test_looks_at_subjects_follow_one_another_to_the_end(store, window, wanted):
    """Windows of any length together find what is there, once; another project's never."""
    await store.write(projects.add, projects.Project(OTHER, "other", {}, NOW))
    written = []
    for number in range(70):
        message = made("ann@example.net", now=NOW + number, project=PROJECT if number % 7 else OTHER)
        message = message.with_header(message.header.without(b"subject").prepend(header.make("Subject", f"Receipt {number % 3} 100%")))
        await store.write_many(messages.add_many, message)
        if number % 7 and number % 3 == 1 and (wanted.since or 0) <= NOW + number < (wanted.until or NOW + 99):
            written.append(message.id)
    found, after = [], None
    for _ in range(80):
        look = await store.read(substrings.look, PROJECT, "RECEIPT 1 100%", wanted, after, window)
        assert len(look.found) <= window
        found += look.found
        after = look.last
        if after is None:
            break
        assert look.at >= (wanted.since or NOW)
    assert (after, sorted(found)) == (None, sorted(written))
    assert (await store.read(substrings.look, PROJECT, "1_0", wanted)).found == frozenset()
