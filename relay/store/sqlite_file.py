"""A file of SQLite's: the driver, which versions of it are safe, and connections with what Relay asks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, NullPool, create_engine

try:
    from pysqlite3 import dbapi2 as driver
except ImportError:  # wheels exist for x86-64 only
    import sqlite3 as driver

for kind, adapted in ((type(None), {}.get), (bool, int), (bytes, bytes)):  # unnamed, each is searched an adapter for, in vain: 0.7 to 1.6 us a value
    driver.register_adapter(kind, adapted)

VERSION: tuple[int, ...] = driver.sqlite_version_info
SAFE = (3, 51, 3)  # the first SQLite whose checkpoints cannot lose pages

CHECKPOINT = 2_000  # pages of WAL (8 MB) after which a commit also checkpoints
STATEMENTS = 512  # prepared statements kept by a connection


def connect(path: Path, context: dict[str, Any], *, writer: bool) -> Connection:
    """A connection in autocommit, which the caller wraps in BEGIN; `context` (ids, segments) is in its `info`."""
    flags = "" if writer else "?mode=ro"

    def creator() -> Any:
        raw = driver.connect(f"file:{_escaped(path)}{flags}", uri=True, isolation_level=None, check_same_thread=False,
                             cached_statements=STATEMENTS, timeout=10.0)
        for pragma in _WRITER if writer else _READER:
            raw.execute(f"PRAGMA {pragma}")
        return raw

    engine = create_engine("sqlite://", module=driver, creator=creator, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True,
                           json_serializer=lambda value: orjson.dumps(value).decode(), json_deserializer=orjson.loads)
    conn = engine.connect()
    conn.info.update(context)
    return conn


_WRITER = ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "cache_size=-32000",
           f"wal_autocheckpoint={CHECKPOINT}", "journal_size_limit=64000000")  # auto_vacuum counts on a new file only
_READER = ("query_only=ON", "wal_autocheckpoint=0", "temp_store=MEMORY", "cache_size=-2000")  # each reader has its own


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
