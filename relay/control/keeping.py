"""Acts on the store as a whole: backup, schema, status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from relay.control import Control
from relay.errors import Invalid
from relay.store import backup as store_backup
from relay.store import migrations, queue


async def backup(control: Control, file: str) -> dict[str, Any]:
    """A copy of the store at `file`, an absolute path that is free; on PostgreSQL the command that makes one."""
    if control.store.dialect != "sqlite":
        line = f"pg_dump --format=custom --file={file} DATABASE"
        return {"path": None, "bytes": 0, "lines": [line, "with the database of store.url; keep the secret_key with it"]}
    if not Path(file).is_absolute():
        raise Invalid("file", f"{file} is not an absolute path")
    made = await store_backup.make(control.store, file)
    text = f"{made.path} has the database, bodies and the secret key, {made.bytes / 1e6:.1f} MB"
    if control.settings.secret_key:
        text = f"{made.path} has the database and bodies, {made.bytes / 1e6:.1f} MB; keep secret_key, which is in the settings, with it"
    restore = "to restore: stop the relay, put it in the place of data_dir, start, relay queue release --all"
    return {"path": str(made.path), "bytes": made.bytes, "lines": [text, restore]}


async def schema(control: Control) -> dict[str, Any]:
    """The version of the schema, which a relay that runs has brought up to date itself."""
    return {"schema": migrations.HEAD}


async def status(control: Control) -> dict[str, Any]:
    """Whether a relay runs here and how it is: pid, how many wait, whether the queue is held, and what the relay says of itself."""
    held = control.runner is not None and control.runner.held
    return {"running": True, "pid": os.getpid(), "waiting": await control.store.read(queue.count), "held": held, "healthy": control.store.healthy,
            **control.status()}
