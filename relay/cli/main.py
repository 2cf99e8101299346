"""The command `relay`: its group, the options that every command takes, and how a command runs an act of relay.control.

`--config FILE` and `--json` stand before or after the subcommand. An act runs in the relay that runs on the same data_dir, through its socket; when none runs,
in this process. Results go to standard output; errors to standard error, one line that names the way out. Exit status: 0 done, 1 refused or failed, 2 the
command line or the settings are wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay import __version__

if TYPE_CHECKING:
    from relay.settings import Settings

T = TypeVar("T")

START = 60.0  # seconds that a command waits for a relay that is just starting, or for another command that has the store
SILENT = 3.0  # seconds of that wait about which nothing is said
PLACES = ("relay.toml", "/etc/relay/relay.toml")  # where the settings are looked for without --config and $RELAY_CONFIG


@dataclass(slots=True)
class Run:
    """What the options said.

    serve     serve(settings, workers, hold, path), given by relay.__main__, since only it may know the whole relay
    patience  seconds that a command waits for a store that somebody else has
    """

    serve: Callable[..., int | None] | None = None
    path: str | None = None
    as_json: bool = False
    patience: float = START
    _settings: list[Settings] = field(default_factory=list)

    @property
    def file(self) -> str | None:
        """The settings' file: --config, $RELAY_CONFIG, ./relay.toml, /etc/relay/relay.toml; None when there is none and the defaults count."""
        return self.path or os.environ.get("RELAY_CONFIG") or next((place for place in PLACES if os.path.exists(place)), None)

    @property
    def settings(self) -> Settings:
        """Raises ConfigError, also where nothing at all is configured: a command would make a store of its own beside the one that was meant."""
        if not self._settings:
            from relay.settings import load

            found = load(self.file, os.environ)
            if self.file is None and not any(name.startswith("RELAY_") for name in os.environ) and not found.data_dir.exists():
                raise nowhere()
            self._settings.append(found)
        return self._settings[0]

    def act(self, name: str, /, **arguments: Any) -> Any:
        """The result of an act, wherever it has to run; raises the errors of relay.errors."""
        return self.patiently(lambda: self._act(name, arguments))

    def patiently(self, do: Callable[[], T]) -> T:
        """What `do` gives once nobody else has the store: a relay that does not answer yet, or another command. Raises InUse when that takes too long."""
        from relay.errors import InUse

        began, told = time.monotonic(), False
        while True:
            try:
                return do()
            except InUse as error:
                waited = time.monotonic() - began
                if waited > self.patience:
                    raise
                if waited > SILENT and not told:
                    told = True
                    click.echo(f"relay: waiting for the relay that is starting, or the command that runs: {error.text}", err=True)
                time.sleep(0.05)

    def _act(self, name: str, arguments: dict[str, Any]) -> Any:
        from relay.control.client import Client

        running = Client.connect(self.settings.data_dir)
        if running is None:
            from relay.control.alone import act

            return act(self.settings, name, arguments)
        with running:
            return running.act(name, arguments)

    def show(self, result: Any, human: Callable[[Any], str]) -> None:
        """Print a result: as JSON with --json, else as `human` writes it."""
        text = json.dumps(result, indent=2, ensure_ascii=False) if self.as_json else human(result)
        if text:
            click.echo(text)


def nowhere() -> Exception:
    """What to say where no settings are."""
    from relay.errors import ConfigError

    return ConfigError("", "there are no settings: name a file with --config FILE or $RELAY_CONFIG; `make run` has config/local.toml")


def _config(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Run).path = value


def _json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Run).as_json = True


def _shared() -> list[click.Parameter]:
    return [
        click.Option(["--config"], metavar="FILE", expose_value=False, callback=_config, help="Settings; default $RELAY_CONFIG, then ./relay.toml."),
        click.Option(["--json"], is_flag=True, expose_value=False, callback=_json, help="Print JSON."),
    ]


class Command(click.Command):
    """A command that takes the shared options and turns Relay's errors into a line and an exit status."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.params += _shared()

    def invoke(self, context: click.Context) -> Any:
        from relay.errors import ConfigError, RelayError

        try:
            return super().invoke(context)
        except RelayError as error:
            complain(error, context.obj.as_json)
            context.exit(2 if isinstance(error, ConfigError) else 1)
        except BrokenPipeError:  # the reader of `relay ... | head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(1)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            click.echo(f"relay: {what}; run this as the user that the relay runs as, or name a place that exists", err=True)
            context.exit(1)


def complain(error: Any, as_json: bool) -> None:
    """One line on standard error; with --json the object that the API would answer."""
    found = {"error": error.text, "code": error.code}
    for name in ("field", "key"):
        if getattr(error, name, ""):
            found[name] = getattr(error, name)
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else f"relay: {error.text}", err=True)


class Group(click.Group):
    command_class = Command
    group_class = type  # a group inside a group is a Group too

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.params += _shared()


project_option = click.option("--project", default="default", show_default=True, metavar="NAME", help="The project.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="relay")
@click.pass_context
def relay(context: click.Context) -> None:
    """Relay, a mail relay with its audience inside."""
    context.ensure_object(Run)


def commands() -> Group:
    """The group with all its commands."""
    from relay.cli import bounces, broadcasts, contacts, domains, explain, keys, operate, queue, suppress, users, workflows  # noqa: F401 (each adds its own)

    return relay


def main(serve: Callable[..., int | None]) -> None:
    """Run the command line; `serve` starts the relay."""
    os.umask(0o077)  # what a command makes in data_dir is as private as what the relay makes there
    commands()(obj=Run(serve), prog_name="relay")
