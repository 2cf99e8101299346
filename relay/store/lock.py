"""The lock of a data directory: one relay writes there, or everything is delivered twice.

`data_dir/lock` is held with flock(2), which the kernel drops with the process however it ends, so a lock never has to be cleaned up. The file names the
process that holds it, for the error that the second one prints.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.errors import ConfigError, InUse

LOOKED_AT = 0.2  # seconds within which who only looks has let go of the lock, on a busy machine too


@contextmanager
def hold(data_dir: Path | str, mode: int = 0o700) -> Iterator[None]:
    """Hold the directory (made with this mode if missing) as long as the context lasts.

    Raises InUse naming the pid that has it, ConfigError where there can be no such directory or we may not write in it.
    """
    directory = Path(data_dir)
    descriptor = _opened(directory, mode)
    try:
        if not _locked(descriptor):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise InUse(f"{directory} is in use by the relay with pid {holder}; stop it first, or give this one its own data_dir")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _opened(directory: Path, mode: int) -> int:
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
        return os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        way_out = "run this as the user that the relay runs as, or name a place that exists"
        raise ConfigError("data_dir", f"{error.filename}: {error.strerror}; {way_out}") from error


def _locked(descriptor: int) -> bool:
    """Whether the lock is ours; `holder` may have it for a moment, when a command looks while we start."""
    deadline = time.monotonic() + LOOKED_AT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOKED_AT / 20)
        else:
            return True


def holder(data_dir: Path | str) -> int | None:
    """The pid of the relay that holds the directory now, or None."""
    try:
        descriptor = os.open(Path(data_dir) / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def node(data_dir: Path | str) -> str:
    """The name of the relay of this directory among those of a database: the same after a crash, so that it takes its own leases back at once.

    The host is part of it, because images of machines are copied with their files; the caller holds the directory.
    """
    path = Path(data_dir) / "node"
    token = path.read_text("ascii").strip() if path.exists() else ""
    if not token:  # new, or the disk was full when it was made
        token = secrets.token_hex(8)
        path.write_text(f"{token}\n", "ascii")
    return f"{socket.gethostname()[:40]}:{token}"
