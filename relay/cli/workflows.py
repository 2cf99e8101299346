"""relay workflow: what happens to contacts step by step, as an operator sees and stops it. They are made in the dashboard or by the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from relay.cli.main import Run, project_option, relay
from relay.cli.show import ago, printable, table, when


@relay.group()
def workflow() -> None:
    """What happens to contacts, step by step."""


@workflow.command("list")
@project_option
@click.pass_obj
def list_workflows(run: Run, **wanted: Any) -> None:
    """Show the workflows of a project."""
    run.show(run.act("workflow_list", **wanted), lambda found: table(
        ("ID", "NAME", "STATUS", "TRIGGER", "RUNNING", "COMPLETED", "FAILED"),
        [(w["id"], w["name"][:50], w["status"], w["trigger_type"], w["runs"]["running"], w["runs"]["completed"], w["runs"]["failed"]) for w in found],
        "there is no workflow"))


def one(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command about one workflow."""
    return click.argument("number", metavar="wf_ID")(project_option(command))


@workflow.command("show")
@one
@click.pass_obj
def show(run: Run, **wanted: Any) -> None:
    """Show a workflow's nodes, where they lead, and what came of each."""
    run.show(run.act("workflow_show", **wanted), _told)


@workflow.command("runs")
@one
@click.option("--status", default="", help="Only with this status: running, completed, failed, stopped.")
@click.option("--contact", default="", metavar="ADDRESS", help="Only of this contact, with all that each run did and why.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="At most so many.")
@click.pass_obj
def list_runs(run: Run, **wanted: Any) -> None:
    """Show the newest runs of a workflow."""
    run.show(run.act("workflow_runs", **wanted), _runs)


@workflow.command("simulate")
@one
@click.argument("address", metavar="ADDRESS")
@click.option("--at", default="", metavar="TIME", help='From this time on, "2027-03-25T09:00:00Z"; from now on without it.')
@click.pass_obj
def simulate(run: Run, **wanted: Any) -> None:
    """Show what would happen to a contact, and when. Nothing is sent or written."""
    run.show(run.act("workflow_simulate", **wanted), _course)


@workflow.command("pause")
@one
@click.pass_obj
def pause(run: Run, **wanted: Any) -> None:
    """Let no run begin from now on; those under way go on."""
    run.show(run.act("workflow_pause", **wanted), lambda found: f"{found['id']} is {found['status']}, {found['runs']['running']} runs go on")


@workflow.command("stop")
@one
@click.pass_obj
def stop(run: Run, **wanted: Any) -> None:
    """Stop every run that is under way."""
    run.show(run.act("workflow_stop", **wanted), lambda found: f"{found['stopped']} runs stopped")


def _told(found: dict[str, Any]) -> str:
    ways: dict[str, list[str]] = {}
    for edge in found["graph"]["edges"]:
        ways.setdefault(edge["from_public_id"], []).append((f"{edge['branch']}: " if edge["branch"] else "") + edge["to_public_id"])
    rows = [(printable(node["public_id"]), node["type"], printable(", ".join(ways.get(node["public_id"], []))),
             ", ".join(f"{printable(name)} {count}" for name, count in sorted(node["counts"].items()))) for node in found["graph"]["nodes"]]
    head = f"{found['id']} {printable(found['name'])}: {found['status']}, begun by {found['trigger_type']}, re-entry {found['reentry']}"
    return f"{head}\n\n{table(('NODE', 'TYPE', 'LEADS TO', 'SO FAR'), rows)}"


def _runs(found: list[dict[str, Any]]) -> str:
    rows = [(r["id"], r["email"] or r["contact_id"], r["status"], r["current_node_id"] or "", printable((r["waiting"] or {}).get("why") or r["reason"] or ""),
             ago(r["started_at"])) for r in found]
    listed = table(("ID", "CONTACT", "STATUS", "AT", "WHY", "BEGAN"), rows, "there is no run")
    return "\n\n".join([listed, *(f"{r['id']}\n{_lines(r['steps'])}" for r in found if "steps" in r)])


def _course(found: dict[str, Any]) -> str:
    begins = "" if found["would_begin"] else f"It would not begin as things are: {found['refused']}.\n\n"
    end = f"\n\n{found['status']}" + (f": {printable(found['reason'])}" if found["reason"] else "")
    return f"{begins}{_lines(found['steps'])}{end}"


def _lines(steps: list[dict[str, Any]]) -> str:
    return table(("WHEN", "NODE", "OUTCOME", "WHY"), [
        (when(each["at"]), each["node_id"] or "", each["outcome"], printable(", ".join(f"{name} {value}" for name, value in each["detail"].items())))
        for each in steps])
