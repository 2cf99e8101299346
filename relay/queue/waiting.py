"""What the scheduler keeps of a recipient that is due (Waiting) and of the recipients of one message at one place (Turn).

Only what is due now is in memory; a recipient that waits for a later time is a row in the store and nothing here, so memory does not grow with the queue.
A Waiting costs under 500 bytes with its place in every index (bench/queue_memory.py); the message itself is in a cache with a bound in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.mail.message import TRANSACTIONAL

TOGETHER = 100  # recipients of one transaction; RFC 5321 §4.5.3.1.8 lets servers refuse more


@dataclass(slots=True, eq=False)
class Waiting:
    """A recipient that is due.

    attempts   that counted so far; `retry` the table they are counted in (relay.schedule)
    first_due  UTC seconds; its deadline counts from there
    warned     a delay report was made
    tried      it has been deferred before
    gone       cancelled, held or suppressed meanwhile: not to be sent
    """

    recipient_id: int
    message_id: int
    project: int
    domain: str
    stream: str
    first_due: float
    attempts: int = 0
    retry: str = "standard"
    warned: bool = False
    gone: bool = False


@dataclass(slots=True, eq=False)
class Turn:
    """Recipients of one message that leave in one transaction.

    urgent   transactional: goes before anything else of the site
    since    monotonic seconds at which it became ready
    again    it was put back once because a reused connection had died under it
    """

    message_id: int
    project: int
    domain: str
    urgent: bool
    since: float
    waiting: list[Waiting] = field(default_factory=list)
    again: bool = False

    def live(self) -> list[Waiting]:
        """Those who are still to be sent to."""
        for each in self.waiting:
            if each.gone:
                return [w for w in self.waiting if not w.gone]
        return self.waiting


def turn(first: Waiting, now: float) -> Turn:
    return Turn(first.message_id, first.project, first.domain, first.stream == TRANSACTIONAL, now, [first])
