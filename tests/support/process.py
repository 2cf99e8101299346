"""A real relay process, as an operator runs it: configuration in a folder, `relay serve`, the command line beside it, kill -9 when a test wants.

    with RelayProcess(tmp_path, route=sink.address) as relay:
        key = relay.cli("key", "create")
        smtplib.SMTP("127.0.0.1", relay.submission) ...
        relay.kill(); relay.start()
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.ports import free_port

ROOT = Path(__file__).parent.parent.parent
UP = 20.0  # seconds a start may take
DOWN = 40.0  # seconds a stop may take


class RelayProcess:
    """`settings` are further TOML lines at the top, `more` whole tables; `route` sends all mail to this address, `nameserver` looks MX up there instead."""

    def __init__(
        self, directory: Path, *, route: str = "", nameserver: str = "", mx_port: int = 25, store_url: str = "", workers: int = 0,
        settings: str = "", smtp: str = "", more: str = "", require_verified: bool = False, environ: Mapping[str, str] | None = None,
    ):
        self.directory, self.workers, self.store_url, self.environ = directory, workers, store_url, dict(environ or {})
        directory.mkdir(parents=True, exist_ok=True)
        self.submission, self.http = free_port(), free_port()
        self.config = directory / "relay.toml"
        self.log = directory / "relay.log"
        self.process: subprocess.Popen[bytes] | None = None
        lines = [f'data_dir = "{directory}/data"', 'hostname = "relay.test"', settings]
        lines += ["[smtp]", f'submission = "127.0.0.1:{self.submission}"', smtp, "[http]", f'listen = "127.0.0.1:{self.http}"']
        lines += ["[domains]", f"require_verified = {str(require_verified).lower()}", "[store]", 'min_free = "64MB"', 'reserve = "32MB"']
        lines += [f'url = "{store_url}"'] if store_url else []
        lines += ["[delivery]", f"port = {mx_port}", "allow_private = true"]
        lines += ["[dns]", f'nameservers = ["{nameserver}"]'] if nameserver else []
        lines += ["[[delivery.route]]", 'domain = "*"', f'host = "{route}"', 'tls = "none"'] if route else []
        self.config.write_text("\n".join([*lines, more, ""]))

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "relay", *args, "--config", str(self.config)]

    def start(self, *args: str, **environ: str) -> Self:
        """Serving; raises RuntimeError with the log when it does not come up."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve", "--workers", str(self.workers), *args), stdout=log, stderr=log, cwd=ROOT,
                env={**os.environ, **self.environ, **environ},
            )
        self.wait_up()
        return self

    def wait_up(self) -> None:
        deadline = time.monotonic() + UP
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"relay ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            if self._greets():
                return
            time.sleep(0.02)
        raise RuntimeError(f"relay did not listen within {UP:g} seconds:\n{self.log.read_text()[-4000:]}")

    def _greets(self) -> bool:
        with socket.socket() as sock:
            sock.settimeout(2.0)
            try:
                sock.connect(("127.0.0.1", self.submission))
                return sock.recv(3) == b"220"
            except OSError:
                return False

    def kill(self) -> None:
        """kill -9, the main process only; its workers find out by themselves."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def workers_now(self) -> list[int]:
        """The process ids of its workers."""
        assert self.process
        try:
            return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]
        except OSError:
            return []

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DOWN)

    def cli(self, *args: str, check: bool = True) -> str:
        """What a command printed; raises AssertionError with its errors when it failed."""
        done = subprocess.run(self.command(*args), capture_output=True, text=True, cwd=ROOT, timeout=60, env={**os.environ, **self.environ}, check=False)
        assert not check or done.returncode == 0, f"relay {' '.join(args)} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def json(self, *args: str) -> Any:
        return json.loads(self.cli(*args, "--json"))

    def events(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
