"""Backup of a running relay: a directory that can stand in for data_dir, complete as of one moment.

    relay.db      the database as of one read transaction (VACUUM INTO), with an epoch of its own
    bodies/       the segments: full ones linked where the file system can, else copied; the last one copied
    secret_key    what signs tokens and opens DKIM keys, if it is kept in data_dir

Segments are taken before and after the database, so that each that it names is there. To restore, put the directory in the place of data_dir and start: the
queue is held until `relay queue release --all`, because mail that waits in the copy may have been delivered since. On PostgreSQL use pg_dump.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from relay.errors import Conflict, StoreError
from relay.store import epoch
from relay.store.engine import Store
from relay.store.segments import Segments
from relay.store.sqlite_file import connect


@dataclass(frozen=True, slots=True)
class Backup:
    """Where it is, and its size in bytes."""

    path: Path
    bytes: int


async def make(store: Store, target: Path | str) -> Backup:
    """Back the store up to a new directory; raises Conflict when there is something already, StoreError naming pg_dump on PostgreSQL."""
    target = Path(target)
    if store.dialect != "sqlite":
        raise StoreError("on PostgreSQL use its own tools: pg_dump --format=custom --file=relay.dump, with the database of store.url")
    if target.exists():
        raise Conflict(f"{target} exists already; give a name that is free")
    return await store.read(_copy, target, store.data_dir, store.segments)


def _copy(conn: Connection, target: Path, data_dir: Path, segments: Segments) -> Backup:
    work = target.with_name(f"{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    (work / "bodies").mkdir(mode=0o700, parents=True)
    try:
        _link(segments, work / "bodies")
        conn.exec_driver_sql("COMMIT")  # VACUUM INTO is a read transaction of its own
        conn.exec_driver_sql("PRAGMA query_only=OFF")
        conn.exec_driver_sql("VACUUM INTO ?", (str(work / "relay.db"),))
        _link(segments, work / "bodies")
        _stamp(work / "relay.db")
        if (data_dir / "secret_key").exists():
            shutil.copy2(data_dir / "secret_key", work / "secret_key")
        size = _flush(work)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        conn.exec_driver_sql("PRAGMA query_only=ON")
        conn.exec_driver_sql("BEGIN")
    return Backup(target, size)


def _link(segments: Segments, directory: Path) -> None:
    """All full segments that are not there yet, and a copy of the last one."""
    numbers = segments.numbers()
    for number in numbers:
        source, copy = segments.path(number), directory / f"{number:06d}"
        if number == numbers[-1]:
            shutil.copy2(source, copy)
        elif not copy.exists() or copy.stat().st_size != source.stat().st_size:
            copy.unlink(missing_ok=True)
            try:
                os.link(source, copy)
            except OSError:  # another file system
                shutil.copy2(source, copy)


def _stamp(path: Path) -> None:
    copy = connect(path, {}, writer=True)
    try:
        epoch.stamp(copy, "restored")
        copy.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        copy.close()
        copy.engine.dispose()
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)


def _flush(directory: Path) -> int:
    """Make all of it durable; its bytes."""
    size = 0
    for path in (*directory.rglob("*"), directory):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            size += os.fstat(file).st_size if path.is_file() else 0
        finally:
            os.close(file)
    return size
