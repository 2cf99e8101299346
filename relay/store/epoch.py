"""The epoch: a name that database and data directory agree on, so that a restored database is known as one (B15).

A restored database holds mail as waiting that has been delivered since; starting it would send all of that again. So the copy that `relay backup` makes names
an epoch of its own, and a store whose database and directory disagree starts held until an operator has looked (`relay queue release --all`).
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Connection, select

from relay.store.schema import meta, queue
from relay.store.upsert import insert

KEY = "epoch"


def restored(conn: Connection, data_dir: Path) -> bool:
    """Whether this database was made elsewhere or at another time than its directory says, and mail waits in it."""
    known = conn.scalar(select(meta.c.value).where(meta.c.key == KEY))
    if known is not None and _read(data_dir) == known:
        return False
    if known is not None and conn.execute(select(queue.c.recipient_id).limit(1)).first() is not None:
        return True
    accept(conn, data_dir)
    return False


def accept(conn: Connection, data_dir: Path) -> None:
    """Database and directory belong together from now on."""
    name = secrets.token_hex(8)
    stamp(conn, name)
    path = data_dir / KEY
    new = path.with_suffix(".new")
    new.write_text(f"{name}\n")
    new.rename(path)


def stamp(conn: Connection, name: str) -> None:
    """Name the epoch of this database."""
    statement = insert(conn, meta).values(key=KEY, value=name)
    conn.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": name}))


def _read(data_dir: Path) -> str:
    try:
        return (data_dir / KEY).read_text().strip()
    except FileNotFoundError:
        return ""
