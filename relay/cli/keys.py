"""relay project and relay key."""

from __future__ import annotations

from typing import Any

import click

from relay.cli.main import Run, project_option, relay
from relay.cli.show import ago, table


@relay.group()
def project() -> None:
    """Projects: the tenants of this relay."""


@project.command("create")
@click.argument("name")
@click.pass_obj
def create_project(run: Run, name: str) -> None:
    """Make a project."""
    run.show(run.act("project_create", name=name), lambda made: f"project {name} is there; relay key create --project {name} makes its first key")


@project.command("list")
@click.pass_obj
def list_projects(run: Run) -> None:
    """Show all projects."""
    run.show(run.act("project_list"), lambda found: table(("NAME", "ID", "MADE"), [(p["name"], p["id"], ago(p["created_at"])) for p in found]))


@relay.group()
def key() -> None:
    """API keys, which are SMTP passwords too."""


@key.command("create")
@project_option
@click.option("--permission", type=click.Choice(["full_access", "sending_access"]), default="full_access", show_default=True, help="What it may do.")
@click.option("--mode", type=click.Choice(["live", "test"]), default="live", show_default=True, help="A test key sends nothing.")
@click.option("--domain", default="", metavar="D", help="The only domain it may send from.")
@click.option("--name", default="", help="What lists call it.")
@click.pass_obj
def create(run: Run, **arguments: Any) -> None:
    """Make a key and print it. It is shown this once."""
    run.show(run.act("key_create", **arguments), lambda made: made["key"])


@key.command("list")
@project_option
@click.pass_obj
def list_keys(run: Run, project: str) -> None:
    """Show the project's keys, never their text."""
    head = ("ID", "NAME", "BEGINS", "PERMISSION", "MODE", "DOMAIN", "USED", "MADE")
    run.show(run.act("key_list", project=project), lambda found: table(
        head, [(k["id"], k["name"], k["prefix"], k["permission"], k["mode"], k["domain"], ago(k["last_used_at"]), ago(k["created_at"])) for k in found],
        f"project {project} has no key; relay key create --project {project} makes one"))


@key.command("revoke")
@click.argument("name")
@project_option
@click.pass_obj
def revoke(run: Run, name: str, project: str) -> None:
    """Make a key useless, at once and for good. NAME is its id, its name, its first letters or the key itself."""
    run.show(run.act("key_revoke", key=name, project=project), lambda gone: f"{gone['id']} ({gone['prefix']}...) is revoked")


@key.command("rotate")
@click.argument("name")
@project_option
@click.pass_obj
def rotate(run: Run, name: str, project: str) -> None:
    """Replace a key by a new one with the same rights and print it. The old one is dead at once."""
    run.show(run.act("key_rotate", key=name, project=project), lambda made: made["key"])


@key.command("restrict")
@click.argument("name")
@project_option
@click.option("--permission", type=click.Choice(["sending_access"]), default=None, help="What it may still do.")
@click.option("--domain", default="", metavar="D", help="The only domain it may still send from.")
@click.pass_obj
def restrict(run: Run, name: str, project: str, permission: str | None, domain: str) -> None:
    """Take rights from a key, at once: its open sessions must authenticate again."""
    told = run.act("key_restrict", key=name, project=project, permission=permission or "", domain=domain)
    run.show(told, lambda left: f"{left['id']} ({left['prefix']}...): {left['permission']}, from {left['domain'] or 'any domain of the project'}")
