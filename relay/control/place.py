"""Where the control socket lies, and how to bind and reach a Unix socket there; the standard library only, because every command starts with it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

NAME = "control.sock"
LINE = 1_048_576  # bytes of a request line
CONNECTIONS = 16


def listener(path: Path, mode: int = 0o600) -> socket.socket:
    """A listening Unix socket with this mode from its first moment, in place of any there was."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        with reachable(path) as short:
            sock.bind(short)
    finally:
        os.umask(before)
    sock.listen(CONNECTIONS)
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name of the path that fits into the 107 octets of sun_path, however deep data_dir lies."""
    if len(os.fsencode(path)) < 108:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
