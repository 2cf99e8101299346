"""How long the dashboard's pages take on the server with a million emails: `python -m bench.pages [emails]`.

The ledger is written straight into the store of a relay that then serves it; each page is asked for a few times, and what the server says it took
(Server-Timing) is printed as median and worst. The bar is 100 ms.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from relay.mail.ids import EPOCH, public
from relay.store.engine import Store
from relay.store.schema import email_counts, messages, recipients
from tests.support.served import Served, Tenant
from tests.support.visitor import visiting

EMAILS = 1_000_000
SLICE = 5_000  # emails of a transaction
STEP = 100  # milliseconds from one email to the next
ROUNDS = 7
PAGES = ("/mail", "/mail?page=400", "/mail?q=person7@d7.example", "/mail?status=bounced", "/mail?q=Receipt+77&in=subject", "/mail/{email}", "/queue",
         "/queue/waiting", "/queue/curves", "/settings/domains", "/settings/keys", "/settings/webhooks", "/settings/suppressions", "/settings/users",
         "/settings/project")


async def fill(store: Store, project: int, count: int) -> str:
    """Write `count` emails that ended, the newest now; the public id of one of them."""
    last = int(store.clock.now() * 1000)
    for first in range(0, count, SLICE):
        await store.write(_add, project, [_row(project, number, last - (count - number) * STEP) for number in range(first, min(first + SLICE, count))])
    await store.write(lambda conn: conn.execute(insert(email_counts).values(project_id=project, kind="all", name="", number=count)))
    return public("em", ((last - STEP * 10 - EPOCH) << 21) + 1)


def _row(project: int, number: int, at: int) -> dict[str, Any]:
    identity = ((at - EPOCH) << 21) + 1
    return {"id": identity, "project_id": project, "body_id": identity, "protocol": "http", "sender": "a@shop.example", "header_from": "a@shop.example",
            "domain": "shop.example", "subject": f"Receipt {number}", "message_id": f"{identity}@relay.test", "size": 900, "stream": "transactional",
            "topic": "", "tags": [], "envelope": {}, "origin": {}, "wishes": {}, "facts": {}, "trace": [], "created_at": at / 1000}


def _add(conn: Any, project: int, rows: list[dict[str, Any]]) -> None:
    conn.execute(insert(messages), rows)
    conn.execute(insert(recipients), list(_people(project, rows)))


def _people(project: int, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        address = f"person{number}@d{number % 50}.example"
        yield {"id": row["id"] + 1, "message_id": row["id"], "project_id": project, "address": address, "key": address, "domain": f"d{number % 50}.example",
               "notify": "", "orcpt": "", "state": "bounced" if number % 50 == 0 else "delivered", "code": 250, "enhanced": "2.0.0", "text": "ok",
               "ended_at": row["created_at"] + 1}


def measure(tenant: Tenant, email: str) -> None:
    visitor = visiting(tenant)
    for page in PAGES:
        took = []
        for _ in range(ROUNDS):
            answer = visitor.get(page.format(email=email))
            assert answer.status_code == 200, (page, answer.status_code)
            took.append(float(re.search(r"dur=([\d.]+)", answer.headers["server-timing"])[1]))
        print(f"{page:40} median {statistics.median(took):7.1f} ms   worst {max(took):7.1f} ms", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EMAILS
    with tempfile.TemporaryDirectory() as directory, Served(Path(directory), f"sqlite:///{directory}/relay.db") as served:
        tenant = served.tenant()
        print(f"writing {count:,} emails", flush=True)
        email = asyncio.run_coroutine_threadsafe(fill(served.relay.store, tenant.number, count), served.loop).result()
        measure(tenant, email)


if __name__ == "__main__":
    main()
