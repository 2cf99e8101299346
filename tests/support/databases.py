"""Databases with our tables and nothing in them, for one test after the other.

A new one costs PostgreSQL a third of a second (a copy of the template, and its end), emptying a used one a tenth of that. So a test that is done gives its
database back: whoever is still connected is cut off, every row is deleted, sequences start anew. What no longer looks as it was made is dropped: other
columns, tables or indexes, statistics of the planner, much that was deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from relay.store.engine import Store
from tests.support.postgres import START, Postgres

DATABASES = ("sqlite", "postgresql")
MUCH = 2_000  # rows deleted after which a table's dead ones would be felt
CUT = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
LOOKS = """
    SELECT md5(string_agg(concat_ws(' ', c.relname, c.relkind, c.reltuples, c.relpages, c.relhastriggers, a.attnum, a.attname, a.atttypid, a.attnotnull),
                          '/' ORDER BY c.relname, a.attnum)) || (SELECT string_agg(version_num, ' ') FROM alembic_version)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i') AND a.attnum > 0
"""
EMPTY = """
    DO $$
    DECLARE name text; rows bigint; gone bigint := 0;
    BEGIN
        SET LOCAL session_replication_role = 'replica';  -- foreign keys do not matter where everything goes
        FOR name IN  -- a table whose file is empty has never had a row
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
            AND pg_relation_size(oid) > 0
        LOOP
            EXECUTE format('DELETE FROM %I', name);
            GET DIAGNOSTICS rows = ROW_COUNT;
            gone := gone + rows;
        END LOOP;
        FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL LOOP
            EXECUTE format('ALTER SEQUENCE %I RESTART', name);
        END LOOP;
        PERFORM set_config('tests.gone', gone::text, false);
    END $$
"""


@dataclass
class Databases:
    """The databases of a server that tests have given back, and the template that further ones are copied from."""

    server: Postgres
    template: str
    looks: str  # as the template does
    free: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, server: Postgres, directory: Path) -> Databases:
        """Make the template; `directory` is empty and for the store that migrates it."""
        url = await server.create()
        await (await Store.open(url, directory)).close()
        connection = await asyncpg.connect(url, timeout=START)
        try:
            return cls(server, url.rpartition("/")[2], await connection.fetchval(LOOKS))
        finally:
            await connection.close()

    async def take(self) -> str:
        """The URL of an empty one."""
        return self.free.pop() if self.free else await self.server.create(self.template)

    async def give_back(self, url: str) -> None:
        """Empty it for the next, or drop it."""
        if await self._emptied(url):
            self.free.append(url)
        else:
            await self.server.drop(url)

    async def close(self) -> None:
        """Drop them all."""
        for url in (*self.free, f"{self.server.url}/{self.template}"):
            await self.server.drop(url)

    async def _emptied(self, url: str) -> bool:
        """Whether it is again as it was made."""
        connection = await asyncpg.connect(url, timeout=START)
        try:
            await connection.execute(CUT)
            if await connection.fetchval(LOOKS) != self.looks:
                return False
            await connection.execute(EMPTY)
            return int(await connection.fetchval("SELECT current_setting('tests.gone')")) <= MUCH
        except asyncpg.PostgresError:  # a test left it in another state than any server would
            return False
        finally:
            await connection.close()
