"""Lists of people in and out while mail flows: rows a second, memory, and what SMTP clients feel. Figures are printed, nothing is judged.

    python -m bench.imports [--rows 1000000] [--suppressed 100000] [--idle 20] [--databases sqlite,postgresql]

    import   a CSV file of `rows` contacts from a thousand domains by HTTP, the domains looked up, the addresses held against the suppressions
    again    the first fifth of it once more, with nothing new in it
    export   all contacts as CSV, and as JSON
    smtp     milliseconds from MAIL to the 250 after DATA, at RATE messages a second: idle, and during each of these
    CPU      of the relay and its readers, mail too, a row: what a busy machine changes least; PostgreSQL's own is not in it
    memory   resident octets of the relay and its readers, at most, above what it has idle

PostgreSQL is set up as its manual says for a machine with memory (SERVER), and has been running for a while: its WAL files are there. A new one makes
each while everybody waits, for each second of an import.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import httpx2 as httpx

from bench.load import cpu, fsync_latency, resident
from relay.mail.ids import Maker
from relay.store import projects, suppressions
from relay.store.engine import JOBS, Store
from relay.store.suppressions import Suppression
from tests.support import dns as names
from tests.support import postgres
from tests.support.running import OPEN, TRUSTING, Running, by_mx, routed
from tests.support.sink import Script, Sink

DOMAINS = 1_000
RATE = 40.0  # messages a second
SERVER = {"shared_buffers": "1GB", "min_wal_size": "1GB", "max_wal_size": "4GB", "autovacuum_naptime": "1min"}
WORN = "CREATE TABLE worn AS SELECT repeat(md5(n::text), 32) FROM generate_series(1, 800000) AS n"  # 900 MB of WAL


def people(path: Path, rows: int) -> None:
    """A file such as shops have: names, tags, three properties."""
    with path.open("w") as file:
        file.write("email,first_name,last_name,tags,plan,city,seats\n")
        for n in range(rows):
            file.write(f'person{n}@d{n % DOMAINS}.example,First{n % 997},Last{n % 9973},"news,customer",{"pro" if n % 3 else "free"},Town {n % 311},{n % 50}\n')


async def suppress(where: Running, count: int, rows: int) -> None:
    """Suppress `count` addresses, half of them in the file, in the store of a relay that is down."""
    store, maker = await Store.open(where.store_url, where.data, accept_old_sqlite=True), Maker(900)
    try:
        project = await store.write(projects.ensure, projects.Project(maker.next(), projects.DEFAULT, {}, time.time()))
        keys = (f"person{n * rows * 2 // count}@d{n * rows * 2 // count % DOMAINS}.example" for n in range(count))
        while batch := [Suppression(maker.next(), project.id, key, key, "hard_bounce", created_at=time.time()) for key, _ in zip(keys, range(1_000))]:  # noqa: B905
            await store.write(suppressions.add_many, batch, lane=JOBS)
    finally:
        await store.close()


class Meter:
    """Has mail sent by a process of its own, and looks at memory, until `stop`."""

    def __init__(self, where: Running):
        self.took: list[float] = []  # milliseconds
        self.most = 0
        self._where, self._over = where, threading.Event()
        self._pulse = subprocess.Popen([sys.executable, "-m", "bench.pulse", str(where.smtp), str(RATE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       cwd=Path(__file__).parents[1], text=True)
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, resident(self._where.process.pid))

    def stop(self) -> None:
        """Raises RuntimeError when mail could not be sent."""
        self._over.set()
        self._watching.join()
        sent, _ = self._pulse.communicate()
        self.took = sorted(float(line.split()[1]) for line in sent.splitlines())
        if self._pulse.returncode or not self.took:
            raise RuntimeError("the client of SMTP failed")

    def told(self) -> str:
        middle, late, last = self.took[len(self.took) // 2], self.took[len(self.took) * 99 // 100], self.took[-1]
        return f"smtp p50 {middle:5.1f} ms  p99 {late:6.1f} ms  most {last:6.1f} ms ({len(self.took)})  memory {self.most / 1e6:4.0f} MB"


@contextmanager
def database() -> Iterator[str]:
    """The URL of a database of a PostgreSQL that has been running for a while."""
    async def prepared(server: postgres.Postgres) -> str:
        connection = await asyncpg.connect(f"{server.url}/postgres")
        for statement in (WORN, "DROP TABLE worn", "CHECKPOINT"):
            await connection.execute(statement)
        await connection.close()
        return await server.create()

    with postgres.server(**SERVER) as server:
        yield asyncio.run(prepared(server))


@contextmanager
def mail(where: Running) -> Iterator[Meter]:
    """Mail flows meanwhile."""
    meter = Meter(where)
    try:
        yield meter
    finally:
        meter.stop()


def take_in(api: httpx.Client, path: Path) -> int:
    """Rows of the import, when it is over."""
    with path.open("rb") as file:
        answer = api.post("/contacts/import", files={"file": ("people.csv", file)}).raise_for_status().json()
    while (told := api.get(f"/contacts/imports/{answer['id']}").json())["status"] == "running":
        time.sleep(0.2)
    if told["status"] != "completed":
        raise RuntimeError(f"the import ended as {told}")
    print(f"    {told['imported']} made, {told['updated']} updated, {told['suppressed']} suppressed, {told['errors']} refused", flush=True)
    return told["total"]


def bring_out(api: httpx.Client, form: str) -> int:
    """Rows of the export."""
    with api.stream("GET", "/contacts/export", params={"format": form}) as answer:
        mark = b"\n" if form == "csv" else b'"email":'
        return sum(chunk.count(mark) for chunk in answer.raise_for_status().iter_raw())


def measured(name: str, where: Running, act: Callable[[], int]) -> None:
    with mail(where) as meter:
        started, before = time.monotonic(), cpu(where.process.pid)
        rows = act()
        took, used = time.monotonic() - started, cpu(where.process.pid) - before
    print(f"  {name:12} {rows / took:9,.0f} rows/s {used / rows * 1e6:5.0f} us CPU a row  {meter.told()}", flush=True)


def run(where: Running, path: Path, idle: float) -> None:
    key = where.key()
    with httpx.Client(base_url=f"http://127.0.0.1:{where.http}", headers={"Authorization": f"Bearer {key}"}, timeout=600) as api:
        api.get("/contacts").raise_for_status()  # the first request makes the routes
        for seconds in (idle / 4, idle):  # the first warms up
            with mail(where) as meter:
                time.sleep(seconds)
        print(f"  {'idle':12} {'':32}  {meter.told()}", flush=True)
        measured("import", where, lambda: take_in(api, path))
        measured("again", where, lambda: take_in(api, path.with_name("again.csv")))
        measured("export csv", where, lambda: bring_out(api, "csv"))
        measured("export json", where, lambda: bring_out(api, "json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 1_000_000), ("suppressed", 100_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds in which nothing but mail happens")
    parser.add_argument("--databases", default="sqlite,postgresql")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-imports-")))
        print(f"flush of 4 kB: {fsync_latency(folder) * 1e3:.2f} ms median; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        people(folder / "people.csv", asked.rows)
        people(folder / "again.csv", asked.rows // 5)
        dns = stack.enter_context(names.DnsServer(names.mail(*(f"d{n}.example" for n in range(DOMAINS)))))
        sink = stack.enter_context(Sink(Script(keep=False)))
        for kind in asked.databases.split(","):
            url = stack.enter_context(database()) if kind == "postgresql" else ""
            settings = {**OPEN, **TRUSTING, **by_mx(dns.address, 25), **routed(sink.address), "RELAY_STORE__URL": url}
            where = Running(folder / kind, {**settings, "RELAY_SECRET_KEY": "imports " * 5}, cold=True)
            asyncio.run(suppress(where, asked.suppressed, asked.rows))
            print(f"{kind}: {asked.rows} rows, {asked.suppressed} suppressions", flush=True)
            with where:
                run(where, folder / "people.csv", asked.idle)


if __name__ == "__main__":
    main()
