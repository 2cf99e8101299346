"""relay domain: sending domains, and their DNS records ready for a web form or a zone file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from relay.cli.main import Run, project_option, relay
from relay.cli.show import ago, table

STRING = 255  # octets of one character-string in a TXT record (RFC 1035 §3.3)
SPF = {"spf": "merge with an SPF record that is there already: a name has one only"}


@relay.group()
def domain() -> None:
    """Sending domains and their DKIM keys."""


@domain.command("add")
@click.argument("name")
@project_option
@click.option("--return-path", default=None, metavar="HOST", help="Where bounces come back to; default bounces.NAME, empty = none.")
@click.option("--tracking-domain", default="", metavar="HOST", help="The host that tracked links are on.")
@click.pass_obj
def add(run: Run, name: str, **arguments: Any) -> None:
    """Add a domain, make its DKIM keys and print its DNS records."""
    run.show(run.act("domain_add", name=name, **arguments), publish)


@domain.command("list")
@project_option
@click.pass_obj
def list_domains(run: Run, project: str) -> None:
    """Show the project's domains; with --json their records too."""
    run.show(run.act("domain_list", project=project), lambda found: table(
        ("NAME", "STATUS", "RECORDS SEEN", "LOOKED AT"), [(d["name"], d["status"], _seen(d), ago(d["checked_at"])) for d in found],
        f"project {project} has no domain; relay domain add NAME adds one"))


def _seen(domain: Mapping[str, Any]) -> str:
    return f"{sum(r['verified'] for r in domain['dns_records'])} of {len(domain['dns_records'])}"


@domain.command("verify")
@click.argument("name")
@project_option
@click.pass_context
def verify(context: click.Context, name: str, project: str) -> None:
    """Look at DNS now and say which records are there. Exit status 1 when the domain is not verified."""
    found = context.obj.act("domain_verify", name=name, project=project)
    context.obj.show(found, _verdict)
    context.exit(0 if found["status"] == "verified" else 1)


def _verdict(domain: Mapping[str, Any]) -> str:
    rows = [("yes" if r["verified"] else "no", r["purpose"], r["type"], r["name"]) for r in domain["dns_records"]]
    lines = [f"{domain['name']} is {domain['status']}", "", table(("SEEN", "PURPOSE", "TYPE", "NAME"), rows)]
    if domain["status"] != "verified":
        lines += ["", f"DNS does not show the DKIM record yet; relay domain dkim {domain['name']} prints it"]
    return "\n".join(lines)


@domain.command("dkim")
@click.argument("name")
@project_option
@click.option("--rotate", "act", flag_value="domain_rotate", help="Make new keys beside those that sign.")
@click.option("--activate", "act", flag_value="domain_activate", help="Sign with the new keys, once DNS shows them.")
@click.option("--cancel", "act", flag_value="domain_cancel", help="Forget the new keys.")
@click.pass_obj
def dkim(run: Run, name: str, project: str, act: str | None) -> None:
    """Print the domain's records for a web form and for BIND, or rotate its DKIM keys."""
    run.show(run.act(act or "domain_show", name=name, project=project), publish)


@domain.command("set")
@click.argument("name")
@project_option
@click.option("--opens/--no-opens", "open_tracking", default=None, help="Track opens.")
@click.option("--clicks/--no-clicks", "click_tracking", default=None, help="Track clicks.")
@click.option("--tracking-domain", default=None, metavar="HOST", help="The host that tracked links are on.")
@click.option("--return-path", default=None, metavar="HOST", help="Where bounces come back to.")
@click.option("--inbound/--no-inbound", "inbound_enabled", default=None, help="Take mail to the domain.")
@click.option("--catch-all/--no-catch-all", "catch_all", default=None, help="Take mail to any name at the domain (the default), or to those of --mailbox.")
@click.option("--mailbox", "inbound_addresses", multiple=True, metavar="NAME", help="A name that takes mail with --no-catch-all; several may be given.")
@click.pass_obj
def configure(run: Run, name: str, project: str, **settings: Any) -> None:
    """Change a domain's tracking, its hosts, or what mail to it is taken."""
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items() if value is not None and value != ()}
    run.show(run.act("domain_set", name=name, project=project, **given), publish)


@domain.command("remove")
@click.argument("name")
@project_option
@click.pass_obj
def remove(run: Run, name: str, project: str) -> None:
    """Forget a domain and its keys; mail from it is refused from now on."""
    run.show(run.act("domain_remove", name=name, project=project), lambda gone: f"{gone['name']} is gone")


def publish(domain: Mapping[str, Any]) -> str:
    """The records twice: as a web form wants them, one value in one piece, and as a zone file does."""
    lines = [f"{domain['name']} is {domain['status']}. Publish these records, then: relay domain verify {domain['name']}", "", "For a web form:"]
    for record in domain["dns_records"]:
        note = f"   ({SPF[record['purpose']]})" if record["purpose"] in SPF else ""
        lines += ["", f"  {record['purpose']}: {'seen' if record['verified'] else 'not seen yet'}{note}",
                  f"  Type   {record['type']}", f"  Name   {record['name']}", f"  Value  {record['value']}"]
    return "\n".join([*lines, "", "For BIND:", "", *(zone_line(record) for record in domain["dns_records"])])


def zone_line(record: Mapping[str, str]) -> str:
    """A record as a line of a master file (RFC 1035 §5), long texts split."""
    value = record["value"]
    if record["type"] == "TXT":
        value = " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in pieces(value))
        value = f"( {value} )" if len(record["value"]) > STRING else value
    else:
        value += "."
    return f"{record['name']}. IN {record['type']} {value}"


def pieces(text: str) -> list[str]:
    return [text[at:at + STRING] for at in range(0, len(text), STRING)]
