"""Suppression rules: patterns of addresses that get no mail from a project, beside the list of single ones.

    address   ann@example.com       this address
    domain    example.com           every address at this domain
    prefix    test+                 addresses that begin so
    suffix    .example              addresses that end so
    wildcard  *+demo@example.com    `*` stands for any characters

Patterns are compared with the normal form of an address, so letter case never matters. A rule stops all mail while it is enabled: at the door, in the ledger
of a broadcast, and just before MAIL.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from relay.errors import Conflict, Invalid, NotFound
from relay.mail import address, ids
from relay.store.schema import suppression_rules as table

MOST = 100  # rules of a project
STARS = 5  # of a wildcard: each makes a comparison dearer
KINDS = ("address", "domain", "prefix", "suffix", "wildcard")


@dataclass(frozen=True, slots=True)
class SuppressionRule:
    """`pattern` in normal form; times in UTC seconds."""

    id: int
    project_id: int
    name: str
    kind: str
    pattern: str
    enabled: bool
    created_at: float
    updated_at: float

    @property
    def public_id(self) -> str:
        return ids.public("rule", self.id)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The literal parts of what it matches, with any characters between one and the next."""
        if self.kind == "wildcard":
            return tuple(self.pattern.split("*"))
        return {"address": (self.pattern,), "domain": ("", f"@{self.pattern}"), "prefix": (self.pattern, ""), "suffix": ("", self.pattern)}[self.kind]

    def matches(self, key: str) -> bool:
        """Whether it stops the address with this normal form."""
        first, *rest = self.pieces
        if not rest:
            return key == first
        if not (key.startswith(first) and key.endswith(rest[-1]) and len(key) >= len(first) + len(rest[-1])):
            return False
        place, end = len(first), len(key) - len(rest[-1])
        for piece in rest[:-1]:
            found = key.find(piece, place, end)
            if found < 0:
                return False
            place = found + len(piece)
        return True


_COLUMNS = tuple(table.c[name] for name in SuppressionRule.__slots__)


def normal(kind: str, pattern: str) -> str:
    """The pattern as addresses are compared with it; raises Invalid."""
    text = pattern.strip()
    if kind == "address":
        return address.key(text)
    if kind == "domain":
        return address.a_label(text.removeprefix("@"))
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    if not folded.replace("*", "") or not folded.isprintable() or " " in folded:
        raise Invalid("pattern", "pattern has at least one character of an address, and no space")
    if kind == "wildcard" and not 1 <= folded.count("*") <= STARS:
        raise Invalid("pattern", f"a wildcard has one to {STARS} *")
    return folded


def _likeness(rule: SuppressionRule) -> str:
    escaped = (piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for piece in rule.pieces)
    return "%".join(escaped)


def matching(project: int, key: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether an enabled rule of the project stops the address in this column."""
    return select(1).where(table.c.project_id == project, table.c.enabled, key.like(table.c.likeness, escape="\\")).exists()


def of(conn: Connection, project: int) -> list[SuppressionRule]:
    """The rules of a project that are enabled, oldest first."""
    return [rule for rule in every(conn, project) if rule.enabled]


def add(conn: Connection, rule: SuppressionRule) -> SuppressionRule:
    """Raises Conflict when the project has MOST."""
    if (conn.scalar(select(func.count()).where(table.c.project_id == rule.project_id)) or 0) >= MOST:
        raise Conflict(f"a project has at most {MOST} suppression rules")
    conn.execute(table.insert().values(_values(rule)))
    return rule


def get(conn: Connection, project: int, number: int) -> SuppressionRule:
    """Raises NotFound."""
    row = conn.execute(select(*_COLUMNS).where(table.c.project_id == project, table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound("Suppression rule not found")
    return SuppressionRule(*row)


def every(conn: Connection, project: int) -> list[SuppressionRule]:
    """All rules of a project, oldest first."""
    return [SuppressionRule(*row) for row in conn.execute(select(*_COLUMNS).where(table.c.project_id == project).order_by(table.c.id))]


def put(conn: Connection, rule: SuppressionRule) -> SuppressionRule:
    """The rule as it is from now on; raises NotFound."""
    get(conn, rule.project_id, rule.id)
    conn.execute(update(table).where(table.c.id == rule.id).values(_values(rule)))
    return rule


def remove(conn: Connection, project: int, number: int) -> None:
    """Raises NotFound."""
    get(conn, project, number)
    conn.execute(delete(table).where(table.c.id == number))


def first(rules: Sequence[SuppressionRule], key: str) -> SuppressionRule | None:
    """The first of these rules that stops the address."""
    return next((rule for rule in rules if rule.matches(key)), None)


def _values(rule: SuppressionRule) -> dict[str, Any]:
    return {**{name: getattr(rule, name) for name in SuppressionRule.__slots__}, "likeness": _likeness(rule)}
