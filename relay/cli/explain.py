"""relay explain: the timeline of a message, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from relay.cli.main import Run, relay
from relay.cli.show import ago, printable, table, when

ORIGIN = ("name", "client", "helo", "with", "tls")  # what is told of where a message came in


@relay.command()
@click.argument("what", metavar="em_ID|MESSAGE-ID|ADDRESS")
@click.option("--project", default="", metavar="NAME", help="Only this project's.")
@click.option("--limit", type=click.IntRange(1, 20), default=5, show_default=True, help="Messages shown of an address, newest first.")
@click.pass_obj
def explain(run: Run, **arguments: Any) -> None:
    """Say where a message is, what happened to it and what it waits for."""
    run.show(run.act("explain", **arguments), _told)


def _told(found: Mapping[str, Any]) -> str:
    parts = ["\n".join(_message(each)) for each in found["messages"]]
    if found["suppressions"]:
        parts.append("Suppressed:\n" + table(("ADDRESS", "PROJECT", "REASON", "SCOPE", "SINCE", "ENDS", "RULE", "REPLY"), [
            (s["address"], s["project"], s["reason"], s["scope"], ago(s["created_at"]), ago(s["expires_at"]) if s["expires_at"] else "",
             s["evidence"].get("rule", ""), s["evidence"].get("reply", "")) for s in found["suppressions"]]))
    return "\n\n".join(parts)


def _message(told: Mapping[str, Any]) -> Iterator[str]:
    origin = told["origin"]
    yield f"{told['id']}  {told['status']}"
    yield f"  From      {printable(told['from'])}   (reverse-path <{printable(told['reverse_path'])}>)"
    yield f"  Subject   {printable(told['subject'])}"
    yield f"  Accepted  {when(told['accepted_at'])}, {ago(told['accepted_at'])}, {told['size']} bytes, project {told['project']}"
    yield "  By        " + ", ".join([told["protocol"], *(f"{name} {printable(str(origin[name]))}" for name in ORIGIN if name in origin)])
    if told["send_at"]:
        yield f"  Send at   {when(told['send_at'])}, {ago(told['send_at'])}"
    if told["tags"]:
        yield f"  Tags      {', '.join(map(printable, told['tags']))}"
    yield "  Policies" if told["decisions"] else "  Policies  nothing to say"
    for each in told["decisions"]:
        yield f"    {each['policy']} {each['action']}" + (f": {printable(each['detail'])}" if each["detail"] else "")
    for recipient in told["recipients"]:
        yield from _recipient(recipient)


def _recipient(told: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"  To {printable(told['to'])}: {told['state']}" + (f" {when(told['ended_at'])}" if told["ended_at"] else "")
    for attempt in told["attempts"]:
        yield f"    {when(attempt['at'])}  {attempt['result']} at {attempt['phase']} after {attempt['seconds']:.2f}s"
        where = f"{attempt['mx'] or attempt['site']} [{attempt['address']}]" if attempt["address"] else attempt["mx"] or attempt["site"]
        yield f"      {printable(where)}, {printable(attempt['tls']) or 'no TLS'}" + (f", from {attempt['source']}" if attempt["source"] else "")
        yield f"      {printable(attempt['reply'])}"
        if attempt["class"]:
            yield f"      class {attempt['class']}" + (f", by the rule {attempt['rule']}" if attempt["rule"] else "")
        for each in attempt["decisions"]:
            yield f"      {each['policy']} {each['action']}" + (f": {printable(each['detail'])}" if each["detail"] else "")
    if told["reply"] and not told["attempts"]:
        yield f"    {printable(told['reply'])}"
    if told["next_attempt_at"]:
        yield f"    next attempt {when(told['next_attempt_at'])}, {ago(told['next_attempt_at'])}"
    if told["limited_by"]:
        yield f"    {printable(told['limited_by'])}" + (f", until {when(told['limited_until'])}" if told["limited_until"] else "")
