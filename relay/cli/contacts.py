"""relay contacts, relay export, relay import: lists of people in and out, and a whole project's audience as a directory of files."""

from __future__ import annotations

import csv
import json
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from relay.audience import uploads
from relay.cli.main import Run, project_option, relay
from relay.cli.session import session

if TYPE_CHECKING:
    from relay.audience.exports import Export

NEWS = 1.0  # seconds between looks at a running import
TELL = {"segments": ("aud_", "seg_", "top_"), "members": ("seg_",), "history": ("top_",), "suppressions": ("top_",)}  # lists that tell ids of others
SHOWN = 20  # refused rows that are told
FORMAT = click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)


@relay.group()
def contacts() -> None:
    """The people that a project writes to."""


@contacts.command("import")
@click.argument("file", type=click.File("rb"))
@project_option
@click.option("--audience", default="", metavar="ID", help="Put everybody into this audience.")
@click.option("--segment", default="", metavar="ID", help="Put everybody into this segment.")
@click.option("--tag", "tags", multiple=True, help="Give everybody this tag; may be repeated.")
@click.option("--mapping", "mapping", multiple=True, metavar="COLUMN=FIELD", callback=lambda _context, _option, given: dict(map(_meant, given)),
              help='What a column means: "Wer=email", "Stufe=properties.plan", "Notes=" to leave it out; may be repeated.')
@click.option("--skip-existing", is_flag=True, help="Leave contacts that are there as they are.")
@click.option("--events", is_flag=True, help="Tell webhooks and workflows of each contact.")
@click.option("--preview", is_flag=True, help="Only say what would happen.")
@click.pass_context
def take_in(context: click.Context, file: IO[bytes], project: str, skip_existing: bool, events: bool, **wanted: Any) -> None:
    """Import the people of FILE: CSV, a ZIP of CSV files, or JSON; "-" = standard input.

    Nobody is subscribed again and nobody suppressed is taken. When this command is interrupted the relay goes on. `relay contacts undo ID` takes an import
    back. Exit status 1 when rows were refused.
    """
    run: Run = context.obj
    with session(run) as act:
        told, rows = _begun(run, act, file, name=_name(file), project=project, update=not skip_existing, tell=events,
                            **{**wanted, "tags": list(wanted["tags"])})
        if wanted["preview"]:
            run.show(told, _previewed)
            return
        told = _followed(act, told, project, rows)
        told["refused"] = act("contacts_import_errors", number=told["id"], project=project, limit=SHOWN) if told["errors"] else []
    run.show(told, _imported)
    context.exit(1 if told["status"] != "completed" or told["errors"] else 0)


def _meant(given: str) -> tuple[str, str]:
    """A column's name, which may have a "=", and what it means."""
    column, sign, field = given.rpartition("=")
    if not sign or not column:
        raise click.BadParameter(f'{given!r} is not COLUMN=FIELD, such as "Wer=email"')
    return column.strip(), field.strip()


def _name(file: IO[bytes]) -> str:
    return os.path.basename(file.name) if isinstance(file.name, str) and file.name != "<stdin>" else "contacts.csv"


def _begun(run: Run, act: Callable[..., Any], file: IO[bytes], **wanted: Any) -> tuple[dict[str, Any], int]:
    """The import of a copy of the file in the relay's directory, owned as that is, and how many lines it has; who imports deletes the copy."""
    directory = run.settings.data_dir / "imports"
    directory.mkdir(mode=0o700, exist_ok=True)
    copy = directory / secrets.token_hex(16)
    try:
        lines = uploads.copied(file, copy)
        if os.geteuid() == 0:
            owner = run.settings.data_dir.stat()
            for path in (directory, copy):
                os.chown(path, owner.st_uid, owner.st_gid)
        told = act("contacts_import", file=copy.name, **wanted)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    if wanted.get("preview"):
        copy.unlink(missing_ok=True)
    return told, lines


def _followed(act: Callable[..., Any], told: dict[str, Any], project: str, rows: int) -> dict[str, Any]:
    """The import when it is over, with a progress bar on a terminal."""
    with click.progressbar(length=max(rows, 1), label="importing", file=sys.stderr, show_pos=True) as bar:
        while told["status"] == "running":
            told = act("contacts_import_show", number=told["id"], project=project, wait=NEWS)
            bar.update(min(told["total"], bar.length) - bar.pos)
        bar.update(bar.length - bar.pos)
    return told


def _imported(told: dict[str, Any]) -> str:
    for each in told["refused"]:
        click.echo(f"row {each['row']}: {each['email']}: {each['error']}", err=True)
    if told["errors"] > len(told["refused"]):
        click.echo(f"... and {told['errors'] - len(told['refused'])} more: GET /contacts/imports/{told['id']}/errors has them all", err=True)
    if told["status"] != "completed":
        click.echo(f"relay: the import {told['status']}: {told['reason']}", err=True)
    lines = [f"{told['imported']} imported, {told['updated']} updated, {told['skipped']} skipped "
             f"({told['duplicates']} twice in the file, {told['suppressed']} suppressed), {told['errors']} refused"]
    if told["imported"] or told["updated"]:
        lines.append(f"relay contacts undo {told['id']} takes it back")
    return "\n".join(lines)


def _previewed(told: dict[str, Any]) -> str:
    lines = [f"{told['total']} rows: {told['new']} new, {told['existing']} there already, {told['duplicates']} twice in the file, "
             f"{told['suppressed']} suppressed, {told['invalid']} invalid, {told['no_mx']} whose domain has no mail"]
    lines += [f"  {name!r} is {meaning or 'left out'}" for name, meaning in told["mapping"].items()]
    return "\n".join(lines)


@contacts.command("undo")
@click.argument("number", metavar="ID")
@project_option
@click.pass_obj
def undo(run: Run, number: str, project: str) -> None:
    """Take the import ID back: what it made, changed, suppressed, and put where."""
    run.show(run.act("contacts_import_undo", number=number, project=project),
             lambda gone: f"{gone['deleted']} contacts deleted, {gone['restored']} as they were")


# Exports.


@contacts.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@project_option
@click.option("--audience", default="", metavar="ID", help="Only members of this audience.")
@click.option("--segment", default="", metavar="ID", help="Only members of this segment.")
@FORMAT
@click.pass_obj
def bring_out(run: Run, file: str, project: str, audience: str, segment: str, form: str) -> None:
    """Write all contacts to FILE, default standard output; formulas that a spreadsheet would run are defused."""
    rows = _exported(run, project, [("contacts", file)], form, audience, segment)
    if file != "-":
        run.show({"file": file, "rows": rows["contacts"]}, lambda told: f"{told['rows']} contacts in {told['file']}")


@relay.command("export")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@project_option
@FORMAT
@click.pass_obj
def export(run: Run, directory: Path, project: str, form: str) -> None:
    """Write everything that a project has of its audience into DIRECTORY, a file for each list; `relay import` reads it again."""
    from relay.audience.exports import KINDS

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = _exported(run, project, [(kind, str(directory / f"{kind}.{form}")) for kind in KINDS], form)
    run.show({"directory": str(directory), "rows": rows}, lambda told: "\n".join(f"{count:9} {kind}" for kind, count in told["rows"].items()))


def _exported(run: Run, project: str, wanted: list[tuple[str, str]], form: str, audience: str = "", segment: str = "") -> dict[str, int]:
    """Rows by kind, written to their files by this process, which reads the store beside the relay."""
    import asyncio

    return asyncio.run(_export(run, project, wanted, form, audience, segment))


async def _export(run: Run, project: str, wanted: list[tuple[str, str]], form: str, audience: str, segment: str) -> dict[str, int]:
    import time

    from relay.audience.exporter import every
    from relay.audience.exports import Export
    from relay.errors import Invalid
    from relay.mail import ids
    from relay.store import projects
    from relay.store.engine import Store

    numbers = {"audience": ids.internal(audience, "aud"), "segment": ids.internal(segment, "seg")}
    for name, text in (("audience", audience), ("segment", segment)):
        if text and numbers[name] is None:
            raise Invalid(name, f"{text} is no id of a {name}")
    settings = run.settings
    opened = await Store.open(settings.store.url, settings.data_dir, read_only=True, accept_old_sqlite=True)
    try:
        owner = await opened.read(projects.by_name, project)
        found = {}
        for kind, path in wanted:
            told = Export(owner.id, kind, form, numbers["segment"], numbers["audience"], time.time())
            found[kind] = await _written(every(opened, told), path, told)
        return found
    finally:
        await opened.close()


async def _written(octets: AsyncIterator[bytes], path: str, told: Export) -> int:
    """Rows in the file, which stands there when it is whole."""
    if path == "-":
        return await _poured(octets, sys.stdout.buffer, told, "")
    beside = f"{path}.part"
    try:
        with open(beside, "wb") as file:  # noqa: ASYNC230  nothing else runs in this process
            rows = await _poured(octets, file, told, told.kind)
        shutil.move(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    return rows


async def _poured(octets: AsyncIterator[bytes], file: IO[bytes], told: Export, label: str) -> int:
    """Rows; a growing number on a terminal."""
    rows, shows = 0, bool(label) and sys.stderr.isatty()
    async for piece in octets:
        file.write(piece)
        rows += piece.count(b"\r\n" if told.form == "csv" else b"\n{")
        if shows:
            click.echo(f"\r{rows:9} {label}", err=True, nl=False)
    if shows:
        click.echo("\r" + " " * (len(label) + 10) + "\r", err=True, nl=False)
    file.flush()
    return max(0, rows - (told.form == "csv"))


@relay.command("import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@project_option
@click.pass_context
def take_all(context: click.Context, directory: Path, project: str) -> None:
    """Read what `relay export` wrote into DIRECTORY into a project, best an empty one: topics, contacts, properties, audiences, segments, consent.

    Exit status 1 when contacts were refused; everything else is taken then, too.
    """
    from relay.audience.restore import ORDER
    from relay.errors import Invalid

    run: Run = context.obj
    told: dict[str, Any] = {}
    known: dict[str, str] = {}
    refused = ""
    with session(run) as act:
        for kind in ORDER:
            path = next((each for each in (directory / f"{kind}.csv", directory / f"{kind}.json") if each.exists()), None)
            if path is None:
                continue
            if kind == "contacts":
                told[kind], refused = _people(run, act, path, project)
            else:
                told[kind] = _rows(act, kind, path, project, known)
    run.show(told, lambda counts: "\n".join(f"{count:9} {kind}" for kind, count in counts.items()))
    if refused:
        raise Invalid("contacts", refused)


def _people(run: Run, act: Callable[..., Any], path: Path, project: str) -> tuple[int, str]:
    """How many contacts came in, and what to say of those that did not; raises Invalid when the import failed."""
    from relay.errors import Invalid

    with path.open("rb") as file:
        told, rows = _begun(run, act, file, name=path.name, project=project, look=False)
    told = _followed(act, told, project, rows)
    if told["status"] != "completed":
        raise Invalid("contacts", f"the import of the contacts {told['status']}: {told['reason']}")
    refused = f"{told['errors']} contacts were refused: GET /contacts/imports/{told['id']}/errors says why" if told["errors"] else ""
    return told["imported"] + told["updated"], refused


def _rows(act: Callable[..., Any], kind: str, path: Path, project: str, known: dict[str, str]) -> int:
    from relay.audience.restore import ROWS

    count, rows = 0, _read(path)
    while some := list(islice(rows, ROWS)):
        names = TELL.get(kind, ())
        told = {old: new for old, new in known.items() if old.startswith(names)} if names else {}
        known.update(act("contacts_rows", kind=kind, rows=some, known=told, project=project))
        count += len(some)
    return count


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of an exported list."""
    from relay.audience.cells import armed

    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            for row in csv.DictReader(file):
                yield {name: armed(cell or "") for name, cell in row.items() if name}
            return
        for line in file:
            if line.startswith("{"):
                yield json.loads(line.rstrip().rstrip(","))
