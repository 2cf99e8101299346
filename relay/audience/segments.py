"""Acts on segments: make and change them, and keep the lists of static ones; each a plain function of a Connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.audience.grammars import read
from relay.errors import Conflict, Invalid
from relay.store import events
from relay.store.audience import segments
from relay.store.audience.rules import segments as asked
from relay.store.audience.segments import Segment
from relay.store.events import Event


def create(conn: Any, segment: Segment) -> Segment:
    """Raises Invalid for rules that cannot be read."""
    if segment.rules is not None:
        _sound(conn, segment.project_id, segment.id, segment.rules)
    return segments.add(conn, segment)


def change(conn: Any, project: int, number: int, changes: dict[str, Any]) -> Segment:
    """The segment, changed; raises NotFound and Invalid."""
    segments.get(conn, project, number)
    if changes.get("rules") is not None:
        _sound(conn, project, number, changes["rules"])
    return segments.change(conn, project, number, changes)


def _sound(conn: Any, project: int, number: int, rules: Any) -> None:
    """Raises Invalid for rules that ask about their own segment, by whatever way, or about one that does not exist."""
    rule = read(rules)
    needed = segments.needed(conn, project, rule, read)
    if missing := asked(rule) - needed.keys() - {number}:
        raise Invalid("rules", f"there is no segment {Segment(missing.pop(), 0, '', '', None, None, False, 0, 0).public_id}")
    if number in asked(rule) or any(number in asked(each) for each in needed.values() if each is not None):
        raise Invalid("rules", "the rules of a segment cannot ask about the segment itself")


def slug(name: str) -> str:
    """What a segment is called in the names of its events: lower case, spaces as hyphens."""
    return name.lower().replace(" ", "-")


def put(conn: Any, project: int, number: int, contact_ids: Sequence[int], at: float) -> int:
    """How many contacts are new on the list of a static segment; raises Conflict for a dynamic one."""
    segment = _static(conn, project, number)
    return _told(conn, segment, segments.put(conn, number, contact_ids, at), "entry", at)


def take(conn: Any, project: int, number: int, contact_ids: Sequence[int], at: float) -> int:
    """How many contacts are off the list of a static segment that were on it; raises Conflict for a dynamic one."""
    segment = _static(conn, project, number)
    return _told(conn, segment, segments.take(conn, number, contact_ids, at), "exit", at)


def _static(conn: Any, project: int, number: int) -> Segment:
    segment = segments.get(conn, project, number)
    if segment.rules is not None:
        raise Conflict("the members of a dynamic segment follow from its rules")
    return segment


def _told(conn: Any, segment: Segment, contact_ids: Sequence[int], what: str, at: float) -> int:
    """How many came or went; when membership is tracked each of them is an event."""
    if segment.tracked:
        kind, data = f"segment.{slug(segment.name)[:48]}.{what}", {"segment_id": segment.public_id, "segment_name": segment.name}
        events.append(conn, [Event(segment.project_id, kind, at, contact_id=each, data=data) for each in contact_ids])
    return len(contact_ids)
