"""Acts on audiences: who is put in, taken out, and what deleting one means for the segments that ask about it; each a plain function of a Connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.audience import membership
from relay.store.audience import audiences, segments


def put(conn: Any, number: int, contact_ids: Sequence[int], at: float) -> int:
    """How many of these contacts were not in the audience before."""
    added = audiences.put(conn, number, contact_ids, at)
    membership.follow(conn, contact_ids, at)
    return added


def take(conn: Any, number: int, contact_ids: Sequence[int], at: float) -> int:
    """How many of these contacts were in the audience and no longer are."""
    gone = audiences.take(conn, number, contact_ids)
    membership.follow(conn, contact_ids, at)
    return gone


def remove(conn: Any, project: int, number: int, at: float) -> None:
    """Delete the audience; its contacts stay, and its segments lose it. Raises NotFound."""
    within = segments.within(conn, number)
    audiences.remove(conn, project, number)
    membership.rebase(conn, project, within, at, ("audience", number))
