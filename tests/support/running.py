"""`relay serve` as users run it: a process of its own, settings in the environment, commands beside it, kill -9 when a test wants.

    with Running(directory, {**OPEN, **routed(sink.address)}) as relay:
        key = relay.key()
        relay.smtp, relay.http          ports
        relay.command("queue", "list")  JSON of a command
        relay.kill()                    SIGKILL; start() brings it back
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from relay.control.place import NAME, reachable
from tests.support import warm
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
START = 50.0  # seconds until it is up; below 1 on a quiet machine
STOP = 60.0  # seconds a stop may take

TRUSTING = {"RELAY_SMTP__TRUSTED_NETWORKS": "127.0.0.0/8"}  # loopback needs no key
OPEN = {"RELAY_DOMAINS__REQUIRE_VERIFIED": "false"}  # any From is taken


def routed(address: str, others: Mapping[str, str] = {}) -> dict[str, str]:
    """The settings of a relay that sends all mail to this address, in the clear; `others` are addresses by domain."""
    rows = (f'{{domain = "{domain}", host = "{host}", tls = "none"}}' for domain, host in (*others.items(), ("*", address)))
    return {"RELAY_DELIVERY__ROUTE": f"[{', '.join(rows)}]"}


def by_mx(nameserver: str, port: int) -> dict[str, str]:
    """The settings of a relay that asks this nameserver for MX hosts, on loopback too, and finds them all on this port."""
    return {"RELAY_DNS__NAMESERVERS": nameserver, "RELAY_DELIVERY__PORT": str(port), "RELAY_DELIVERY__ALLOW_PRIVATE": "true"}


def listening(port: int) -> int:
    """How many sockets listen on this port of an IPv4 address: one of each worker."""
    found = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in found)


def children(pid: int) -> list[int]:
    """The process ids of the processes that this one started or forked, none where it is gone."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Running:
    """One relay with its data and its log in `directory`, unless `settings` name another data_dir or store.

    cold  start each process as a Python of its own instead of forking it from one that has imported everything: for what measures memory or the start
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] = {}, workers: int = 0, cold: bool = False):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.workers, self.cold = workers, cold or not warm.POSSIBLE
        self.smtp, self.http = free_port(), free_port()
        self.settings = {
            "RELAY_DATA_DIR": str(directory), "RELAY_HOSTNAME": "relay.test", "RELAY_SMTP__SUBMISSION": f"127.0.0.1:{self.smtp}",
            "RELAY_HTTP__LISTEN": f"127.0.0.1:{self.http}", "RELAY_STORE__MIN_FREE": "10MB", "RELAY_STORE__RESERVE": "5MB", **settings,
        }
        self.process: subprocess.Popen | warm.Process | None = None

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE") if name in os.environ}
        return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(self.directory), **self.settings}

    @property
    def data(self) -> Path:
        return Path(self.settings["RELAY_DATA_DIR"])

    @property
    def store_url(self) -> str:
        """As configured; "" is SQLite in `data`."""
        return self.settings.get("RELAY_STORE__URL", "")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    # its life

    def start(self, *arguments: str, **environ: str) -> Self:
        """Start it and wait until it is up; raises RuntimeError with its log. `environ` is for this life only."""
        command = ["serve", "--workers", str(self.workers), *arguments]
        with (self.directory / "log").open("ab") as log:
            self.process = self._launch(command, {**self.environ, **environ}, log)
        deadline = time.monotonic() + START
        while not self.up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the relay did not start:\n{self.log[-3000:]}")
            threading.Event().wait(0.02)
        return self

    def _launch(self, command: Sequence[str], environ: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen | warm.Process:
        if not self.cold:
            return warm.start(command, environ, self.directory, log, log)
        return subprocess.Popen(
            [sys.executable, "-m", "relay", *command], env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory)

    def up(self) -> bool:
        """Each worker is there and listens, one greets, and it takes commands: the last thing that a start does."""
        if listening(self.smtp) < self.workers or len(self.workers_now()) < self.workers:
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.smtp), 2.0) as line:
                greeted = line.recv(3) == b"220"
            with socket.socket(socket.AF_UNIX) as line, reachable(self.data / NAME) as path:
                line.connect(path)
        except OSError:
            return False
        return greeted

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP)

    def kill(self) -> None:
        """SIGKILL, as when power fails; its workers find out by themselves."""
        self.process.kill()
        self.process.wait(STOP)

    def nurseries_now(self) -> list[int]:
        """The process id of what its workers are forked from; empty without workers."""
        return children(self.process.pid)

    def workers_now(self) -> list[int]:
        """The process ids of its workers."""
        return [pid for nursery in self.nurseries_now() for pid in children(nursery)]

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    # its pages

    def ready(self) -> bool:
        """/readyz says so."""
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    # commands beside it

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        """`relay ARGUMENTS`."""
        if not self.cold:
            return warm.run(arguments, self.environ, self.directory, **options)
        command = [sys.executable, "-m", "relay", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, cwd=self.directory, check=False, timeout=150, **options)

    def text(self, *arguments: str) -> str:
        """What `relay ARGUMENTS` printed; raises AssertionError with its words when it fails."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"relay {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def command(self, *arguments: str) -> Any:
        """What `relay ARGUMENTS --json` says."""
        return json.loads(self.text(*arguments, "--json"))

    def key(self, *arguments: str) -> str:
        """A new API key."""
        return self.text("key", "create", *arguments)
