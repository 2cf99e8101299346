"""relay user: people who sign in to the dashboard."""

from __future__ import annotations

import sys
from typing import Any

import click

from relay.cli.main import Run, project_option, relay
from relay.cli.show import ago, table

PASSWORD = "--password-stdin"  # noqa: S105 (an option's name)
_password = click.option(PASSWORD, "stdin", is_flag=True, help="Read the password from standard input; without it one is made and printed.")


@relay.group()
def user() -> None:
    """People who sign in to the dashboard with a name and a password."""


@user.command("add")
@click.argument("name")
@project_option
@click.option("--permission", type=click.Choice(["full_access", "sending_access"]), default="full_access", show_default=True,
              help="sending_access sees mail only.")
@_password
@click.pass_obj
def add(run: Run, name: str, stdin: bool, **arguments: Any) -> None:
    """Let NAME sign in, and print their password. It is shown this once."""
    run.show(run.act("user_add", name=name, password=_read(stdin), **arguments), _made)


@user.command("list")
@project_option
@click.pass_obj
def list_users(run: Run, project: str) -> None:
    """Show the project's users."""
    head = ("ID", "NAME", "PERMISSION", "SIGNED IN", "MADE")
    run.show(run.act("user_list", project=project), lambda found: table(
        head, [(u["id"], u["name"], u["permission"], ago(u["signed_in_at"]), ago(u["created_at"])) for u in found],
        f"project {project} has no user; relay user add --project {project} NAME makes one"))


@user.command("password")
@click.argument("name")
@project_option
@_password
@click.pass_obj
def password(run: Run, name: str, project: str, stdin: bool) -> None:
    """Give NAME another password and print it. Their sessions end."""
    run.show(run.act("user_password", name=name, password=_read(stdin), project=project), _made)


@user.command("remove")
@click.argument("name")
@project_option
@click.pass_obj
def remove(run: Run, name: str, project: str) -> None:
    """Let NAME sign in no more. Their sessions end."""
    run.show(run.act("user_remove", name=name, project=project), lambda gone: f"{gone['name']} is removed")


def _read(stdin: bool) -> str:
    if not stdin:
        return ""
    text = sys.stdin.readline(2_000).rstrip("\r\n")
    if not text:
        raise click.UsageError(f"{PASSWORD}: standard input is empty")
    return text


def _made(made: dict[str, Any]) -> str:
    return made.get("password") or f"{made['name']} has the password that you gave"
