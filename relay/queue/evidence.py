"""What refusals say about the addresses themselves, drawn in the transaction that records them, so that a crash leaves both or neither.

    the settlement's category       the address
    ----------------------------    -----------------------------------------------------------------------------------
    hard, and it ends as bounced    suppressed; the contact is unsubscribed; contact.bounced
    soft                            suppressed for a while once such ends have come on several days (relay.bounces.worn)
    anything else, or none          as it was: reputation, policy and content are never the recipient's fault
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay import consent
from relay.bounces import HARD, READ, Rules
from relay.consent import Act, Terms
from relay.errors import NotFound
from relay.store import queue, recipients
from relay.store.queue import Settlement

SOURCE = "delivery"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Records settlements and what follows from them."""

    rules: Rules
    terms: Terms

    def record(self, conn: Any, settlements: Sequence[Settlement]) -> tuple[int, ...]:
        """Other recipients of the same addresses, whose copies no longer wait."""
        stopped: list[int] = []
        for told, live in zip(settlements, queue.settle_many(conn, settlements), strict=True):
            if live and told.category:
                stopped += self._draw(conn, told)
        return tuple(stopped)

    def _draw(self, conn: Any, told: Settlement) -> tuple[int, ...]:
        try:
            addressee = recipients.get(conn, told.recipient_id)
        except NotFound:  # its message was deleted this moment
            return ()
        mx, phase = (told.attempt.mx, told.attempt.phase) if told.attempt else ("", "")
        act = Act(SOURCE, at=told.at, more={"rule": told.rule, "reply": str(told.reply)[:READ], "mx": mx, "phase": phase})
        if told.category == HARD:
            return consent.bounced(conn, addressee, act, self.terms, conn.info["ids"]).stopped
        return consent.bounced_softly(conn, addressee, act, self.rules, self.terms, conn.info["ids"]).stopped
