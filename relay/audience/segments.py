"""Acts on segments: make and change them, and keep the lists of static ones; each a plain function of a Connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.audience import membership
from relay.audience.grammars import read
from relay.errors import Conflict, Invalid
from relay.store.audience import growth, memberships, segments
from relay.store.audience.operators import NESTED
from relay.store.audience.rules import segments as asked
from relay.store.audience.segments import Segment

MOST = 1_000  # segments of a project
DEFINED = frozenset({"rules", "audience_id", "tracked"})  # changes of these set new memberships


def create(conn: Any, segment: Segment) -> Segment:
    """Raises Invalid for rules that cannot be read, Conflict when the project has MOST segments or tracks too many."""
    if segment.rules is not None:
        _present(conn, segment.project_id, segment.id, segment.rules)
    return restore(conn, segment)


def restore(conn: Any, segment: Segment) -> Segment:
    """As `create`, but rules may ask about segments that are no more: those have no members."""
    if segments.many(conn, segment.project_id) >= MOST:
        raise Conflict(f"a project has at most {MOST} segments")
    if segment.rules is not None:
        _sound(conn, segment.project_id, segment.id, segment.rules)
    segments.add(conn, segment)
    return _tracked(conn, segment, segment.created_at)


def change(conn: Any, project: int, number: int, changes: dict[str, Any]) -> Segment:
    """The segment, changed; raises NotFound, Invalid and Conflict."""
    old = segments.get(conn, project, number)
    if changes.get("rules") is not None:
        _present(conn, project, number, changes["rules"])
        _sound(conn, project, number, changes["rules"])
    new = segments.change(conn, project, number, changes)
    if (old.rules is None) != (new.rules is None):
        growth.forget(conn, number)
    elif old.tracked and not new.tracked and new.rules is not None:
        growth.fix(conn, number, segments.size(conn, old), new.updated_at)
    if any(getattr(old, name) != getattr(new, name) for name in DEFINED):
        return _tracked(conn, new, new.updated_at)
    return new


def remove(conn: Any, project: int, number: int, now: float) -> None:
    """Delete the segment; its contacts stay. Raises NotFound."""
    segments.remove(conn, project, number)
    membership.rebase(conn, project, [number], now)


def _tracked(conn: Any, segment: Segment, now: float) -> Segment:
    """The segment, with its memberships begun anew, and those of segments that ask about it."""
    if segment.tracked:
        memberships.room(conn, segment.project_id, segment.id)
    membership.rebase(conn, segment.project_id, [segment.id], now)
    return segments.get(conn, segment.project_id, segment.id)


def _present(conn: Any, project: int, number: int, rules: Any) -> None:
    """Raises Invalid for rules that ask about a segment that does not exist."""
    wanted = asked(read(rules))
    if missing := wanted - segments.present(conn, project, wanted) - {number} if wanted else None:
        absent = Segment(missing.pop(), 0, "", "", None, None, False, 0, 0)
        raise Invalid("rules", f"there is no segment {absent.public_id}")


def _sound(conn: Any, project: int, number: int, rules: Any) -> None:
    """Raises Invalid for rules that ask about their own segment, by whatever way, or about too long a chain of segments."""
    wanted = asked(read(rules))
    if not wanted:
        return
    graph = {each: asked(read(its)) for each, its in segments.asking(conn, project)} | {number: wanted}
    if _depth(graph, wanted, number) > NESTED:
        raise Invalid("rules", f"segments can ask about segments {NESTED} deep at most")
    above = max((_depth(graph, {each}, 0) for each in graph), default=0)
    if above > NESTED + 1:
        raise Invalid("rules", f"segments that ask about this one would be more than {NESTED} deep")


def _depth(graph: Mapping[int, set[int]], start: set[int], own: int) -> int:
    """How many segments one after the other are asked about, from these on; raises Invalid when the way leads back to `own`."""
    depth, level = 0, start
    while level and depth <= NESTED + 1:
        if own in level:
            raise Invalid("rules", "the rules of a segment cannot ask about the segment itself")
        depth, level = depth + 1, {each for part in level for each in graph.get(part, ())}
    return depth


def put(conn: Any, project: int, number: int, contact_ids: Sequence[int], at: float) -> int:
    """How many contacts are new on the list of a static segment; raises Conflict for a dynamic one."""
    new = segments.put(conn, _static(conn, project, number).id, contact_ids, at)
    membership.follow(conn, new, at)
    return len(new)


def take(conn: Any, project: int, number: int, contact_ids: Sequence[int], at: float) -> int:
    """How many contacts are off the list of a static segment that were on it; raises Conflict for a dynamic one."""
    gone = segments.take(conn, _static(conn, project, number).id, contact_ids, at)
    membership.follow(conn, gone, at)
    return len(gone)


def _static(conn: Any, project: int, number: int) -> Segment:
    segment = segments.get(conn, project, number)
    if segment.rules is not None:
        raise Conflict("the members of a dynamic segment follow from its rules")
    return segment
