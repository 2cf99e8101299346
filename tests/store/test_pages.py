"""Pages: by number or by cursor the same rows as of a plain list, also of a long one that is walked through only now and then."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from relay.store import pages
from relay.store.pages import LONG, Page, Sample, Samples
from relay.store.schema import counters


@pytest.fixture(params=[1e6, 0.0], ids=["hops", "one pass"])
def short(request, monkeypatch):
    """Lists of more than twenty rows are long; a way from anchor to anchor is a short one, or too long."""
    for name, value in (("LONG", 20), ("STEP", 8), ("LEAST", 3), ("HOP", request.param)):
        monkeypatch.setattr(pages, name, value)


def fill(conn, numbers):
    conn.execute(counters.delete())
    conn.info["samples"].forget()
    add(conn, numbers)


def add(conn, numbers):
    for number in numbers:
        conn.execute(counters.insert(), {"name": f"c{number}", "window": 1.0, "used": number})


def take(conn, page, newest_first=True, rare=False):
    every = select(counters.c.used).where(counters.c.window == 1.0)
    found = pages.take(conn, every, counters.c.used, page, newest_first, name=("x", newest_first, rare), rare=rare)
    return [row.used for row in found.rows], found.total, found.last


def wanted(numbers, page, newest_first=True):
    ordered = sorted(numbers, reverse=newest_first)
    start = ordered.index(page.after) + 1 if page.after is not None else (page.number - 1) * page.size
    rows = ordered[start:start + page.size]
    return rows, len(ordered), rows[-1] if ordered[start + page.size:] else None


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 90), more=st.integers(0, 30), size=st.integers(1, 12), number=st.integers(1, 40), newest_first=st.booleans(),
       rare=st.booleans())
async def test_pages_are_those_of_the_list(store, short, count, more, size, number, newest_first, rare):
    numbers = list(range(0, count * 3, 3))
    await store.write(fill, numbers)
    page = Page(number, size)
    for _ in range(2):
        assert await store.read(take, page, newest_first, rare) == wanted(numbers, page, newest_first)
    news = range(count * 3, count * 3 + more)
    if newest_first:  # ids grow
        await store.write(add, news)
        assert await store.read(take, page, True, rare) == wanted([*numbers, *news], page, True)
    if numbers:
        after = Page(number, size, numbers[len(numbers) // 2])
        assert await store.read(take, after, newest_first, rare) == wanted([*numbers, *(news if newest_first else ())], after, newest_first)


async def test_a_long_list_is_walked_again_when_rows_went(store, short):
    await store.write(fill, range(100))
    assert (await store.read(take, Page()))[1] == 100
    await store.write(lambda conn: conn.execute(counters.delete().where(counters.c.used < 50)) and None)
    assert (await store.read(take, Page()))[1] == 100
    await store.write(lambda conn: conn.info["samples"].forget())
    assert (await store.read(take, Page()))[1] == 50


async def test_a_short_list_is_counted_each_time(store, short):
    await store.write(fill, range(15))
    assert (await store.read(take, Page()))[1] == 15
    await store.write(lambda conn: conn.execute(counters.delete().where(counters.c.used < 5)) and None)
    assert (await store.read(take, Page()))[1] == 10


async def test_a_short_list_out_of_many_rows_is_counted_now_and_then(store, short, monkeypatch):
    monkeypatch.setattr(pages, "MANY", 30)
    every, few = select(counters.c.used), select(counters.c.used).where(counters.c.used < 5)

    def some(conn):
        rare = conn.info["samples"].large(conn, every, "all")
        return pages.take(conn, few, counters.c.used, Page(2, 2), name="few", rare=rare)

    for count, later in ((30, 4), (31, 5)):
        await store.write(fill, range(count))
        assert (await store.read(some)).total == 5
        await store.write(lambda conn: conn.execute(counters.delete().where(counters.c.used == 3)) and None)
        found = await store.read(some)
        as_it_was = later == 5 and not pages.HOP  # the edge of a page that begins at an anchor
        assert (found.total, [row.used for row in found.rows]) == (later, [2, 1] if as_it_was else [1, 0])


async def test_pages_of_a_short_list_out_of_many_rows_begin_at_anchors(store, short):
    await store.write(fill, range(8))
    assert (await store.read(take, Page(4, 2), True, True))[0] == [1, 0]
    (sample,) = await store.read(lambda conn: list(conn.info["samples"]._found.values()))
    assert (sample.total, sample.anchors) == (8, (0,) if pages.HOP else (7, 6, 5, 4, 3, 2, 1, 0))


async def test_lists_of_other_names_know_nothing_of_each_other(store, short):
    await store.write(fill, range(100))
    assert (await store.read(take, Page(3, 20)))[0] == list(range(59, 39, -1))
    assert (await store.read(take, Page(3, 20), False))[0] == list(range(40, 60))


def test_samples_are_bounded_and_grow_old(monkeypatch):
    samples = Samples()
    for number in range(pages.SAMPLES + 5):
        samples.put(number, Sample(LONG + 1, 0, (), 1, pages.time.monotonic()))
    assert samples.get(0) is None
    assert samples.get(pages.SAMPLES) is not None
    monkeypatch.setattr(pages, "TTL", 0.0)
    assert samples.get(pages.SAMPLES) is None
