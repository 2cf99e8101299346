"""relay queue: what waits, and making it wait otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import click

from relay.cli.main import Run, relay
from relay.cli.show import ago, printable, table

PAGE = 1000  # rows asked for at once


@relay.group()
def queue() -> None:
    """Mail that waits."""


def _seconds(_: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    from relay.kinds import DURATION, duration

    try:
        return None if text is None else duration(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {DURATION.form}", param=parameter) from None


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The filters that say which recipients; all that are given must hold."""
    for option in reversed((
        click.option("--project", default="", metavar="NAME", help="Of this project."),
        click.option("--key", default="", metavar="KEY", help="Submitted with this API key (of --project, or default)."),
        click.option("--site", default="", metavar="SITE", help="Going to this site, as explain names it."),
        click.option("--domain", default="", metavar="D", help="To this recipient domain."),
        click.option("--tag", default="", metavar="TAG", help="With this tag."),
        click.option("--older-than", default=None, callback=_seconds, metavar="DURATION", help='Due for longer than "2h", "3d", ...'),
    )):
        command = option(command)
    return command


def _one_or_all(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.argument("what", required=False, default="", metavar="[em_ID|ADDRESS]")(command)
    return click.option("--all", "everything", is_flag=True, help="The whole queue.")(chosen(command))


@queue.command("list")
@click.argument("what", required=False, default="", metavar="[em_ID|ADDRESS]")
@chosen
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@click.pass_obj
def list_waiting(run: Run, limit: int, **wanted: Any) -> None:
    """Show who waits and why."""
    total: list[int] = []
    found = list(islice(_pages(run, total, limit=min(limit, PAGE), **wanted), limit))
    run.show(found, lambda rows: _waiting(rows, total[0]))


def _pages(run: Run, total: list[int], **wanted: Any) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = run.act("queue_list", after=after, **wanted)
        total.append(page["total"])
        yield from page["recipients"]
        after = page["next"]


def _waiting(rows: list[dict[str, Any]], total: int) -> str:
    cells = [(r["message_id"], r["from"] or "<>", r["to"], r["state"], r["attempts"], ago(r["due_at"]), printable(r["reply"] or "")[:80]) for r in rows]
    text = table(("MESSAGE", "FROM", "TO", "STATE", "TRIES", "DUE", "LAST REPLY"), cells, "nobody waits")
    return text if len(rows) == total or not rows else f"{text}\n\n{len(rows)} of {total}; --limit shows more"


@queue.command("show")
@click.argument("what", metavar="em_ID")
@click.pass_obj
def show(run: Run, what: str) -> None:
    """Show a waiting message: its recipients and its header."""
    run.show(run.act("queue_show", what=what), lambda found: f"{_waiting(found['recipients'], found['total'])}\n\n{_lines(found['header'])}")


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


@queue.command("retry")
@_one_or_all
@click.pass_obj
def retry(run: Run, **wanted: Any) -> None:
    """Try now what would be tried later."""
    run.show(run.act("queue_retry", **wanted), lambda done: f"{done['retried']} recipients are due now")


@queue.command("hold")
@_one_or_all
@click.pass_obj
def hold(run: Run, **wanted: Any) -> None:
    """Keep mail back until it is released."""
    run.show(run.act("queue_hold", **wanted), lambda done: f"{done['held']} recipients are held")


@queue.command("release")
@_one_or_all
@click.pass_obj
def release(run: Run, **wanted: Any) -> None:
    """Let held mail go; --all also starts the queue of a relay that was started held."""
    run.show(run.act("queue_release", **wanted), lambda done: f"{done['released']} recipients are released")


@queue.command("cancel")
@_one_or_all
@click.pass_obj
def cancel(run: Run, **wanted: Any) -> None:
    """End waiting mail as cancelled."""
    run.show(run.act("queue_cancel", **wanted), lambda done: f"{done['cancelled']} recipients are cancelled")


@queue.command("sites")
@click.pass_obj
def list_sites(run: Run) -> None:
    """Show suspended sites, those whose TLS is broken, and those that asked for less at once."""
    run.show(run.act("site_list"), lambda found: table(
        ("SITE", "SUSPENDED", "REASON", "BROKEN TLS", "SLOWED"),
        [(s["site"], _until(s), s["reason"], ago(s["broken_tls_until"]), ago(s["slowed_until"])) for s in found], "no site is suspended or slowed"))


def _until(site: dict[str, Any]) -> str:
    return "" if not site["suspended"] else "until resumed" if site["suspended_until"] is None else f"ends {ago(site['suspended_until'])}"


@queue.command("suspend")
@click.argument("site")
@click.option("--for", "seconds", default=None, callback=_seconds, metavar="DURATION", help='For "30m", "2h", ...; without it until resumed.')
@click.option("--reason", default="", help="Words for whoever looks later.")
@click.pass_obj
def suspend(run: Run, **arguments: Any) -> None:
    """Start no delivery to SITE; its mail waits. A domain stands for the site that its mail goes to, with all other mail that goes there."""
    run.show(run.act("site_suspend", **arguments), lambda done: f"{done['site']} is suspended, {_end(done['suspended_until'])}")


def _end(until: str | None) -> str:
    return f"ends {ago(until)}" if until else "relay queue resume ends it"


@queue.command("resume")
@click.argument("site")
@click.pass_obj
def resume(run: Run, site: str) -> None:
    """Deliver to SITE again."""
    run.show(run.act("site_resume", site=site), lambda done: f"{done['site']} is no longer suspended")
