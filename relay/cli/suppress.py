"""relay suppress: addresses that get no mail."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from relay.cli.main import Run, project_option, relay
from relay.cli.show import ago, table
from relay.cli.times import lasting
from relay.cli.times import since as moment

SLICE = 1000  # rows sent at once; mail gets its turn between two slices
REASONS = click.Choice(["manual", "unsubscribe", "hard_bounce", "complaint"])
FOUND = click.Choice([*REASONS.choices, "soft_bounce", "snooze"])  # which relay alone gives


@relay.group()
def suppress() -> None:
    """Addresses that get no mail from a project."""


@suppress.command("add")
@click.argument("address")
@project_option
@click.option("--reason", type=REASONS, default="manual", show_default=True, help="Why.")
@click.option("--scope", default="all", show_default=True, help='What it stops: "all", "marketing" or "topic:ID".')
@click.option("--for", "lasts", default="", metavar="DURATION", help='Only for so long: "2h", "30d".')
@click.option("--note", default="", help="Words for whoever looks later.")
@click.pass_obj
def add(run: Run, lasts: str, **arguments: Any) -> None:
    """Stop mail to ADDRESS, mail that already waits too."""
    answer = run.act("suppress_add", lasts=lasting(lasts) if lasts else 0.0, **arguments)
    run.show(answer, lambda entry: f"{entry['address']} is suppressed ({entry['reason']}, {entry['scope']})" + ("" if entry["added"] else ", as it was"))


@suppress.command("remove")
@click.argument("address")
@project_option
@click.option("--scope", default="", help="Only this scope.")
@click.pass_obj
def remove(run: Run, **arguments: Any) -> None:
    """Let mail to ADDRESS go again."""
    run.show(run.act("suppress_remove", **arguments),
             lambda gone: "\n".join(f"{e['address']} is no longer suppressed ({e['reason']}, {e['scope']})" for e in gone))


@suppress.command("list")
@project_option
@click.option("--reason", type=FOUND, default=None)
@click.option("--batch", default="", help="Only this import.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@click.pass_obj
def list_entries(run: Run, project: str, reason: str | None, batch: str, limit: int) -> None:
    """Show suppressed addresses, oldest first."""
    found = list(islice(_entries(run, project=project, reason=reason or "", batch=batch, limit=min(limit, SLICE)), limit))
    run.show(found, lambda entries: table(
        ("ADDRESS", "REASON", "SCOPE", "SINCE", "ENDS", "RULE"),
        [(e["address"], e["reason"], e["scope"], ago(e["created_at"]), ago(e["expires_at"]) if e["expires_at"] else "", e["evidence"].get("rule", ""))
         for e in entries],
        f"nothing is suppressed in project {project}"))


def _entries(run: Run, **arguments: Any) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = run.act("suppress_list", after=after, **arguments)
        yield from page["suppressions"]
        after = page["next"]


@suppress.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@project_option
@click.pass_context
def take_in(context: click.Context, file: Any, project: str) -> None:
    """Suppress every address of FILE ("-" = standard input): one a line, or CSV with the columns email, reason, scope.

    The answer names a batch; `relay suppress undo BATCH` takes the import back. Exit status 1 when lines were refused.
    """
    total: dict[str, Any] = {"batch": "", "added": 0, "known": 0, "refused": []}
    rows = _rows(file)
    while slice_ := list(islice(rows, SLICE)):
        answer = context.obj.act("suppress_import", rows=[row for _, row in slice_], batch=total["batch"], project=project)
        total["batch"] = answer["batch"]
        total["added"] += answer["added"]
        total["known"] += answer["known"]
        total["refused"] += [{"line": slice_[each["row"]][0], "address": each["address"], "error": each["error"]} for each in answer["refused"]]
    context.obj.show(total, _imported)
    context.exit(1 if total["refused"] else 0)


def _imported(total: dict[str, Any]) -> str:
    lines = [f"{total['added']} added, {total['known']} known already, {len(total['refused'])} refused"]
    if total["batch"]:
        lines.append(f"relay suppress undo {total['batch']} takes it back")
    for each in total["refused"][:20]:
        print(f"line {each['line']}: {each['error']}", file=sys.stderr)
    return "\n".join(lines)


def _rows(file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, [address, reason, scope]) of what has an address; a head line names the columns, without one the first is the address."""
    columns = (0, 1, 2)
    for number, row in enumerate(csv.reader(file), 1):
        cells = [cell.strip() for cell in row]
        if number == 1 and {"email", "address"} & {cell.lower() for cell in cells}:
            columns = _columns([cell.lower() for cell in cells])
        elif any(cells):
            yield number, [cells[n] if n < len(cells) else "" for n in columns]


def _columns(names: list[str]) -> tuple[int, ...]:
    """Where address, reason and scope stand; beyond the last column for one that is missing."""
    wanted = (("email", "address"), ("reason",), ("scope",))
    return tuple(next((n for n, name in enumerate(names) if name in either), len(names)) for either in wanted)


@suppress.command("undo")
@click.argument("batch", required=False, default="")
@project_option
@click.option("--reason", type=FOUND, default=None)
@click.option("--rule", default="", help="Only what this bounce rule suppressed.")
@click.option("--since", default="", metavar="TIME", help='Only the last "2h", "3d", or since "2026-11-21T10:00:00Z".')
@click.pass_obj
def undo(run: Run, batch: str, project: str, reason: str | None, rule: str, since: str) -> None:
    """Take back an import (BATCH), what a bounce rule suppressed, or the entries of a reason since a time."""
    start = moment(since) if since else None
    answer = run.act("suppress_undo", batch=batch, project=project, reason=reason or "", rule=rule, since=start)
    run.show(answer, lambda gone: f"{gone['removed']} entries removed")
