"""A store filled by its database: emails, contacts and all that hangs on them, computed row by row in SQL, since a million rows through Python take minutes.

    await fill(url, file, {"emails": 1_000_000, "contacts": 1_000_000}, last, names)

Numbers run from 0; the id of each row is a millisecond STEP after the one before, the newest at `last`. Nobody else may use the store meanwhile, and a crash
loses it: nothing is flushed before the end, and what rows refer to is not looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg

from relay.mail.ids import EPOCH
from relay.store.sqlite import driver

STEP = 100  # milliseconds from one row to the next
SLICE = 100_000  # rows of a statement
DAY = 86_400
HASTE = {  # what is left out for speed while nobody else uses the store
    "sqlite": ("locking_mode=EXCLUSIVE", "journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF", "cache_size=-1000000"),
    "postgresql": ("synchronous_commit TO off", "session_replication_role TO replica", "jit TO off"),
}

EMAIL = {
    "messages": {
        "id": "{id} + 1", "project_id": "{project}", "body_id": "{id} + 1", "protocol": "'http'", "sender": "'a@shop.example'",
        "header_from": "'a@shop.example'", "domain": "'shop.example'", "subject": "'Receipt ' || n", "message_id": "({id} + 1) || '@relay.test'", "size": "900",
        "stream": "'transactional'", "topic": "''", "tags": "{list}", "envelope": "{object}", "origin": "{object}", "wishes": "{object}", "facts": "{object}",
        "trace": "{list}", "created_at": "{at}",
    },
    "recipients": {
        "id": "{id} + 2", "message_id": "{id} + 1", "project_id": "{project}", "address": "{email}", "key": "{email}", "domain": "{domain}",
        "notify": "''", "orcpt": "''", "state": "CASE WHEN n % 50 = 0 THEN 'bounced' ELSE 'delivered' END", "code": "250", "enhanced": "'2.0.0'",
        "text": "'ok'", "ended_at": "{at} + 1",
    },
}
CONTACT = {
    "contacts": {
        "id": "{id} + 3", "project_id": "{project}", "key": "{email}", "email": "{email}",
        "first_name": "'First' || (n % 997)", "last_name": "'Last' || (n % 9973)",
        "properties": "{properties}", "tags": "{tags}", "unsubscribed": "n % 20 = 0", "search": "{email} || ' first' || (n % 997) || ' last' || (n % 9973)",
        "created_at": "{now} - n % 400 * 86400", "updated_at": "{now} - n % 400 * 86400",
    },
    "activity WHERE n % 3 = 0": {
        "contact_id": "{id} + 3", "name": "'email.opened'", "day": "{day} - n % 90", "count": "2", "first_at": "{now}", "last_at": "{now}",
    },
    "audience_members": {"audience_id": "{audience}", "contact_id": "{id} + 3", "added_at": "{now}"},
    "segment_members WHERE n % 2 = 0": {"segment_id": "{list_segment}", "contact_id": "{id} + 3", "added_at": "{now}"},
    "subscriptions WHERE n % 10 = 0": {"topic_id": "{topic}", "contact_id": "{id} + 3", "subscribed": "n % 10 <> 0", "updated_at": "{now}"},
    "broadcast_recipients": {
        "id": "{id} + 4", "broadcast_id": "{sent}", "contact_id": "{id} + 3", "variant": "1", "domain": "{domain}",
        "state": "CASE WHEN n % 50 = 0 THEN 'bounced' ELSE 'delivered' END", "reason": "''", "at": "{now}",
        "opened_at": "CASE WHEN n % 4 = 0 THEN {now} END",
    },
    "workflow_runs WHERE n % 4 = 0": {
        "id": "{id} + 5", "workflow_id": "{workflow}", "project_id": "{project}", "contact_id": "{id} + 3", "version": "1", "cause": "'bench:' || n",
        "event": "{object}", "status": "CASE WHEN n % 16 = 0 THEN 'failed' ELSE 'completed' END", "lane": "0", "arrived_at": "{now}", "visited": "2",
        "attempts": "0", "reason": "''", "started_at": "{now}", "ended_at": "{now}",
    },
    "workflow_steps WHERE n % 4 = 0": {
        "run_id": "{id} + 5", "number": "0", "node": "'trigger'", "kind": "'trigger'", "outcome": "'began'", "detail": "{object}", "at": "{now}",
    },
    "import_errors WHERE n % 100 = 0": {"import_id": "{imported}", "row": "n + 1", "email": "{email}", "error": "'no such domain'"},
}
TABLES = {"emails": EMAIL, "contacts": CONTACT}


async def fill(url: str, file: Path, counts: Mapping[str, int], last: int, names: Mapping[str, Any]) -> None:
    """Write so many of each of TABLES; `names` stand for what the expressions name, `last` is in milliseconds; `file` is that of SQLite."""
    if not url.startswith("postgresql"):
        await asyncio.to_thread(_sqlite, file, [sql for name, count in counts.items() for sql in statements("sqlite", TABLES[name], count, last, names)])
        return
    await asyncio.gather(*(_postgresql(url, statements("postgresql", TABLES[name], count, last, names)) for name, count in counts.items()))
    await _postgresql(url, iter(["VACUUM (ANALYZE)"]))  # as autovacuum does within a minute or two


def _sqlite(file: Path, every: list[str]) -> None:
    conn = driver.connect(str(file), isolation_level=None)
    try:
        for pragma in HASTE["sqlite"]:
            conn.execute(f"PRAGMA {pragma}").fetchall()
        for sql in every:
            conn.execute(sql)
        conn.execute("PRAGMA journal_mode=WAL").fetchall()
    finally:
        conn.close()


async def _postgresql(url: str, every: Iterator[str]) -> None:
    conn = await asyncpg.connect(url)
    try:
        for setting in HASTE["postgresql"]:
            await conn.execute(f"SET {setting}")
        for sql in every:
            await conn.execute(sql)
    finally:
        await conn.close()


def statements(dialect: str, tables: Mapping[str, Mapping[str, str]], count: int, last: int, names: Mapping[str, Any]) -> Iterator[str]:
    """What writes `count` rows of each of these tables."""
    known = _known(dialect, count, last, names)
    for start in range(0, count, SLICE):
        end = min(start + SLICE, count) - 1
        numbers = (f"generate_series(CAST({start} AS BIGINT), {end}) AS numbers(n)" if dialect == "postgresql" else
                   f"(WITH RECURSIVE numbers(n) AS (SELECT {start} UNION ALL SELECT n + 1 FROM numbers WHERE n < {end}) SELECT n FROM numbers)")
        for table, columns in tables.items():
            name, _, where = table.partition(" ")
            values = ", ".join(each.format(**known) for each in columns.values())
            into = ", ".join(f'"{each}"' for each in columns)
            yield f"INSERT INTO {name} ({into}) SELECT {values} FROM {numbers} {where}"


def _known(dialect: str, count: int, last: int, names: Mapping[str, Any]) -> dict[str, Any]:
    """What the expressions name, in the dialect's words."""
    postgresql = dialect == "postgresql"
    at = f"(CAST({last} AS BIGINT) - ({count} - n) * {STEP})"

    def json(text: str) -> str:
        return f"CAST('{text}' AS JSONB)" if postgresql else f"'{text}'"

    plans = "CASE n * 7 % 4 WHEN 0 THEN 'pro' WHEN 1 THEN 'free' WHEN 2 THEN 'team' ELSE 'trial' END"
    properties = f"""'{{"plan":"' || {plans} || '","city":"Town ' || (n % 311) || '","seats":' || (n % 50) || '}}'"""
    return {
        "id": f"(({at} - {EPOCH}) << 21)", "at": f"({at} / 1000.0)", "email": "'person' || n || '@d' || (n % 1000) || '.example'",
        "domain": "'d' || (n % 50) || '.example'", "list": json("[]"), "object": json("{}"), "tags": json('["news","customer"]'),
        "properties": f"CAST({properties} AS JSONB)" if postgresql else properties, "now": last // 1000, "day": last // 1000 // DAY, **names,
    }
