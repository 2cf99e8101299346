"""How long the dashboard's pages take on the server with a million contacts and a million emails: figures, and which are over the bar.

    python -m bench.pages [--emails 1000000] [--contacts 1000000] [--databases sqlite,postgresql]

The ledger and the audience are written straight into the store of a relay that then serves them; each page is asked for a few times, and what the server says
it took (Server-Timing) is printed as median and worst, beside the CPU that was spent: on a machine that does other things the first waits for its turn, and the
second does not (PostgreSQL's own is not in it). The bar is 100 ms for a page. Parts that a page fetches once it is there, because they count an audience, are
marked: nobody waits for them to read the page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from bench.audience import THREE, _person
from relay.mail.ids import EPOCH, internal, public
from relay.store import bulk
from relay.store.audience.schema import activity, contacts
from relay.store.broadcasts.schema import broadcasts, counts, ledger
from relay.store.engine import JOBS, Store
from relay.store.schema import email_counts, messages, recipients
from tests.support import postgres
from tests.support.served import Served, Tenant
from tests.support.visitor import visiting

BATCH = 5_000  # rows of a transaction
STEP = 100  # milliseconds from one row to the next
ROUNDS, SEVERAL = 9, 3  # of a page, of a part
BAR = 100.0  # milliseconds
DAY = 86_400.0
PAGES = (
    "/mail", "/mail?page=400", "/mail?q=person7@d7.example", "/mail?status=bounced", "/mail?q=Receipt+77&in=subject", "/mail?q=nothing&in=subject",
    "/mail?since={day}&until={day}", "/mail?since={day}&status=bounced", "/mail?q={message_id}&in=id", "/mail/{email}", "/mail/{email}/insights",
    "/queue", "/queue/waiting", "/queue/curves",
    "/contacts", "/contacts?page=20000", "/contacts?search=person77777", "/contacts?search=first77", "/contacts?state=unsubscribed", "/contacts/{contact}",
    "/contacts/new", "/contacts/import", "/segments", "/segments/new", "/segments/{segment}", "/segments/{segment}/edit", "/segments/{segment}/growth",
    "/segments/{list}?find=person77",
    "/templates", "/templates/new", "/templates/{template}", "/templates/{template}/versions?version=1",
    "/workflows", "/workflows/new",
    "/broadcasts", "/broadcasts/new", "/broadcasts/{draft}", "/broadcasts/{draft}/review", "/broadcasts/{sent}", "/broadcasts/{sent}/people",
    "/broadcasts/{sent}/people?state=bounced", "/preview/contacts?contact=person777",
    "/settings/domains", "/settings/keys", "/settings/webhooks", "/settings/suppressions", "/settings/users", "/settings/project",
)
PARTS = (
    "/contacts?search=person77777&whole=1", "/contacts?state=unsubscribed&whole=1", "/segments?whole=1", "/segments/{segment}?whole=1",
    "/segments/{list}?find=person77&whole=find", "/broadcasts/{draft}/review?part=people", "/broadcasts/{draft}/review?part=check",
)


async def put(store: Store, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    """Write rows, JSON columns as text, the newest last."""
    columns = bulk.columns_of(table)
    while part := [tuple(row.get(name) for name in columns) for row in islice(rows, BATCH)]:
        await store.write(bulk.insert, table, part, lane=JOBS)


def emails(project: int, count: int, last: int) -> Iterator[dict[str, Any]]:
    """Emails that ended, one each STEP, the newest at `last` (milliseconds)."""
    empty = {"tags": "[]", "envelope": "{}", "origin": "{}", "wishes": "{}", "facts": "{}", "trace": "[]"}
    for number in range(count):
        at = last - (count - number) * STEP
        identity = ((at - EPOCH) << 21) + 1
        yield {"id": identity, "project_id": project, "body_id": identity, "protocol": "http", "sender": "a@shop.example", "header_from": "a@shop.example",
               "domain": "shop.example", "subject": f"Receipt {number}", "message_id": f"{identity}@relay.test", "size": 900, "stream": "transactional",
               "topic": "", **empty, "created_at": at / 1000}


def people(project: int, count: int, last: int) -> Iterator[dict[str, Any]]:
    """The recipient of each."""
    for number in range(count):
        at = last - (count - number) * STEP
        address, identity = f"person{number}@d{number % 50}.example", ((at - EPOCH) << 21) + 1
        yield {"id": identity + 1, "message_id": identity, "project_id": project, "address": address, "key": address, "domain": f"d{number % 50}.example",
               "notify": "", "orcpt": "", "state": "bounced" if number % 50 == 0 else "delivered", "code": 250, "enhanced": "2.0.0", "text": "ok",
               "ended_at": at / 1000 + 1}


async def fill(store: Store, tenant: Tenant, many: int, audience: int, sent: int) -> str:
    """Write emails, contacts with what they did, and the ledger of the broadcast `sent`; the public id of an email."""
    project, now = tenant.number, store.clock.now()
    last = int(now * 1000)
    await put(store, messages, emails(project, many, last))
    await put(store, recipients, people(project, many, last))
    numbers = [((last - (audience - n) * STEP - EPOCH) << 21) + 3 for n in range(audience)]
    names = bulk.columns_of(contacts)
    await put(store, contacts, (dict(zip(names, _person(number, project, n, now - n % 400 * DAY), strict=True)) for n, number in enumerate(numbers)))
    await put(store, activity, ({"contact_id": number, "name": "email.opened", "day": int(now // DAY) - n % 90, "count": 2, "first_at": now, "last_at": now}
                                for n, number in enumerate(numbers) if n % 3 == 0))
    await put(store, ledger, ({"id": number + 1, "broadcast_id": sent, "contact_id": number, "variant": 1, "domain": f"d{n % 50}.example",
                               "state": "bounced" if n % 50 == 0 else "delivered", "reason": "", "at": now, "opened_at": now if n % 4 == 0 else None}
                              for n, number in enumerate(numbers)))

    def figures(conn: Any) -> None:
        conn.execute(email_counts.insert().values(project_id=project, kind="all", name="", number=many))
        conn.execute(broadcasts.update().where(broadcasts.c.id == sent).values(status="sent", started_at=now, ended_at=now, gathered=True))
        told = {"delivered": audience - audience // 50, "bounced": audience // 50, "opened": audience // 4}
        conn.execute(counts.insert(), [{"broadcast_id": sent, "variant": 1, "name": name, "count": count} for name, count in told.items()])

    await store.write(figures)
    if store.dialect == "postgresql":
        await store.write(lambda conn: conn.exec_driver_sql("ANALYZE") and None)
    return public("em", ((last - STEP * 10 - EPOCH) << 21) + 1)


def furnish(served: Served, tenant: Tenant, many: int, audience: int) -> dict[str, str]:
    """What the paths of PAGES stand for."""
    letter = {"from": "a@shop.example", "subject": "Hello {{ first_name }}", "text": "Hi"}
    segment = tenant.post("/segments", {"name": "Three", "rules": THREE}, 201)["id"]
    kept = tenant.post("/segments", {"name": "List"}, 201)["id"]
    template = tenant.post("/templates", {"name": "Hello", "subject": "Hello", "html": "<p>Hi {{ first_name }}</p>"}, 201)["id"]
    tenant.post(f"/templates/{template}/publish")
    draft, sent = (tenant.post("/broadcasts", {**letter, **whom}, 201)["id"] for whom in ({"segment_id": segment}, {"all_contacts": True}))
    email = served.call(fill(served.relay.store, tenant, many, audience, internal(sent, "brd") or 0), 3_600)
    contact = tenant.get("/contacts")["contacts"][0]["id"]
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return {"email": email, "message_id": f"<{internal(email, 'em')}@relay.test>", "segment": segment, "list": kept, "template": template, "draft": draft,
            "sent": sent, "contact": contact, "day": day}


def measure(tenant: Tenant, found: dict[str, str]) -> list[str]:
    """Print what each page takes; those over the bar."""
    visitor, slow = visiting(tenant), []
    for page in (*PAGES, *PARTS):
        took, spent = [], []
        for _ in range(SEVERAL if page in PARTS else ROUNDS):
            began = time.process_time()
            answer = visitor.get(page.format(**found))
            assert answer.status_code == 200, (page, answer.status_code, answer.text)
            spent.append((time.process_time() - began) * 1e3)
            took.append(float(re.search(r"dur=([\d.]+)", answer.headers["server-timing"])[1]))
        first, median, worst = took[0], statistics.median(took[1:]), max(took[1:])
        mark = "   a part, fetched by its page" if page in PARTS else "   OVER" if median > BAR else ""
        slow += [page] if mark == "   OVER" else []
        print(f"  {page:44} first {first:7.1f} ms  median {median:7.1f}  worst {worst:7.1f}  CPU {statistics.median(spent[1:]):7.1f}{mark}", flush=True)
    return slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("emails", "contacts"):
        parser.add_argument(f"--{name}", type=int, default=1_000_000)
    parser.add_argument("--databases", default="sqlite,postgresql")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-pages-")))
        for database in asked.databases.split(","):
            url = asyncio.run(stack.enter_context(postgres.server()).create()) if database == "postgresql" else f"sqlite:///{folder}/relay.db"
            with Served(folder, url) as served:
                print(f"{database}: writing {asked.emails:,} emails and {asked.contacts:,} contacts", flush=True)
                tenant = served.tenant()
                slow = measure(tenant, furnish(served, tenant, asked.emails, asked.contacts))
                print(f"  {len(slow)} of {len(PAGES)} pages over {BAR:.0f} ms; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n", flush=True)


if __name__ == "__main__":
    main()
