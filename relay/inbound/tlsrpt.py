"""A TLS report as it comes (RFC 8460 §4): octets of JSON in, sessions that worked and failed out. What is missing is empty; lists are cut at their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from relay.errors import Invalid

POLICIES = 50  # of one report that are kept
DETAILS = 100  # failures of one policy that are kept
MOST = 10**12  # sessions that are believed
TEXT = 255  # characters of a value

_DETAIL = ("result-type", "sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo", "receiving-ip", "failure-reason-code")


@dataclass(frozen=True, slots=True)
class TlsReport:
    """A report. `begins`, `ends` UTC seconds; `policies` with their summaries and failures, in snake case."""

    report_id: str
    organisation: str
    contact: str
    domain: str
    begins: float | None
    ends: float | None
    policies: list[dict[str, Any]]
    successes: int
    failures: int


def read(text: bytes) -> TlsReport:
    """The report; raises Invalid("report") for what is none."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Invalid("report", "the JSON cannot be read") from None
    policies = [_policy(each) for each in _list(given, "policies")[:POLICIES]]
    domain = next((each["domain"] for each in policies if each["domain"]), "")
    if not domain:
        raise Invalid("report", "the JSON is no TLS report")
    begins, ends = (_time(_dict(given, "date-range").get(name)) for name in ("start-datetime", "end-datetime"))
    return TlsReport(_text(given, "report-id"), _text(given, "organization-name"), _text(given, "contact-info"), domain, begins, ends, policies,
                     sum(each["successful"] for each in policies), sum(each["failed"] for each in policies))


def _policy(given: Any) -> dict[str, Any]:
    policy, summary = _dict(given, "policy"), _dict(given, "summary")
    return {
        "type": _text(policy, "policy-type"), "domain": _text(policy, "policy-domain").lower().rstrip("."),
        "mx_hosts": [str(each)[:TEXT] for each in _list(policy, "mx-host")[:20]],
        "successful": _number(summary.get("total-successful-session-count")), "failed": _number(summary.get("total-failure-session-count")),
        "failures": [_detail(each) for each in _list(given, "failure-details")[:DETAILS]],
    }


def _detail(given: Any) -> dict[str, Any]:
    told = {name.replace("-", "_"): text for name in _DETAIL if (text := _text(given, name))}
    return {**told, "sessions": _number(_dict({"": given}, "").get("failed-session-count"))}


def _dict(given: Any, name: str) -> dict[str, Any]:
    found = given.get(name) if isinstance(given, dict) else None
    return found if isinstance(found, dict) else {}


def _list(given: Any, name: str) -> list[Any]:
    """The list of this name; RFC 8460 wants mx-host as text, and reporters write lists."""
    found = given.get(name) if isinstance(given, dict) else None
    return found if isinstance(found, list) else [found] if isinstance(found, str) else []


def _text(given: Any, name: str) -> str:
    found = given.get(name) if isinstance(given, dict) else None
    return " ".join(found[:TEXT * 2].split())[:TEXT] if isinstance(found, str) else ""


def _number(given: Any) -> int:
    return min(max(given, 0), MOST) if isinstance(given, int) else 0


def _time(given: Any) -> float | None:
    try:
        found = datetime.fromisoformat(given) if isinstance(given, str) else None
        return None if found is None else found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
