"""Acts on bounces: what a file says, by the same readers and rules as mail that comes in; and reading the past again after a rule has changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from relay import bounces, consent
from relay.bounces import HARD, TELLING, Classification, Rules
from relay.consent import Act, Terms
from relay.control import Control
from relay.errors import Invalid
from relay.mail import arf, dsn
from relay.mail.reply import Reply, parse
from relay.store import projects, recipients, suppressions
from relay.store.recipients import Bounced
from relay.store.suppressions import Filter, Suppression

LINES = 10_000  # lines of a file that are looked at
OCTETS = 1_048_576  # of a file; a report is small
PAGE = 200  # entries or bounces read again in one transaction
ENTRIES, MAIL = "entries", "mail"  # what a replay goes through, in this order: what was suppressed, then what was not
SOURCE = "replay"

_REPLY = re.compile(r"([245]\d\d)[ -]+(.*)")
_INSIDE = re.compile(r"(?:said: |; |\s)([45]\d\d)[ -]([45]\.\d{1,3}\.\d{1,3} .*)")


def classify(octets: bytes, own: str = "") -> list[dict[str, Any]]:
    """One {address, class, rule, reply, action, mx, retry, wait, suppresses} for each recipient of a report, or each reply of a list of them.

    own  a file of rules asked before the shipped ones ([suppress] rules)
    """
    rules, content = bounces.read(own), octets[:OCTETS].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    complaint = arf.read(content)
    if complaint is not None:
        found = {**_nothing(), "class": "complaint", "rule": complaint.kind, "action": "complained"}
        return [{**found, "address": address} for address in complaint.named or ("",)]
    report = dsn.read(content)
    if report.kind == dsn.AUTO_REPLY:
        return [{**_nothing(), "class": "auto-reply", "rule": "auto-reply"}]
    if report.told:
        return [_told(rules, each) for each in report.told]
    return [_found(rules.classify(reply), reply) for reply in _lines(octets[:OCTETS].decode("utf-8", "replace"))]


def _told(rules: Rules, told: dsn.Told) -> dict[str, Any]:
    meant = rules.classify(told.reply, told.mx, "report")
    return {**_found(meant.doubted if told.guess else meant, told.reply), "address": told.original or told.final, "action": told.action, "mx": told.mx}


def _found(meant: Classification, reply: Reply) -> dict[str, Any]:
    return {**_nothing(), "class": meant.category, "rule": meant.rule, "reply": str(reply), "retry": meant.retry, "wait": meant.wait,
            "suppresses": meant.suppresses and reply.permanent}


def _nothing() -> dict[str, Any]:
    return {"address": "", "class": "", "rule": "", "reply": "", "action": "", "mx": "", "retry": "", "wait": None, "suppresses": False}


def _lines(text: str) -> Iterator[Reply]:
    """Replies that stand at the beginning of a line or after "said:" and the like in a log line; continuation lines are joined."""
    joined: list[str] = []
    for line in text.splitlines()[:LINES]:
        found = _REPLY.match(line.strip()) or _INSIDE.search(line)
        if found is None:
            continue
        joined.append(found[2])
        if not line.strip().startswith(f"{found[1]}-"):
            yield parse(int(found[1]), "\n".join(joined))
            joined = []


async def replay(control: Control, project: str = projects.DEFAULT, since: float = 0.0, dry_run: bool = False, after: str = "") -> dict[str, Any]:
    """One page of a project's bounces read again by the rules as they are in their files now.

    Addresses that were suppressed and would not be are given back; addresses that were not and would be are suppressed, unless mail to them was delivered
    since. Gives {looked, lifted: [{address, rule, was}], suppressed: [...], next}; `next` is the `after` of the following page, None at the end.

    since    UTC seconds of the oldest bounce
    dry_run  say what would change and change nothing
    """
    owner = await control.store.read(projects.by_name, project)
    rules, act = bounces.read(control.settings.suppress.rules), Act(SOURCE, at=control.clock.now())
    stage, _, number = (after or f"{ENTRIES}.0").partition(".")
    if stage not in (ENTRIES, MAIL) or not number.isdigit():
        raise Invalid("after", "after is what the page before gave as next")
    if stage == ENTRIES:
        page = await control.store.write(_entries, owner.id, int(number), since, rules, act, dry_run, lane="jobs")
    else:
        terms = Terms.of(control.settings.suppress)
        page, stopped = await control.store.write(_mail, owner.id, int(number), since, rules, terms, act, dry_run, lane="jobs")
        if control.runner is not None:
            control.runner.forget(stopped)
    control.changed("suppressions")
    return page


def _entries(conn: Any, project: int, after: int, since: float, rules: Rules, act: Act, dry: bool) -> dict[str, Any]:
    found = suppressions.page(conn, project, Filter(consent.BOUNCED, since=since, after=after), PAGE)
    wrong = [(entry, meant) for entry in found if (meant := _meant(rules, entry)) is not None and not meant.suppresses]
    for entry, _ in () if dry else wrong:
        consent.lift(conn, entry, act)
    lifted = [{"address": entry.address, "was": entry.evidence["rule"], "class": meant.category, "rule": meant.rule} for entry, meant in wrong]
    return {"looked": len(found), "lifted": lifted, "suppressed": [], "next": f"{ENTRIES}.{found[-1].id}" if len(found) == PAGE else f"{MAIL}.0"}


def _meant(rules: Rules, entry: Suppression) -> Classification | None:
    """What the reply behind an entry means now, None where no rule had a part in it."""
    said = _REPLY.match(str(entry.evidence.get("reply", "")))
    if said is None or not entry.evidence.get("rule"):
        return None
    return rules.classify(parse(int(said[1]), said[2]), str(entry.evidence.get("mx", "")), str(entry.evidence.get("phase", "")))


def _mail(conn: Any, project: int, after: int, since: float, rules: Rules, terms: Terms, act: Act, dry: bool) -> tuple[dict[str, Any], Sequence[int]]:
    found = recipients.bounced(conn, project, after, since, PAGE)
    suppressed, stopped = [], []
    for each in found:
        meant = rules.classify(each.reply, each.mx, each.phase)
        if not (meant.suppresses and each.phase in TELLING and each.alone) or _settled(conn, project, each):
            continue
        suppressed.append({"address": each.address, "class": HARD, "rule": meant.rule, "was": ""})
        if not dry:
            more = {"rule": meant.rule, "reply": str(each.reply)[:bounces.READ], "mx": each.mx, "phase": each.phase}
            done = consent.bounced(conn, recipients.get(conn, each.id), Act(act.source, at=act.at, more=more), terms, conn.info["ids"])
            stopped += done.stopped
    following = f"{MAIL}.{found[-1].id}" if len(found) == PAGE else None
    return {"looked": len(found), "lifted": [], "suppressed": suppressed, "next": following}, stopped


def _settled(conn: Any, project: int, each: Bounced) -> bool:
    """Whether nothing is left to do for this bounce: the address is suppressed, or mail to it was delivered since."""
    if any(entry.scope == suppressions.ALL for entry in suppressions.of(conn, project, each.key)):
        return True
    return any(state in consent.TAKEN for _, state, *_ in recipients.ends(conn, project, each.key, each.at))
