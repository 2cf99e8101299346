"""A real PostgreSQL for a test session: RELAY_TEST_POSTGRES if set, else a private cluster made from the installed server.

The cluster lives in a directory of its own, listens on a free loopback port and runs as an unprivileged user, since PostgreSQL refuses to be root. It
keeps fsync on unless told otherwise: what we promise rests on it, and benchmarks measure it.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.support.peers import need
from tests.support.ports import free_port

START = 60.0  # seconds; initdb and the first start on a busy two-core machine take about 3


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; `url` names its maintenance database without the path: postgresql://relay@127.0.0.1:55432"""

    url: str

    async def create(self, template: str = "template1") -> str:
        """The URL of a new, empty database (or a copy of `template`)."""
        name = f"t_{secrets.token_hex(6)}"
        await self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return f"{self.url}/{name}"

    async def drop(self, url: str) -> None:
        """Drop a database that create() made, cutting its connections."""
        await self._run(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(f"{self.url}/postgres", timeout=START)
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=5)


@contextmanager
def server(**options: str) -> Iterator[Postgres]:
    """The server of the session, with these options beside our own; stops it, by its pid, at the end."""
    given = os.environ.get("RELAY_TEST_POSTGRES")  # postgresql://user:password@host:port, with the right to create databases
    if given:
        yield Postgres(given.rstrip("/"))
        return
    directory = Path(tempfile.mkdtemp(prefix="relay-pg-"))
    try:
        make(directory)
        with serving(directory, free_port(), **options) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def cluster(directory: Path) -> Iterator[Postgres]:
    """A cluster in `directory` for as long as the context lasts."""
    make(directory)
    with serving(directory, free_port()) as running:
        yield running


def make(directory: Path) -> None:
    """The files of an empty cluster."""
    _own(directory)
    _run([need("initdb"), "-D", str(directory / "data"), "-U", "relay", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])


@contextmanager
def serving(directory: Path, port: int, **more: str) -> Iterator[Postgres]:
    """The cluster of this directory, with more options, as long as the context lasts; its end is a crash, after which it may be served again."""
    options = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "max_connections": 200, "fsync": "on", "shared_buffers": "64MB",
        "autovacuum_naptime": "1h", "logging_collector": "off", **more,
    }
    command = [need("postgres"), "-D", str(directory / "data"), *(part for name, value in options.items() for part in ("-c", f"{name}={value}"))]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen([*_as_user(), *command], stdout=log, stderr=log, cwd=directory)
    try:
        _ready(process, port, directory / "log")
        yield Postgres(f"postgresql://relay@127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGQUIT)  # immediate: nothing here outlives the tests
        process.wait(START)


def _ready(process: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until the server accepts; raises with its log when it ends instead."""
    ready = [need("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    while subprocess.run(ready, check=False).returncode:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"PostgreSQL ended: {log.read_text()}")


def _run(command: Sequence[str], check: bool = True) -> None:
    done = subprocess.run([*_as_user(), *command], capture_output=True, cwd="/", check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode()}")


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _as_user() -> list[str]:
    """The words that run a command without privileges when we have them."""
    if os.geteuid():
        return []
    user = _user()
    return [need("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _own(directory: Path) -> None:
    if not os.geteuid():
        user = _user()
        os.chown(directory, user.pw_uid, user.pw_gid)
