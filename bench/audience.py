"""A large audience while mail flows: counts of segments, pages at any depth, membership tracking, and what SMTP clients feel. Figures are printed.

    python -m bench.audience [--contacts 1000000] [--suppressed 100000] [--idle 15] [--databases sqlite,postgresql]

    count    milliseconds of POST /segments/preview of three conditions: a property, a time, and what people did
    page     milliseconds of a page of 20, by number and by cursor, at the start, the middle and the end: of all contacts, and of a segment
    tracked  seconds until each contact of a new tracked segment has its first membership; milliseconds until a change is told
    smtp     milliseconds from MAIL to the 250 after DATA: idle, and during each of these
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count as counting
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2 as httpx

from bench.imports import database, mail
from bench.load import cpu, fsync_latency
from relay.mail.ids import Maker
from relay.store import bulk, projects
from relay.store.audience.schema import activity, contacts
from relay.store.engine import JOBS, Store
from relay.store.schema import suppressions
from tests.support.running import OPEN, TRUSTING, Running, routed
from tests.support.sink import Script, Sink

DOMAINS = 1_000
DAY = 86_400.0
BATCH = 5_000  # rows of one write while the audience is made
ROUNDS = 9
SIZE = 20  # contacts of a page
PRO = {"field": "plan", "operator": "equals", "value": "pro"}
THREE = [PRO, {"field": "created_at", "operator": "in_last_days", "value": 180}, {"field": "email.opened", "operator": "is_set"}]


async def fill(where: Running, count: int, suppressed: int) -> None:
    """An audience of `count` contacts in the store of a relay that is down; every third opened something."""
    store, maker, now = await Store.open(where.store_url, where.data, accept_old_sqlite=True), Maker(900), time.time()
    try:
        project = await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, now))
        await _put(store, contacts, (_person(maker.next(), project.id, n, now - n % 400 * DAY) for n in range(count)))
        numbers = iter(await store.read(lambda conn: conn.scalars(contacts.select().with_only_columns(contacts.c.id)).all()))
        opened = (number for n, number in enumerate(numbers) if n % 3 == 0)
        await _put(store, activity, ((number, "email.opened", int(now // DAY) - number % 90, 2, now, now) for number in opened))
        stopped = (f"person{n * 2}@d{n * 2 % DOMAINS}.example" for n in range(suppressed))
        told = {"project_id": project.id, "reason": "hard_bounce", "scope": "all", "evidence": "{}", "created_at": now}
        await _put(store, suppressions, (_row(suppressions, {**told, "id": maker.next(), "key": key, "address": key}) for key in stopped))
        if store.dialect == "postgresql":
            await store.write(lambda conn: conn.exec_driver_sql("ANALYZE") and None)
    finally:
        await store.close()


def _person(number: int, project: int, n: int, at: float) -> tuple[Any, ...]:
    key = f"person{n}@d{n % DOMAINS}.example"
    properties = bulk.json({"plan": ("pro", "free", "team", "trial")[n * 7 % 4], "city": f"Town {n % 311}", "seats": n % 50})
    told = {"id": number, "project_id": project, "key": key, "email": key, "first_name": f"First{n % 997}", "last_name": f"Last{n % 9973}",
            "properties": properties, "tags": '["news","customer"]', "unsubscribed": n % 20 == 0, "search": f"{key} first{n % 997} last{n % 9973}",
            "created_at": at, "updated_at": at}
    return _row(contacts, told)


def _row(table: Any, told: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(told.get(name) for name in bulk.columns_of(table))


async def _put(store: Store, table: Any, rows: Iterator[tuple[Any, ...]]) -> None:
    while part := list(islice(rows, BATCH)):
        await store.write(bulk.insert, table, part, lane=JOBS)


def timed(act: Callable[[], Any]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1e3


def measured(name: str, where: Running, act: Callable[[], Any], rounds: int = ROUNDS) -> None:
    """The first time, and the median and the worst of those after, while mail flows."""
    with mail(where) as meter:
        before = cpu(where.process.pid)
        first, *others = (timed(act) for _ in range(rounds))
        used = (cpu(where.process.pid) - before) / rounds * 1e3
    took = f"first {first:7.1f} ms  median {statistics.median(others):7.1f}  worst {max(others):7.1f}  CPU {used:6.1f} ms"
    print(f"  {name:28} {took}  {meter.told()}", flush=True)


def page(api: httpx.Client, path: str, **query: Any) -> Any:
    return api.get(path, params={"per_page": SIZE, **query}).raise_for_status().json()


def pages(api: httpx.Client, where: Running, name: str, path: str) -> None:
    """By number at the start, in the middle and at the end; by cursor from the middle on."""
    last = page(api, path)["pagination"]["total_pages"]
    for place in (1, last // 2, last):
        measured(f"{name}, page {place}", where, lambda place=place: page(api, path, page=place), ROUNDS * 5)
    middle = following = page(api, path, page=last // 2)["pagination"]["next_cursor"]

    def onward() -> None:
        nonlocal following
        following = page(api, path, cursor=following)["pagination"].get("next_cursor", middle)

    measured(f"{name}, by cursor", where, onward, ROUNDS * 5)


def tracked(api: httpx.Client, where: Running) -> None:
    """A new tracked segment, and a contact that enters it."""
    made = api.post("/segments", json={"name": "Big", "rules": [PRO], "track_membership": True}).raise_for_status().json()
    with mail(where) as meter:
        started = time.monotonic()
        while api.get(f"/segments/{made['id']}/growth", params={"days": 1}).json()["daily"][0]["members"] < made["contact_count"]:
            time.sleep(0.5)
    print(f"  {'tracked':28} {made['contact_count']} memberships in {time.monotonic() - started:.1f} s  {meter.told()}", flush=True)
    number = counting()

    def enter() -> None:
        email = f"new{next(number)}@d1.example"
        api.post("/contacts", json={"email": email, "properties": {"plan": "pro"}}).raise_for_status()

    measured("a contact enters", where, enter, ROUNDS * 5)


def run(where: Running, idle: float) -> None:
    key = where.key()
    with httpx.Client(base_url=f"http://127.0.0.1:{where.http}", headers={"Authorization": f"Bearer {key}"}, timeout=600) as api:
        for _ in range(2):  # the first warms up
            with mail(where) as meter:
                time.sleep(idle)
        print(f"  {'idle':74} {meter.told()}", flush=True)
        segment = api.post("/segments", json={"name": "Three", "rules": THREE}).raise_for_status().json()["id"]
        measured("count, three conditions", where, lambda: api.post("/segments/preview", json={"rules": THREE}).raise_for_status())
        pages(api, where, "contacts", "/contacts")
        pages(api, where, "segment", f"/segments/{segment}/members")
        tracked(api, where)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("contacts", 1_000_000), ("suppressed", 100_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--idle", type=float, default=15.0, help="seconds in which nothing but mail happens")
    parser.add_argument("--databases", default="sqlite,postgresql")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-audience-")))
        print(f"flush of 4 kB: {fsync_latency(folder) * 1e3:.2f} ms median; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        sink = stack.enter_context(Sink(Script(keep=False)))
        for kind in asked.databases.split(","):
            url = stack.enter_context(database()) if kind == "postgresql" else ""
            settings = {**OPEN, **TRUSTING, **routed(sink.address), "RELAY_STORE__URL": url, "RELAY_SECRET_KEY": "audience" * 5}
            where = Running(folder / kind, settings, cold=True)
            asyncio.run(fill(where, asked.contacts, asked.suppressed))
            print(f"{kind}: {asked.contacts} contacts, {asked.suppressed} suppressions", flush=True)
            with where:
                run(where, asked.idle)


if __name__ == "__main__":
    main()
