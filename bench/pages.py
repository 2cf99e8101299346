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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.audience import THREE
from bench.filled import CONTACT, EMAIL, STEP, fill
from relay.mail.ids import EPOCH, internal, public
from relay.store.audience import bulk_acts, imports
from relay.store.audience.bulk_acts import BulkAct
from relay.store.audience.imports import Import
from relay.store.broadcasts.schema import broadcasts, counts
from relay.store.engine import Store
from relay.store.schema import email_counts
from tests.support import postgres
from tests.support.served import Served, Tenant
from tests.support.visitor import visiting

ROUNDS, SEVERAL = 6, 3  # of a page, of a part
BAR = 100.0  # milliseconds
PAGES = (
    "/mail", "/mail?page=400", "/mail?q=person7@d7.example", "/mail?status=bounced", "/mail?q=Receipt+77&in=subject", "/mail?q=nothing&in=subject",
    "/mail?since={day}&until={day}", "/mail?since={day}&status=bounced", "/mail?q={message_id}&in=id", "/mail/{email}", "/mail/{email}/insights",
    "/queue", "/queue/waiting", "/queue/curves",
    "/contacts", "/contacts?page=20000", "/contacts?search=person77777", "/contacts?search=first77", "/contacts?state=unsubscribed", "/contacts/{contact}",
    "/contacts/new", "/contacts/import", "/contacts/imports", "/contacts/imports/{import}", "/contacts/acts", "/contacts/acts/{act}",
    "/contacts/many?act=tag&contact={contact}", "/contacts/many?act=delete&segment_id={segment}", "/contacts/many?act=tag&segment_id={list}",
    "/audiences", "/audiences/{audience}", "/audiences/{audience}?page=20000", "/topics", "/topics/{topic}", "/topics/{topic}?show=out",
    "/properties", "/properties/{property}", "/properties/{property}/delete", "/forms", "/forms/new", "/forms/{form}",
    "/segments", "/segments/new", "/segments/{segment}", "/segments/{segment}/edit", "/segments/{segment}/growth", "/segments/{list}",
    "/segments/{list}?find=person77", "/segments/{list}/edit",
    "/templates", "/templates/new", "/templates/{template}", "/templates/{template}/versions?version=1",
    "/workflows", "/workflows/new", "/workflows/{workflow}", "/workflows/{workflow}?page=2000", "/workflows/{workflow}?status=failed",
    "/workflows/{workflow}/runs/{run}",
    "/broadcasts", "/broadcasts/new", "/broadcasts/{draft}", "/broadcasts/{draft}/review", "/broadcasts/{sent}", "/broadcasts/{sent}/people",
    "/broadcasts/{sent}/people?state=bounced", "/preview/contacts?contact=person777",
    "/settings/domains", "/settings/keys", "/settings/webhooks", "/settings/suppressions", "/settings/users", "/settings/project",
)
PARTS = (
    "/contacts?search=person77777&whole=1", "/contacts?state=unsubscribed&whole=1", "/segments?whole=1", "/segments/{segment}?whole=1",
    "/segments/{list}?whole=1", "/segments/{list}?find=person77&whole=find", "/segments/names", "/audiences?whole=1", "/audiences/{audience}?whole=1",
    "/topics/{topic}?whole=1", "/topics/{topic}?show=out&whole=1", "/properties/{property}?whole=1", "/properties/{property}/usage",
    "/contacts/many?act=delete&segment_id={segment}&whole=1", "/workflows/{workflow}?part=findings",
    "/broadcasts/{draft}/review?part=people", "/broadcasts/{draft}/review?part=check",
)
GRAPH = [{"public_id": "trigger", "type": "trigger", "config": {}}, {"public_id": "end", "type": "exit", "config": {"reason": "done"}}]


async def write(store: Store, tenant: Tenant, many: int, audience: int, made: dict[str, str]) -> dict[str, str]:
    """Write emails, contacts with what they did and belong to, runs of the workflow and the ledger of the broadcast; ids of some of it."""
    now, project = store.clock.now(), tenant.number
    last, imported, act = int(now * 1000), (int(now * 1000) - EPOCH << 21) + 6, (int(now * 1000) - EPOCH << 21) + 7
    numbers = {name: internal(made[name]) for name in ("audience", "topic", "workflow", "sent")}
    names = {**numbers, "project": project, "list_segment": internal(made["list"]), "imported": imported}

    def begun(conn: Any) -> None:
        figures = {"total": audience, "imported": audience, "updated": 0, "skipped": 0, "errors": audience // 100}
        imports.add(conn, Import(imported, project, "completed", figures, now, now, {"name": "people.csv", "rows": audience}))
        wanted = {"segment": internal(made["list"]), "name": "List", "tags": ["vip"]}
        bulk_acts.add(conn, BulkAct(act, project, "tag", "completed", wanted, 0, audience, audience, now, now, now, audience))

    def ended(conn: Any) -> None:
        conn.execute(email_counts.insert().values(project_id=project, kind="all", name="", number=many))
        conn.execute(broadcasts.update().where(broadcasts.c.id == names["sent"]).values(status="sent", started_at=now, ended_at=now, gathered=True))
        told = {"delivered": audience - audience // 50, "bounced": audience // 50, "opened": audience // 4}
        conn.execute(counts.insert(), [{"broadcast_id": names["sent"], "variant": 1, "name": name, "count": count} for name, count in told.items()])

    await store.write(begun)
    await fill(store, many, EMAIL, last, names)
    await fill(store, audience, CONTACT, last, names)
    await store.write(ended)
    await store.write(lambda conn: conn.exec_driver_sql("ANALYZE" if store.dialect == "postgresql" else "PRAGMA optimize") and None)
    first = (last - audience * STEP - EPOCH) << 21
    return {"email": public("em", ((last - STEP * 10 - EPOCH) << 21) + 1), "run": public("wfr", first + 5), "import": public("imp", imported),
            "act": public("job", act)}


def furnish(served: Served, tenant: Tenant, many: int, audience: int) -> dict[str, str]:
    """What the paths of PAGES stand for."""
    letter = {"from": "a@shop.example", "subject": "Hello {{ first_name }}", "text": "Hi"}
    edges = [{"from_public_id": "trigger", "to_public_id": "end", "branch": None}]
    made = {
        "segment": tenant.post("/segments", {"name": "Three", "rules": THREE}, 201), "list": tenant.post("/segments", {"name": "List"}, 201),
        "template": tenant.post("/templates", {"name": "Hello", "subject": "Hello", "html": "<p>Hi {{ first_name }}</p>"}, 201),
        "audience": tenant.post("/audiences", {"name": "Everybody"}, 201), "topic": tenant.post("/subscription-topics", {"name": "News"}, 201),
        "property": tenant.post("/contact-properties", {"name": "plan", "type": "select", "options": ["pro", "free", "team", "trial"]}, 201),
        "form": tenant.post("/signup-forms", {"name": "News", "fields": [{"name": "email", "type": "email"}]}, 201),
        "workflow": tenant.post("/workflows", {"name": "Care", "trigger_type": "manual", "nodes": GRAPH, "edges": edges}, 201),
    }
    found = {name: each["id"] for name, each in made.items()}
    tenant.post(f"/templates/{found['template']}/publish")
    for name, whom in (("draft", {"segment_id": found["segment"]}), ("sent", {"all_contacts": True})):
        found[name] = tenant.post("/broadcasts", {**letter, **whom}, 201)["id"]
    found |= served.call(write(served.relay.store, tenant, many, audience, found), 3_600)
    found["contact"] = tenant.get("/contacts")["contacts"][0]["id"]
    return {**found, "message_id": f"<{internal(found['email'], 'em')}@relay.test>", "day": time.strftime("%Y-%m-%d", time.gmtime())}


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
                tenant, began = served.tenant(), time.monotonic()
                found = furnish(served, tenant, asked.emails, asked.contacts)
                print(f"  written in {time.monotonic() - began:.0f} s", flush=True)
                slow = measure(tenant, found)
                print(f"  {len(slow)} of {len(PAGES)} pages over {BAR:.0f} ms; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n", flush=True)


if __name__ == "__main__":
    main()
