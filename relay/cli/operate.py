"""relay serve, check, migrate and backup: running the relay itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from relay.cli.main import Run, relay
from relay.cli.show import table

MARKS = {"ok": "ok", "warning": "warn", "error": "ERROR"}


@relay.command()
@click.option("--workers", type=click.IntRange(0, 15), default=0, show_default=True, metavar="N", help="Processes that receive mail beside the main one.")
@click.option("--hold", is_flag=True, help="Start with the queue held: accept mail, deliver none until `relay queue release --all`.")
@click.pass_context
def serve(context: click.Context, workers: int, hold: bool) -> None:
    """Run the relay until SIGTERM; SIGHUP reloads the settings."""
    run: Run = context.obj
    context.exit(run.serve(run.settings, workers=workers, hold=hold, path=run.file) or 0)


@relay.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Look for what is wrong: settings, DNS, keys, listeners, policies, port 25, PTR, clock, certificates, disk.

    Exit status 1 when there is an error, 2 when the settings cannot be read.
    """
    from relay.cli.checks import examine

    run: Run = context.obj
    findings = examine(run.settings)
    run.show(findings, _findings)
    context.exit(1 if any(f["level"] == "error" for f in findings) else 0)


def _findings(findings: Sequence[dict[str, Any]]) -> str:
    rows = [(MARKS[f["level"]], f["check"], f["key"], f["text"] + (f"; {f['way_out']}" if f["way_out"] else "")) for f in findings]
    worst = {level: sum(f["level"] == level for f in findings) for level in ("error", "warning")}
    return f"{table(('', 'CHECK', 'KEY', 'FOUND'), rows)}\n\n{worst['error']} errors, {worst['warning']} warnings"


@relay.command()
@click.pass_obj
def migrate(run: Run) -> None:
    """Bring the store's schema up to date."""
    found = run.patiently(lambda: _migrated(run))
    run.show(found, lambda done: f"the store has schema {done['schema']}, as this Relay needs it")


def _migrated(run: Run) -> dict[str, Any]:
    """The schema that a running relay has, or that the store has after a migration."""
    from relay.control.client import Client

    running = Client.connect(run.settings.data_dir)
    if running is None:
        from relay.control import alone

        return {"schema": alone.migrate(run.settings)}
    with running:
        return running.act("schema", {})


@relay.command()
@click.argument("file", type=click.Path())
@click.pass_obj
def backup(run: Run, file: str) -> None:
    """Write a copy of the store to the new directory FILE, while the relay runs or not: database, large bodies and the secret key.

    A relay started on a copy holds its queue until `relay queue release --all`, so that nothing is sent twice.
    """
    run.show(run.act("backup", file=os.path.abspath(file)), lambda done: "\n".join(str(line) for line in done["lines"]))
