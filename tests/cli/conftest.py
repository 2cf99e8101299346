"""The command line as people use it: a process of its own, a settings file, a store in a directory of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli.main import START, Run, commands
from tests.support import warm

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Relay:
    """`relay(...)` runs a command and gives what came of it; `relay.json(...)` its JSON; `relay.text(...)` its output. The last two want exit status 0.

    Commands run in this process, since importing everything anew takes longer than most of them; `relay.process(...)` starts one of its own, forked from one
    that has imported everything already, or with `cold=True` as a shell starts it.
    """

    def __init__(self, config: Path):
        self.config = config

    def __call__(self, *arguments: str, stdin: str = "", config: bool = True, patience: float = START) -> Done:
        line = [*arguments, *(["--config", str(self.config)] if config else [])]
        clean = {name: None for name in os.environ if name.startswith("RELAY_")}
        found = CliRunner().invoke(commands(), line, obj=Run(patience=patience), input=stdin, env=clean)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Done(found.exit_code, found.stdout, found.stderr)

    def process(self, *arguments: str, config: bool = True, cwd: Path = ROOT, cold: bool = False, **environ: str) -> Done:
        line = [*arguments, *(["--config", str(self.config)] if config else [])]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        environ = {**clean, "PYTHONPATH": str(ROOT), **environ}
        if cold or not warm.POSSIBLE:
            done = subprocess.run([sys.executable, "-m", "relay", *line], cwd=cwd, env=environ, capture_output=True, text=True, timeout=150)
        else:
            done = warm.run(line, environ, cwd, timeout=150)
        return Done(done.returncode, done.stdout, done.stderr)

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
