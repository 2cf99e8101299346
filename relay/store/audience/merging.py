"""The statements of a slice of an import, in the spellings of both databases; relay.store.audience.taking runs them.

A slice is small and the tables are large, whatever they were when a plan was made and kept: PostgreSQL is told to look rows up by index (_NARROW), and
suppressions by address, in a subquery that it cannot make a join of: one by project alone seems to cost as little while there are few. SQLite takes tables
of a CROSS JOIN in the order in which they stand: the few rows of the slice first, then an index of the large tables.

`:name` is a parameter, also where PostgreSQL numbers them; what the two spell differently stands in braces and is a row of _SPELLED.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.util import await_only

from relay.store import bulk

COLUMNS = ("n", "email", "key", "first_name", "last_name", "search", "properties", "wiped", "tags", "left_at", "cleaned_at", "created_at", "updated_at",
           "last_active_at", "evidence", "hashes")
"""What a row of taking.Part holds; JSON is text: `properties` whole, without nulls; `wiped` {name: null} of those that go or must not be mixed with what was
there; `left_at` and `cleaned_at` UTC seconds of an opt-out or a bounce; `evidence` of the consent; `hashes` that may stand for the address in optouts."""

_SPELLED = {
    "sqlite": {
        "json": "TEXT",
        "keys": "json_each(:keys) AS given",
        "merged": "CASE WHEN r.wiped IS NOT NULL THEN json_patch(json_patch(c.properties, r.wiped), coalesce(r.properties, '{{}}')) "
                  "WHEN r.properties IS NULL OR r.properties = c.properties THEN c.properties ELSE json_patch(c.properties, r.properties) END",
        "united": "CASE WHEN r.tags IS NULL OR r.tags = c.tags THEN c.tags ELSE (SELECT json_group_array(value) FROM ("
                  "SELECT value FROM json_each(c.tags) UNION ALL "
                  "SELECT value FROM json_each(r.tags) WHERE value NOT IN (SELECT value FROM json_each(c.tags)))) END",
        "length": "json_array_length(tags)", "empty": "'{{}}'", "none": "'[]'", "hashes": "json_each(r.hashes) AS h", "scratch": "",
        "stops": "suppressions AS s",
        "before": "json_object('first_name', c.first_name, 'last_name', c.last_name, 'properties', json(c.properties), 'tags', json(c.tags), "
                  "'updated_at', c.updated_at)",
        "evidence": ":evidence", "at": "r.evidence ->> 'at'",
    },
    "postgresql": {
        "json": "JSONB",
        "keys": "(SELECT jsonb_array_elements_text(CAST(:keys AS jsonb)) AS value) AS given",
        "merged": "CASE WHEN r.wiped IS NOT NULL THEN (c.properties - ARRAY(SELECT jsonb_object_keys(r.wiped))) || coalesce(r.properties, '{{}}') "
                  "WHEN r.properties IS NULL OR r.properties = c.properties THEN c.properties ELSE c.properties || r.properties END",
        "united": "CASE WHEN r.tags IS NULL OR r.tags = c.tags THEN c.tags ELSE c.tags || ("
                  "SELECT coalesce(jsonb_agg(t), '[]') FROM jsonb_array_elements(r.tags) AS t WHERE NOT c.tags @> jsonb_build_array(t)) END",
        "length": "jsonb_array_length(tags)", "empty": "CAST('{{}}' AS jsonb)", "none": "CAST('[]' AS jsonb)",
        "hashes": "LATERAL jsonb_array_elements_text(r.hashes) AS h(value)", "scratch": " ON COMMIT DELETE ROWS",
        "stops": "LATERAL (SELECT key, scope, reason, project_id FROM suppressions WHERE project_id = :project AND key = r.key OFFSET 0) AS s",
        "before": "jsonb_build_object('first_name', c.first_name, 'last_name', c.last_name, 'properties', c.properties, 'tags', c.tags, "
                  "'updated_at', c.updated_at)",
        "evidence": "CAST(:evidence AS jsonb)", "at": "CAST(r.evidence ->> 'at' AS DOUBLE PRECISION)",
    },
}

_TABLE = """CREATE TEMPORARY TABLE IF NOT EXISTS import_rows (id BIGINT, contact_id BIGINT, history_id BIGINT, n BIGINT, email TEXT, key TEXT,
    first_name TEXT, last_name TEXT, search TEXT, properties {json}, wiped {json}, tags {json}, left_at DOUBLE PRECISION, cleaned_at DOUBLE PRECISION,
    created_at DOUBLE PRECISION, updated_at DOUBLE PRECISION, last_active_at DOUBLE PRECISION, evidence {json}, hashes {json}, out TEXT NOT NULL DEFAULT '',
    fresh BOOLEAN NOT NULL DEFAULT true, stopped BOOLEAN NOT NULL DEFAULT false){scratch}"""
_EMPTY = "DELETE FROM import_rows"
_NARROW = "PERFORM set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
_READY = {"sqlite": (_TABLE, _EMPTY), "postgresql": (f"DO $$ BEGIN {_NARROW}; {_TABLE}; {_EMPTY}; END $$",)}
_KEEP = "SELECT pg_advisory_xact_lock_shared(:project)"
_WAIT = "SELECT 1 FROM imports WHERE id = :import FOR UPDATE"
_REACH = """UPDATE imports SET reached = :through WHERE id = :import AND reached = :before AND state = 'running' RETURNING
    figures, EXISTS (SELECT 1 FROM optouts WHERE project_id = :project), EXISTS (SELECT 1 FROM segments WHERE project_id = :project AND tracked)"""

_NAMES = ("id", "contact_id", "history_id", *COLUMNS)
JSON = ("properties", "wiped", "tags", "evidence", "hashes")
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

STOPPED = """UPDATE import_rows SET stopped = true WHERE cleaned_at IS NULL AND (
    SELECT count(*) FROM suppressions AS s WHERE s.project_id = :project AND s.key = import_rows.key) > 0"""
SUPPRESSED = """UPDATE import_rows SET out = 'suppressed' WHERE stopped AND (
    SELECT s.id FROM suppressions AS s WHERE s.project_id = :project AND s.key = import_rows.key AND s.scope = 'all') IS NOT NULL"""
MAKE = """INSERT INTO contacts (id, project_id, key, email, first_name, last_name, properties, tags, unsubscribed, search, last_active_at, import_id,
    created_at, updated_at) SELECT id, CAST(:project AS BIGINT), key, email, first_name, last_name,
    coalesce(properties, {empty}), coalesce(tags, {none}), false, search,
    last_active_at, CAST(:import AS BIGINT), coalesce(created_at, CAST(:now AS DOUBLE PRECISION)),
    coalesce(updated_at, created_at, CAST(:now AS DOUBLE PRECISION))
    FROM import_rows WHERE out = '' AND cleaned_at IS NULL ORDER BY n ON CONFLICT (project_id, key) DO NOTHING"""
FIND = """UPDATE import_rows SET contact_id = (SELECT c.id FROM contacts AS c WHERE c.project_id = :project AND c.key = import_rows.key)
    WHERE out = ''"""
FRESH = "UPDATE import_rows SET fresh = coalesce(contact_id = id, false)"
HISTORY = """INSERT INTO contact_history (id, contact_id, at, act, source, evidence)
    SELECT history_id, contact_id, CAST(:now AS DOUBLE PRECISION), 'created', 'import', {evidence} FROM import_rows WHERE fresh AND out = ''"""

_OLD = "r.contact_id = c.id AND NOT r.fresh AND r.out = '' AND r.cleaned_at IS NULL"
_RENAMING = "(r.first_name IS DISTINCT FROM c.first_name OR r.last_name IS DISTINCT FROM c.last_name)"
_NEWS = f"({_RENAMING} OR r.properties <> c.properties OR r.tags <> c.tags)"
MERGED = f"""UPDATE import_rows AS r SET first_name = coalesce(r.first_name, c.first_name), last_name = coalesce(r.last_name, c.last_name),
    properties = {{merged}}, tags = {{united}} FROM contacts AS c WHERE {_OLD}"""  # noqa: S608
CROWDED = """UPDATE import_rows SET out = 'crowded' WHERE contact_id IS NOT NULL AND NOT fresh AND out = '' AND cleaned_at IS NULL
    AND ({length} > :tags OR length(CAST(properties AS TEXT)) > :size) RETURNING n, email, {length}"""
RENAMED = f"SELECT c.id, c.key, r.first_name, r.last_name FROM import_rows AS r CROSS JOIN contacts AS c WHERE {_OLD} AND {_RENAMING}"  # noqa: S608
NEWS = f"SELECT EXISTS (SELECT 1 FROM import_rows AS r CROSS JOIN contacts AS c WHERE {_OLD} AND {_NEWS})"  # noqa: S608
BEFORE = f"""INSERT INTO import_changes (import_id, contact_id, before) SELECT CAST(:import AS BIGINT), c.id, {{before}}
    FROM import_rows AS r CROSS JOIN contacts AS c WHERE {_OLD} AND {_NEWS} ON CONFLICT DO NOTHING"""  # noqa: S608
UPDATE = f"""UPDATE contacts AS c SET first_name = r.first_name, last_name = r.last_name, properties = r.properties, tags = r.tags, updated_at = :now
    FROM import_rows AS r WHERE {_OLD} AND {_NEWS}"""  # noqa: S608
CHANGING = f"SELECT c.id, c.email, c.properties, r.properties FROM import_rows AS r CROSS JOIN contacts AS c WHERE {_OLD} AND {_NEWS}"  # noqa: S608

_WHO = "r.contact_id, r.key, r.email, r.evidence, c.unsubscribed, coalesce(r.updated_at, CAST(:now AS DOUBLE PRECISION)) AS updated"
LEAVING = f"""SELECT {_WHO}, r.left_at, 'marketing' AS scope FROM import_rows AS r CROSS JOIN contacts AS c
    WHERE c.id = r.contact_id AND r.left_at IS NOT NULL AND r.out = '' ORDER BY r.n"""  # noqa: S608
LEFT_BEFORE = f"""SELECT {_WHO}, s.scope FROM import_rows AS r CROSS JOIN {{stops}} CROSS JOIN contacts AS c
    WHERE c.id = r.contact_id AND s.project_id = :project AND s.key = r.key
    AND r.stopped AND r.fresh AND r.out = '' AND s.reason = 'unsubscribe' AND r.left_at IS NULL ORDER BY r.n"""  # noqa: S608
REMEMBERED = f"""SELECT {_WHO}, o.scope FROM import_rows AS r CROSS JOIN {{hashes}} CROSS JOIN optouts AS o CROSS JOIN contacts AS c
    WHERE c.id = r.contact_id AND r.fresh AND r.out = '' AND o.project_id = :project AND o.hash = h.value ORDER BY r.n"""  # noqa: S608
BOUNCING = "SELECT contact_id, key, email, cleaned_at, evidence FROM import_rows WHERE cleaned_at IS NOT NULL ORDER BY n"
PROOFS = """SELECT r.contact_id, r.evidence FROM import_rows AS r CROSS JOIN contacts AS c
    WHERE c.id = r.contact_id AND r.evidence IS NOT NULL AND r.out = ''
    AND {at} IS NOT NULL AND r.left_at IS NULL AND r.cleaned_at IS NULL AND NOT c.unsubscribed AND NOT EXISTS (SELECT 1 FROM contact_history AS h
    WHERE h.contact_id = c.id AND h.act = 'subscribed' AND h.at = {at}) ORDER BY r.n"""

AUDIENCE = """INSERT INTO audience_members (audience_id, contact_id, added_at)
    SELECT CAST(:audience AS BIGINT), contact_id, CAST(:now AS DOUBLE PRECISION)
    FROM import_rows WHERE contact_id IS NOT NULL AND out = '' AND cleaned_at IS NULL ON CONFLICT (audience_id, contact_id) DO NOTHING"""
EVERYBODY = "SELECT contact_id FROM import_rows WHERE contact_id IS NOT NULL AND out = '' AND cleaned_at IS NULL ORDER BY n"
KNOWN = "SELECT contact_id FROM import_rows WHERE contact_id IS NOT NULL AND NOT fresh AND out = '' AND cleaned_at IS NULL"
MADE = "SELECT contact_id, email FROM import_rows WHERE fresh AND out = '' ORDER BY n"
LOOKED = """SELECT coalesce(sum(CASE WHEN c.id IS NOT NULL AND s.id IS NULL THEN 1 ELSE 0 END), 0), count(s.id) FROM {keys}
    LEFT JOIN contacts AS c ON c.project_id = :project AND c.key = given.value
    LEFT JOIN suppressions AS s ON s.project_id = :project AND s.key = given.value AND s.scope = 'all'"""

_NAME = re.compile(r"(?<![:\w]):([a-z]+)")

@cache
def _spelled(sql: str, dialect: str) -> tuple[str, tuple[str, ...]]:
    """A statement as the database takes it, and its parameters in order where it numbers them."""
    words = _SPELLED[dialect]
    sql = re.sub(r"\{([a-z]+)\}", lambda m: words[m[1]].replace("{{", "{").replace("}}", "}"), sql)
    names = tuple(dict.fromkeys(_NAME.findall(sql)))
    if dialect == "postgresql":
        sql = _NAME.sub(lambda m: f"${names.index(m[1]) + 1}", sql)
    return sql, names


def reach(conn: Connection, values: dict[str, Any]) -> Any:
    """The import's figures as the database has them, whether the project remembers opt-outs by hash, and whether it tracks segments, none of which changes
    before the end of the transaction; None where the import is not at the row :before, or is over. A slice that is under way is waited for."""
    if conn.dialect.name == "postgresql":  # relay.store.audience.memberships waits for it before it counts whom a segment has
        run(conn, _KEEP, values)
        run(conn, _WAIT, values)
    return run(conn, _REACH, values).one_or_none()


def lines(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Rows of COLUMNS as PostgreSQL's COPY reads them, but for the ids in front: what a reader can do, so that the relay has nothing to encode."""
    return [_line(row) for row in rows]


def _line(row: tuple[Any, ...]) -> bytes:
    """Texts are escaped where one of them has to be, which the whole line tells."""
    line = "\t".join(["\\N" if each is None else each if type(each) is str else repr(each) for each in row])
    if line.count("\t") >= len(row) or line.count("\\") > row.count(None) or "\n" in line or "\r" in line:
        line = "\t".join(["\\N" if each is None else str(each).translate(_ESCAPED) for each in row])
    return line.encode("utf-8", "replace") + b"\n"


def load(conn: Connection, rows: Sequence[tuple[int, int, int, Any]]) -> None:
    """Rows into the temporary table, which has nothing else then: (id, id, history_id, *COLUMNS), or on PostgreSQL (id, id, history_id, line), a line as of
    `lines`. All count as new until they are found."""
    for statement in _READY[conn.dialect.name]:
        does(conn, statement, {})
    if conn.dialect.name == "postgresql":
        text = b"".join([b"%d\t%d\t%d\t%b" % row for row in rows])
        await_only(conn.connection.driver_connection.copy_to_table("import_rows", source=_once(text), columns=_NAMES))
        return
    used = tuple(n for n, column in enumerate(zip(*rows, strict=True)) if any(each is not None for each in column))
    for part in bulk.chunks(list(map(itemgetter(*used), rows)) if used else ()):  # most rows of a file lack the same columns, and a value costs what it costs
        bulk.run(conn, _values(used, len(part)), tuple(chain.from_iterable(part)))


async def _once(text: bytes) -> AsyncIterator[bytes]:
    yield text


@lru_cache(256)
def _values(columns: tuple[int, ...], rows: int) -> str:
    one = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO import_rows ({', '.join(_NAMES[n] for n in columns)}) VALUES {', '.join([one] * rows)}"  # noqa: S608


def does(conn: Connection, sql: str, values: dict[str, Any]) -> int:
    """How many rows a statement that gives none has changed; on SQLite straight to the driver, which is half of what it costs."""
    if conn.dialect.name == "postgresql":
        return run(conn, sql, values).rowcount
    text, names = _spelled(sql, "sqlite")
    return bulk.raw(conn).execute(text, {name: values[name] for name in names}).rowcount


def run(conn: Connection, sql: str, values: dict[str, Any]) -> Any:
    text, names = _spelled(sql, conn.dialect.name)
    if conn.dialect.name == "postgresql":
        return conn.exec_driver_sql(text, tuple(values[name] for name in names))
    return conn.exec_driver_sql(text, {name: values[name] for name in names})
