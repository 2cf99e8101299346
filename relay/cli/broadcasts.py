"""relay broadcast: letters to many, as an operator sees and stops them. They are written in the dashboard or by the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from relay.cli.main import Run, project_option, relay
from relay.cli.show import ago, printable, span, table, when


@relay.group()
def broadcast() -> None:
    """Letters to many."""


@broadcast.command("list")
@project_option
@click.option("--status", default="", help="Only with this status: draft, scheduled, queued, sending, paused, sent, cancelled, failed.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="At most so many.")
@click.pass_obj
def list_broadcasts(run: Run, **wanted: Any) -> None:
    """Show the newest broadcasts of a project."""
    run.show(run.act("broadcast_list", **wanted), lambda found: table(
        ("ID", "SUBJECT", "STATUS", "PEOPLE", "WAIT", "DELIVERED", "BEGAN"),
        [(b["id"], b["subject"][:50], b["status"], b["total_recipients"], b["pending"] + b["queued"], b["delivered"], ago(b["started_at"])) for b in found],
        "there is no broadcast"))


def one(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command about one broadcast."""
    return click.argument("number", metavar="brd_ID")(project_option(command))


@broadcast.command("show")
@one
@click.pass_obj
def show(run: Run, **wanted: Any) -> None:
    """Show how far a broadcast is and what became of its copies."""
    run.show(run.act("broadcast_show", **wanted), _told)


@broadcast.command("forecast")
@one
@click.pass_obj
def forecast(run: Run, **wanted: Any) -> None:
    """Show how long a broadcast will take, and what takes longest."""
    run.show(run.act("broadcast_forecast", **wanted), _ahead)


@broadcast.command("send")
@one
@click.option("--at", default="", metavar="TIME", help='Not now but at this time, "2027-03-25T09:00:00Z".')
@click.pass_obj
def send(run: Run, **wanted: Any) -> None:
    """Send a draft, or move the time of one that is scheduled."""
    run.show(run.act("broadcast_send", **wanted), _told)


@broadcast.command("pause")
@one
@click.pass_obj
def pause(run: Run, **wanted: Any) -> None:
    """Let nothing more of it leave until it is resumed."""
    run.show(run.act("broadcast_pause", **wanted), _told)


@broadcast.command("resume")
@one
@click.pass_obj
def resume(run: Run, **wanted: Any) -> None:
    """Go on where it was."""
    run.show(run.act("broadcast_resume", **wanted), _told)


@broadcast.command("cancel")
@one
@click.pass_obj
def cancel(run: Run, **wanted: Any) -> None:
    """Send it to nobody else."""
    run.show(run.act("broadcast_cancel", **wanted), _told)


_FIGURES = ("pending", "queued", "delivered", "bounced", "failed", "suppressed", "cancelled", "skipped", "opened", "clicked", "unsubscribed", "complained")


def _told(found: dict[str, Any]) -> str:
    times = {"scheduled": found["scheduled_at"], "began": found["started_at"], "ended": found["ended_at"]}
    rows = [("subject", found["subject"]), ("from", found["from"]), ("status", found["status"]), ("reason", found["error"]),
            *((name, when(at)) for name, at in times.items() if at), ("people", found["total_recipients"]),
            *((name, found[name]) for name in _FIGURES if found[name]),
            *((f"  {reason}", count) for reason, count in found["skipped_by_reason"].items())]
    return table((found["id"], ""), [row for row in rows if row[1] not in (None, "")])


def _ahead(found: dict[str, Any]) -> str:
    people = "1 person" if found["recipients"] == 1 else f"{found['recipients']} people"
    head = f"{people}, {span(found['seconds'])}" + (f", limited by {found['limited_by']}" if found["limited_by"] else "")
    skipped = "".join(f"\nleft out: {count} {printable(reason)}" for reason, count in found["skipped_by_reason"].items())
    sites = table(("SITE", "PEOPLE", "TIME"), [(s["site"], s["recipients"], span(s["seconds"])) for s in found["sites"]])
    return f"{head}{skipped}" + (f"\n\n{sites}" if sites else "")
