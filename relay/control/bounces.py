"""What a file says about bounces: replies one a line, or a delivery report (RFC 3464) with its diagnostic codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

from relay import bounces
from relay.mail.reply import Reply, parse

LINES = 10_000  # lines looked at
OCTETS = 1_048_576  # of a file; a report is small

_REPLY = re.compile(r"([45]\d\d)[ -]+(.*)")
_HOST = re.compile(r"[^;]*;\s*(\S+)")


def classify(octets: bytes) -> list[dict[str, Any]]:
    """One {recipient, reply, category, rule, retry, suppresses} for each reply in the file."""
    rules = bounces.read()
    return [_found(rules, *each) for each in _replies(octets[:OCTETS])]


def _found(rules: bounces.Rules, recipient: str, reply: Reply, mx: str) -> dict[str, Any]:
    meant = rules.classify(reply, mx)
    return {"recipient": recipient, "reply": str(reply), "category": meant.category, "rule": meant.rule, "retry": meant.retry,
            "wait": meant.wait, "suppresses": meant.suppresses and reply.permanent}


def _replies(octets: bytes) -> Iterator[tuple[str, Reply, str]]:
    """(recipient, reply, the host that said it)."""
    message = message_from_bytes(octets, policy=policy.compat32)
    reports = [part for part in message.walk() if part.get_content_type() == "message/delivery-status"]
    if not reports:
        yield from (("", reply, "") for reply in _lines(octets.decode("utf-8", "replace")))
    for report in reports:
        for block in report.get_payload() if isinstance(report.get_payload(), list) else []:
            if (reply := _diagnosis(block)) is not None:
                host = _HOST.match(str(block.get("Remote-MTA", "")))
                yield _address(block), reply, host[1] if host else ""


def _lines(text: str) -> Iterator[Reply]:
    """Replies that stand at the beginning of a line or after "said:" and the like in a log line; continuation lines are joined."""
    joined: list[str] = []
    for line in text.splitlines()[:LINES]:
        found = _REPLY.match(line.strip()) or re.search(r"(?:said: |; |\s)([45]\d\d)[ -]([45]\.\d{1,3}\.\d{1,3} .*)", line)
        if found is None:
            continue
        joined.append(found[2])
        if not line.strip().startswith(f"{found[1]}-"):
            yield parse(int(found[1]), "\n".join(joined))
            joined = []


def _diagnosis(block: Any) -> Reply | None:
    """The reply in a recipient's block: its Diagnostic-Code, else a code made of its Status (RFC 3464 §2.3.4, §2.3.6)."""
    said = " ".join(str(block.get("Diagnostic-Code", "")).partition(";")[2].split())
    status = str(block.get("Status", "")).strip().split(" ")[0]
    if found := _REPLY.match(said):
        reply = parse(int(found[1]), found[2])
        return reply if reply.enhanced or not status else Reply(reply.code, status, reply.text)
    if re.fullmatch(r"[45]\.\d{1,3}\.\d{1,3}", status):
        return Reply(550 if status[0] == "5" else 450, status, said)
    return None


def _address(block: Any) -> str:
    return str(block.get("Original-Recipient") or block.get("Final-Recipient") or "").partition(";")[2].strip()
