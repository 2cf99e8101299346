"""What the scheduler keeps: a recipient that is due (Waiting), the recipients of one message that leave together (Turn), a recipient domain (Place).

Only what is due now is in memory; a recipient that waits for a later time is a row in the store and nothing here, so memory does not grow with the queue.
A Waiting costs under 500 bytes with its place in every index (tests/queue/test_memory.py); the message itself is in a cache with a bound in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.mail.message import TRANSACTIONAL

if TYPE_CHECKING:
    from relay.queue.site import Site

TOGETHER = 100  # recipients of one transaction; RFC 5321 §4.5.3.1.8 lets servers refuse more


@dataclass(slots=True, eq=False)
class Waiting:
    """A recipient that is due.

    attempts   that counted so far; `retry` the table they are counted in (relay.schedule)
    first_due  UTC seconds; its deadline counts from there
    warned     a delay report was made
    tried      it has been deferred before: the event of it was told
    site       where it is in line, None while its route is looked up
    out        a courier has it
    gone       cancelled, held or suppressed meanwhile: not to be sent
    done       its outcome is on its way to disk
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
    tried: bool = False
    site: Site | None = None
    out: bool = False
    gone: bool = False
    done: bool = False


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


@dataclass(slots=True, eq=False)
class Place:
    """A recipient domain with mail that is due.

    site, key  where its mail goes, None until its route is known: a connection serves one key (relay.delivery.route.Route.key)
    count      its recipients in memory; `more`: there are, or may be, others on disk
    unrouted   recipients that wait for the route
    """

    domain: str
    site: Site | None = None
    key: str = ""
    count: int = 0
    more: bool = False
    routing: bool = False
    unrouted: list[Waiting] = field(default_factory=list)
