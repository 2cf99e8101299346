"""How long the dashboard's pages take on the server with a million contacts and a million emails: figures, and which are over the bar.

    python -m bench.pages [--emails 1000000] [--contacts 1000000] [--databases sqlite,postgresql] [--keep DIR | --use DIR]

The ledger and the audience are written straight into a store that a relay then serves; each page is asked for a few times, and what the server says it took
(Server-Timing) is printed as median and worst, beside the CPU that was spent: on a machine that does other things the first waits for its turn, and the second
does not. Of PostgreSQL the CPU of its processes is printed too. The bar is 100 ms for a page. Parts that a page fetches once it is there, because they count
an audience, are marked: nobody waits for them to read the page. `--keep` leaves the stores in DIR, and `--use` measures those that are there.
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
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.audience import THREE
from bench.filled import STEP, fill
from relay.mail.ids import EPOCH, internal, public
from relay.store.audience import bulk_acts, imports
from relay.store.audience.bulk_acts import BulkAct
from relay.store.audience.imports import Import
from relay.store.broadcasts.schema import broadcasts, counts
from relay.store.engine import Store
from relay.store.schema import email_counts
from tests.support import postgres
from tests.support.ports import free_port
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


@dataclass(frozen=True, slots=True)
class Filled:
    """A store that was filled: how many emails and contacts, its project and a key of it, and what the paths of PAGES stand for."""

    emails: int
    contacts: int
    project: str
    number: int
    key: str
    found: dict[str, str]

    def tenant(self, served: Served) -> Tenant:
        return Tenant(served, self.project, self.number, self.key)


async def write(url: str, folder: Path, made: Filled) -> dict[str, str]:
    """Write emails, contacts with what they did and belong to, runs of the workflow and the ledger of the broadcast; ids of some of it."""
    now, audience = time.time(), made.contacts
    last, imported, act = int(now * 1000), (int(now * 1000) - EPOCH << 21) + 6, (int(now * 1000) - EPOCH << 21) + 7
    names = {name: internal(made.found[name]) for name in ("audience", "topic", "workflow", "sent")}
    names |= {"project": made.number, "list_segment": internal(made.found["list"]), "imported": imported}

    def beside(conn: Any) -> None:
        figures = {"total": audience, "imported": audience, "updated": 0, "skipped": 0, "errors": audience // 100}
        imports.add(conn, Import(imported, made.number, "completed", figures, now, now, {"name": "people.csv", "rows": audience}))
        wanted = {"segment": names["list_segment"], "name": "List", "tags": ["vip"]}
        bulk_acts.add(conn, BulkAct(act, made.number, "tag", "completed", wanted, 0, audience, audience, now, now, now, audience))
        conn.execute(email_counts.insert().values(project_id=made.number, kind="all", name="", number=made.emails))
        conn.execute(broadcasts.update().where(broadcasts.c.id == names["sent"]).values(status="sent", started_at=now, ended_at=now, gathered=True))
        told = {"delivered": audience - audience // 50, "bounced": audience // 50, "opened": audience // 4}
        conn.execute(counts.insert(), [{"broadcast_id": names["sent"], "variant": 1, "name": name, "count": count} for name, count in told.items()])

    await fill(url, folder / "relay.db", {"emails": made.emails, "contacts": made.contacts}, last, names)
    store = await Store.open(url, folder, accept_old_sqlite=True)
    try:
        await store.write(beside)
    finally:
        await store.close()
    first = (last - audience * STEP - EPOCH) << 21
    return {"email": public("em", ((last - STEP * 10 - EPOCH) << 21) + 1), "run": public("wfr", first + 5), "import": public("imp", imported),
            "act": public("job", act), "day": time.strftime("%Y-%m-%d", time.gmtime(now))}


def furnish(tenant: Tenant) -> dict[str, str]:
    """What the paths of PAGES stand for, as far as it is made by hand."""
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
    return found


def make(folder: Path, url: str, emails: int, contacts: int) -> Filled:
    """Fill the store of this folder and URL."""
    with Served(folder, url) as served:
        tenant = served.tenant()
        made = Filled(emails, contacts, tenant.project, tenant.number, tenant.key, furnish(tenant))
    made.found.update(asyncio.run(write(url, folder, made)))
    with Served(folder, url) as served:
        made.found["contact"] = made.tenant(served).get("/contacts")["contacts"][0]["id"]
    made.found["message_id"] = f"<{internal(made.found['email'], 'em')}@relay.test>"
    return made


@contextmanager
def database(kind: str, folder: Path) -> Iterator[tuple[str, int]]:
    """The URL of the database in this folder, made where there is none, and the process id of its server, 0 for none."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/relay.db", 0
        return
    cluster = folder / "cluster"
    if not cluster.exists():
        cluster.mkdir()
        postgres.make(cluster)
    with postgres.serving(cluster, free_port(), fsync="off", max_wal_size="4GB", shared_buffers="256MB") as server:
        yield f"{server.url}/postgres", int((cluster / "data" / "postmaster.pid").read_text().split()[0])


async def brought(url: str, folder: Path) -> None:
    """Bring a store that an earlier Relay filled to this one's schema."""
    await (await Store.open(url, folder, accept_old_sqlite=True, migrate=True)).close()


def run(kind: str, folder: Path, asked: argparse.Namespace) -> None:
    """Fill the store of this folder, unless it is to be used as it is, and measure it."""
    memory = folder / "filled.json"
    if not asked.use:
        folder.mkdir(parents=True)
    with database(kind, folder) as (url, server):
        if not asked.use:
            print(f"{kind}: writing {asked.emails:,} emails and {asked.contacts:,} contacts", flush=True)
            began, spent = time.monotonic(), cpu(server)
            memory.write_bytes(orjson.dumps(asdict(make(folder, url, asked.emails, asked.contacts))))
            print(f"  written in {time.monotonic() - began:.0f} s, {cpu(server) - spent:.0f} s of CPU", flush=True)
        else:
            asyncio.run(brought(url, folder))
        filled = Filled(**orjson.loads(memory.read_bytes()))
        print(f"{kind}: {filled.emails:,} emails and {filled.contacts:,} contacts", flush=True)
        with Served(folder, url) as served:
            slow = measure(filled.tenant(served), filled.found, server)
        print(f"  {len(slow)} of {len(PAGES)} pages over {BAR:.0f} ms; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n", flush=True)


def cpu(server: int) -> float:
    """Seconds of CPU of this process and, where there is one, of the database server and those it has started."""
    return time.process_time() + (_ticks(server) / os.sysconf("SC_CLK_TCK") if server else 0.0)


def _ticks(pid: int) -> int:
    """Of a process and its children, those that ended too (proc(5): utime, stime, cutime, cstime)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = sum(int(each) for each in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
    return own + sum(map(_running, children))


def _running(pid: str) -> int:
    try:
        return sum(int(each) for each in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
    except FileNotFoundError:
        return 0


def measure(tenant: Tenant, found: dict[str, str], server: int) -> list[str]:
    """Print what each page takes; those over the bar."""
    visitor, slow = visiting(tenant), []
    for page in (*PAGES, *PARTS):
        took, spent = [], []
        for _ in range(SEVERAL if page in PARTS else ROUNDS):
            began = cpu(server)
            answer = visitor.get(page.format(**found))
            assert answer.status_code == 200, (page, answer.status_code, answer.text)
            spent.append((cpu(server) - began) * 1e3)
            took.append(float(re.search(r"dur=([\d.]+)", answer.headers["server-timing"])[1]))
        first, median, worst = took[0], statistics.median(took[1:]), max(took[1:])
        mark = "   a part, fetched by its page" if page in PARTS else "   OVER" if median > BAR else ""
        slow += [page] if mark == "   OVER" else []
        print(f"  {page:44} first {first:7.1f} ms  median {median:7.1f}  worst {worst:7.1f}  CPU {statistics.mean(spent[1:]):7.1f}{mark}", flush=True)
    return slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("emails", "contacts"):
        parser.add_argument(f"--{name}", type=int, default=1_000_000)
    parser.add_argument("--databases", default="sqlite,postgresql")
    stores = parser.add_mutually_exclusive_group()
    stores.add_argument("--keep", type=Path, metavar="DIR", help="a new directory for the stores, which stay")
    stores.add_argument("--use", type=Path, metavar="DIR", help="a directory that an earlier run kept")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-pages-") as temporary:
        for kind in asked.databases.split(","):
            run(kind, (asked.use or asked.keep or Path(temporary)).resolve() / kind, asked)


if __name__ == "__main__":
    main()
