"""relay bounces: what bounces mean, and reading the past again after a rule has changed."""

from __future__ import annotations

import sys
from typing import Any

import click

from relay.cli.main import Group, Run, project_option, relay
from relay.cli.show import printable, table
from relay.cli.times import since as moment


@relay.group(cls=Group)
def bounces() -> None:
    """What bounces mean."""


@bounces.command("classify")
@click.argument("file", type=click.File("rb"))
@click.option("--rules", default="", metavar="FILE", help="Rules asked before the shipped ones; default [suppress] rules.")
@click.pass_obj
def classify(run: Run, file: Any, rules: str) -> None:
    """Say what FILE ("-" = standard input) means: a whole bounce or complaint, or SMTP replies, one a line."""
    from relay.control.bounces import classify as read

    found = read(file.read(), rules or _configured(run))
    if not found:
        print("relay: there is no bounce, complaint or SMTP reply in it", file=sys.stderr)
    run.show(found, lambda all_: table(("ADDRESS", "CLASS", "RULE", "REPLY"),
                                       [(printable(f["address"]), f["class"], f["rule"], printable(f["reply"])) for f in all_]))


def _configured(run: Run) -> str:
    """The rules that the settings name; a sample can be looked at where there are none."""
    return run.settings.suppress.rules if run.file else ""


@bounces.command("replay")
@project_option
@click.option("--since", default="30d", show_default=True, metavar="TIME", help='How far back: "30d", or "2026-11-21T10:00:00Z".')
@click.option("--dry-run", is_flag=True, help="Say what would change.")
@click.pass_obj
def replay(run: Run, project: str, since: str, dry_run: bool) -> None:
    """Read a project's bounces again by the rules as they are now: give back what was suppressed by mistake, suppress what was missed."""
    total: dict[str, Any] = {"looked": 0, "lifted": [], "suppressed": [], "dry_run": dry_run}
    start, following = moment(since), ""
    while following is not None:
        page = run.act("bounces_replay", project=project, since=start, dry_run=dry_run, after=following)
        total["looked"] += page["looked"]
        for name in ("lifted", "suppressed"):
            total[name] += page[name]
        following = page["next"]
        if sys.stderr.isatty():
            print(f"\r{total['looked']} bounces read", end="" if following else "\n", file=sys.stderr, flush=True)
    run.show(total, _replayed)


def _replayed(total: dict[str, Any]) -> str:
    would = "would be " if total["dry_run"] else ""
    lines = [f"{each['address']} {would}given back: {each['was']} is {each['rule'] or 'no rule'} ({each['class']}) now" for each in total["lifted"]]
    lines += [f"{each['address']} {would}suppressed: {each['rule']}" for each in total["suppressed"]]
    return "\n".join([*lines, f"{total['looked']} bounces read, {len(total['lifted'])} {would}given back, {len(total['suppressed'])} {would}suppressed"])
