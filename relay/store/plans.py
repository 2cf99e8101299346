"""How PostgreSQL shall plan what the rest of a transaction asks, where its statistics mislead it: after an import they are those of an empty table for a
minute, and a plan that was made for one is kept. Nothing on SQLite, which takes tables in the order in which they stand and knows no other way."""

from __future__ import annotations

from sqlalchemy import Connection, text

_JOINS = "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
_IN_ORDER = text(f"SELECT set_config('enable_sort', 'off', true), {_JOINS}")
_BY_INDEX = text(f"SELECT set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true), {_JOINS}")


def in_order(conn: Connection) -> None:
    """A page of a table, row by row along its index: for all that match it would else read whole tables and sort them."""
    if conn.dialect.name == "postgresql":
        conn.execute(_IN_ORDER)


def by_index(conn: Connection) -> None:
    """A few rows, and what belongs to each of them, looked up in tables that may be large; planned each time, for tables as large as they then are."""
    if conn.dialect.name == "postgresql":
        conn.execute(_BY_INDEX)
