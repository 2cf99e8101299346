"""The command line as people use it: a process of its own, a settings file, a store in a directory of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


class Relay:
    """`relay(...)` runs a command and gives the process; `relay.json(...)` its JSON; `relay.text(...)` its output. The last two want exit status 0."""

    def __init__(self, config: Path):
        self.config = config

    def __call__(self, *arguments: str, stdin: str = "", config: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "relay", *arguments, *(["--config", str(self.config)] if config else [])]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        return subprocess.run(command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=50)

    def text(self, *arguments: str, **named: Any) -> str:
        done = self(*arguments, **named)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str, **named: Any) -> Any:
        return json.loads(self.text(*arguments, "--json", **named))


def configured(directory: Path, text: str = "") -> Relay:
    """A relay whose data is in this directory, with more lines for its relay.toml."""
    config = directory / "relay.toml"
    config.write_text(f'data_dir = "{directory / "data"}"\nhostname = "mail.relay.example"\n{text}')
    return Relay(config)


@pytest.fixture
def settings_text() -> str:
    """What a test's relay.toml says beside data_dir; a test overrides it."""
    return ""


@pytest.fixture
def relay(tmp_path: Path, settings_text: str) -> Relay:
    return configured(tmp_path, settings_text)
