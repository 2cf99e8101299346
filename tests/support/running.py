"""`relay serve` as users run it: a process of its own, settings in the environment, commands beside it.

    with Running(directory, {"RELAY_SMTP__TLS_CERT": ...}) as relay:
        key = relay.key()
        relay.smtp, relay.http          ports
        relay.command("queue", "list")  JSON of a command
        relay.kill()                    SIGKILL; start() brings it back
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
START = 30.0  # seconds until it is ready; below 1 on a quiet machine


class Running:
    """One relay with SQLite in `directory`, or on the store that `settings` name."""

    def __init__(self, directory: Path, settings: Mapping[str, str], workers: int = 0):
        self.directory = directory
        self.workers = workers
        self.smtp, self.http = free_port(), free_port()
        self.settings = {
            "RELAY_DATA_DIR": str(directory), "RELAY_HOSTNAME": "relay.test", "RELAY_SMTP__SUBMISSION": f"127.0.0.1:{self.smtp}",
            "RELAY_HTTP__LISTEN": f"127.0.0.1:{self.http}", "RELAY_STORE__MIN_FREE": "10MB", "RELAY_STORE__RESERVE": "5MB", **settings,
        }
        self.process: subprocess.Popen | None = None

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.directory), **self.settings}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait for /readyz; raises RuntimeError with its log."""
        command = [sys.executable, "-m", "relay", "serve", "--workers", str(self.workers)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory)
        deadline = time.monotonic() + START
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the relay did not start:\n{self.log[-3000:]}")
            threading.Event().wait(0.02)

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL, as when power fails."""
        self.process.kill()
        self.process.wait(60)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def ready(self) -> bool:
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

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        """`relay ARGUMENTS` beside the running one."""
        command = [sys.executable, "-m", "relay", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, cwd=self.directory, check=False, timeout=60, **options)

    def command(self, *arguments: str) -> Any:
        """What `relay ARGUMENTS --json` says; raises AssertionError with its words when it fails."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def key(self, *arguments: str) -> str:
        """A new API key."""
        done = self.run("key", "create", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
