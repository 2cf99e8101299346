"""What a refusal means: one reply in, a category, the rule that said so, and how to retry out.

The rules are rows of config/bounces.toml, first match wins; this file only reads and applies them. The category decides whose fault it is: only `hard`
may ever suppress an address, a `block` is about us and never about the recipient. Used by queue/settle for the retry table and the site's speed, and by
inbound for bounces that come back as mail. Soft bounces wear an address out when nothing else comes of it for days (`Rules.worn`).

RFC 3463 (enhanced status), RFC 5321 §4.2 (codes).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from relay.errors import ConfigError
from relay.mail.reply import Reply
from relay.schedule import FULL, GREYLIST, HOUR, MINUTE, RATE, STANDARD
from relay.shipped import shipped

HARD, SOFT, FULL_BOX, UNSURE = "hard", "soft", "mailbox-full", "unknown"
CATEGORIES = (HARD, SOFT, "block", "policy", "spam-content", FULL_BOX, "rate", "greylist", "auto-reply", UNSURE)
WEARING = (SOFT, FULL_BOX)  # categories that wear an address out when they come again and again
DAYS, WITHIN = 5, 30 * 86_400.0  # soft ends on so many different days (UTC) within so many seconds, without a delivery between, wear it out
TELLING = frozenset({"rcpt", "data", "dot", "report"})  # phases in which a server speaks of the recipient; before, it speaks of us or the sender
GUESSED = "guess"  # phase of what was read out of free text: it may wear an address out, and is never hard
RETRIES = {"greylist": GREYLIST, FULL_BOX: FULL, "rate": RATE, "block": RATE}  # category -> retry table; others are standard
SLOWS = {"rate", "block"}  # categories about us at that site, not about the message: the site is slowed
READ = 1_000  # characters of a reply's text that rules look at; servers say what they mean at the beginning
REMEMBERED = 2_048  # replies whose classification is kept; a site in trouble says the same thing to every message

_ADDRESS = re.compile(r"[^\s<>\"'(),;:@]{1,64}@[^\s<>\"'(),;:]{1,255}")  # whose words are their owner's: spam@example.com, no.such.user@example.net
_UNITS = {"s": 1.0, "m": MINUTE, "h": HOUR}
_FIELDS = {"name", "category", "code", "status", "text", "mx", "phase"}


@dataclass(frozen=True, slots=True)
class Classification:
    """`category` of CATEGORIES, `rule` the name of the row that matched ("" for none), `wait` seconds the peer asked for."""

    category: str
    rule: str = ""
    wait: float | None = None

    @property
    def retry(self) -> str:
        """The retry table of relay.schedule for a temporary failure of this category."""
        return RETRIES.get(self.category, STANDARD)

    @property
    def slows(self) -> bool:
        return self.category in SLOWS

    @property
    def suppresses(self) -> bool:
        """Whether a permanent failure of this category says that the address does not exist."""
        return self.category == HARD


    @property
    def doubted(self) -> Classification:
        """What it means when the reply was guessed out of free text, which is never evidence enough for hard."""
        return Classification(SOFT, "free-form") if self.suppresses else self


UNKNOWN = Classification(UNSURE)


@dataclass(frozen=True, slots=True)
class End:
    """How mail to an address ended: delivered, or with this reply; `at` UTC seconds, `phase` as in `classify`, "report" for one that came by mail."""

    at: float
    delivered: bool
    reply: Reply
    mx: str = ""
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row; what is empty or None matches everything."""

    name: str
    category: str
    code: str
    status: re.Pattern[str] | None
    text: re.Pattern[str] | None
    mx: tuple[str, ...]
    phase: tuple[str, ...]

    def matches(self, code: str, status: str, text: str, mx: str, phase: str) -> bool:
        return (
            code.startswith(self.code)
            and (not self.phase or phase in self.phase)
            and (not self.mx or f".{mx}".endswith(self.mx))
            and (self.status is None or self.status.fullmatch(status) is not None)
            and (self.text is None or self.text.search(text) is not None)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The table, in its order."""

    rows: tuple[Rule, ...]
    waits: tuple[re.Pattern[str], ...] = field(default=())

    def classify(self, reply: Reply, mx: str = "", phase: str = "") -> Classification:
        """What this reply means.

        mx     name of the host that said it, for rules of one provider
        phase  dns connect banner ehlo tls auth mail rcpt data dot, or "report": what is said before RCPT is not about the recipient
        """
        return _classify(self, reply.code, reply.enhanced, reply.text[:READ], mx.lower().rstrip("."), phase)


    def worn(self, ends: Iterable[End], now: float) -> bool:
        """Whether an address has bounced softly on DAYS different days within WITHIN seconds, without a delivery between; `ends` newest first."""
        days: set[int] = set()
        for end in ends:
            if end.delivered or end.at < now - WITHIN:
                break
            if (end.phase in TELLING or end.phase == GUESSED) and self.classify(end.reply, end.mx, end.phase).category in (HARD, *WEARING):
                days.add(int(end.at // 86_400))
        return len(days) >= DAYS


@lru_cache(maxsize=REMEMBERED)
def _classify(rules: Rules, code: int, status: str, text: str, mx: str, phase: str) -> Classification:
    flat = _ADDRESS.sub("@", text.replace("\n", " "))
    digits = str(code)
    for row in rules.rows:
        if row.matches(digits, status, flat, mx, phase):
            return Classification(row.category, row.name, _wait(rules.waits, flat))
    return UNKNOWN


def _wait(patterns: tuple[re.Pattern[str], ...], text: str) -> float | None:
    """Seconds that the text asks us to wait, None if it does not say."""
    for pattern in patterns:
        found = pattern.search(text)
        if found is None:
            continue
        parts = found.groupdict()
        if parts.get("n"):
            return float(parts["n"]) * _UNITS[parts["unit"][0].lower()]
        return int(parts["h"]) * HOUR + int(parts["m"]) * MINUTE + int(parts["s"])
    return None


def read(own: str = "") -> Rules:
    """The shipped rules, and before them those of the file `own` ([suppress] rules) if one is named; raises ConfigError naming the row at fault."""
    seen: set[str] = set()
    parts = [_file(Path(own), seen)] if own else []
    parts.append(_file(shipped("bounces.toml"), seen))
    return Rules(tuple(row for rows, _ in parts for row in rows), tuple(wait for _, waits in parts for wait in waits))


def _file(path: Path, seen: set[str]) -> tuple[list[Rule], list[re.Pattern[str]]]:
    """Rows and waits of one file; `seen` are the names that rules have so far."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("suppress.rules", f"{path} cannot be read: {error}") from error
    rows = [_row(f"{path.name}: rules[{number}]", given, seen) for number, given in enumerate(tree.get("rules", ()))]
    return rows, [_pattern(f"{path.name}: waits", text) for text in tree.get("waits", ())]


def _row(at: str, given: dict[str, Any], seen: set[str]) -> Rule:
    unknown = set(given) - _FIELDS
    if unknown:
        raise ConfigError(at, f"has no field {unknown.pop()!r}; it takes {', '.join(sorted(_FIELDS))}")
    name, category = given.get("name", ""), given.get("category", "")
    if not name or name in seen:
        raise ConfigError(at, f"needs a name of its own, not {name!r}")
    if category not in CATEGORIES:
        raise ConfigError(at, f"{name}: category {category!r} is none of {', '.join(CATEGORIES)}")
    seen.add(name)
    texts = given.get("text") or []
    text = _pattern(f"{at}: {name}", texts if isinstance(texts, str) else "|".join(texts)) if texts else None
    mx, phase = tuple(given.get("mx", "").lower().split()), tuple(given.get("phase", "").split())
    return Rule(name, category, given.get("code", ""), _status(given.get("status", "")), text, mx, phase)


def _pattern(at: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(at, f"text is not a regular expression: {error}") from error


def _status(pattern: str) -> re.Pattern[str] | None:
    """"5.1.1" as it stands; x is any digits, so "x.7.2x" is 5.7.20 to 5.7.29 and "x.7.x" any of that subject."""
    if not pattern:
        return None
    parts = [r"\d+" if part == "x" else re.escape(part).replace("x", r"\d") for part in pattern.split(".")]
    return re.compile(r"\.".join(parts))
