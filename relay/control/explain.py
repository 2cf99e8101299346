"""The act `explain`: where a message is, how it came there, and what it waits for. One answer to "where is my mail" that holds everything known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from relay import bounces
from relay.bounces import Rules
from relay.clock import iso
from relay.control import Control
from relay.errors import Invalid, NotFound
from relay.mail import address as mail_address
from relay.mail import ids
from relay.store import messages, projects, suppression_rules, suppressions
from relay.store.attempts import Attempt
from relay.store.messages import Timeline
from relay.store.suppressions import said

SHOWN = 20  # messages in one answer, newest first; an address may have thousands


async def explain(control: Control, what: str, project: str = "", limit: int = SHOWN) -> dict[str, Any]:
    """{messages: [...], suppressions: [...]} for an em_ id, a Message-ID or a recipient's address; raises NotFound when nothing is known of it."""
    owner = (await control.store.read(projects.by_name, project)).id if project else None
    text, limit = _normal(what), max(1, min(limit, SHOWN))
    found = await control.store.read(messages.find, what, owner, limit) or await control.store.read(messages.find, text, owner, limit)
    stopped = await _suppressions(control, text, owner)
    if not found and not stopped:
        raise NotFound(f"nothing is known of {what}; messages are kept for {control.settings.retention.messages / 86_400:.0f} days after they ended")
    names, rules = {p.id: p.name for p in await control.store.read(projects.every)}, control.rules or bounces.read(control.settings.suppress.rules)
    told = [await control.store.read(messages.timeline, number, owner) for number in found]
    return {"messages": [message(control, each, names, rules) for each in told], "suppressions": stopped}


def _normal(what: str) -> str:
    """An address in normal form; what is none as it is."""
    try:
        return what if ids.internal(what, "em") is not None or "<" in what else mail_address.key(what)
    except Invalid:
        return what


async def _suppressions(control: Control, text: str, owner: int | None) -> list[dict[str, Any]]:
    if "@" not in text:
        return []
    which = [p for p in await control.store.read(projects.every) if owner is None or p.id == owner]
    found = []
    for project in which[:100]:
        for entry in await control.store.read(suppressions.of, project.id, text):
            found.append({"project": project.name, "address": entry.address, "reason": entry.reason, "scope": entry.scope, "evidence": said(entry.evidence),
                          "created_at": iso(entry.created_at), "expires_at": iso(entry.expires_at)})
        if rule := suppression_rules.first(await control.store.read(suppression_rules.of, project.id), text):
            found.append({"project": project.name, "address": text, "reason": "rule", "scope": "all", "evidence": {"rule": rule.name, "id": rule.public_id},
                          "created_at": iso(rule.created_at), "expires_at": None})
    return found


def message(control: Control, told: Timeline, names: dict[int, str], rules: Rules) -> dict[str, Any]:
    """A message's timeline as JSON; `rules` say what refusals mean, as they are read now."""
    row = told.message
    tries: dict[int, list[Attempt]] = {}
    for recipient, attempt in told.attempts:
        tries.setdefault(recipient, []).append(attempt)
    return {
        "id": ids.public("em", row.id), "status": told.status, "project": names.get(row.project_id, ""), "from": row.header_from, "reverse_path": row.sender,
        "subject": row.subject, "message_id": row.message_id, "size": row.size, "protocol": row.protocol, "stream": row.stream, "topic": row.topic or None,
        "tags": list(row.tags), "key_id": ids.public("key", row.key_id) if row.key_id else None, "origin": row.origin, "facts": row.facts,
        "accepted_at": iso(row.created_at), "send_at": iso(row.send_at),
        "decisions": [{"policy": policy, "action": action, "detail": detail} for policy, action, detail in row.trace],
        "recipients": [_recipient(control, each, told.waiting.get(each.id), tries.get(each.id, []), rules) for each in told.recipients],
        "events": [{"type": event.type, "at": iso(event.at), "to": event.data.get("to"), "data": event.data} for event in told.events],
    }


def _recipient(control: Control, row: Any, waiting: Any, tries: list[Attempt], rules: Rules) -> dict[str, Any]:
    return {
        "id": ids.public("rcp", row.id), "to": row.address, "domain": row.domain, "state": "held" if waiting is not None and waiting.held else row.state,
        "reply": _words(row.code, row.enhanced, row.text) if row.code else None, "ended_at": iso(row.ended_at),
        "attempts": [_attempt(each, rules) for each in tries],
        "next_attempt_at": iso(waiting.due) if waiting is not None and not waiting.held else None,
        **_limit(control, waiting),
    }


def _attempt(attempt: Attempt, rules: Rules) -> dict[str, Any]:
    found = {name: value for name, value in asdict(attempt).items() if name in ("site", "mx", "address", "source", "tls", "phase", "result", "seconds")}
    found["decisions"] = [{"policy": policy, "action": action, "detail": detail} for policy, action, detail in attempt.steps]
    return {"at": iso(attempt.at), **found, **_meaning(attempt, rules), "reply": _words(attempt.reply.code, attempt.reply.enhanced, attempt.reply.text)}


def _meaning(attempt: Attempt, rules: Rules) -> dict[str, str | None]:
    """The class of a refusal, and the rule that said so."""
    if attempt.result == "delivered":
        return {"class": None, "rule": None}
    meant = rules.classify(attempt.reply, attempt.mx, attempt.phase)
    meant = meant.doubted if attempt.phase == bounces.GUESSED else meant
    return {"class": meant.category, "rule": meant.rule or None}


def _words(code: int, enhanced: str | None, text: str | None) -> str:
    return " ".join(str(part) for part in (code, enhanced, text) if part)


def _limit(control: Control, waiting: Any) -> dict[str, str | None]:
    """What keeps a waiting recipient from being tried now, in words, and until when that is known to last."""
    why, until = "", None
    if waiting is None:
        pass
    elif waiting.held:
        why = "held; relay queue release lets it go"
    elif control.runner is not None:
        why, until = control.runner.limit(waiting.recipient_id, waiting.domain, waiting.due)
    elif control.settings.store.url.startswith("sqlite"):
        why = "no relay runs on this data_dir"
    return {"limited_by": why or None, "limited_until": iso(until)}
