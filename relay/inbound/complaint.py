"""Complaints: somebody called our mail spam, and gets no more of it (RFC 6650 §5.2).

    it says                          state        event               address
    -------------------------------  -----------  ------------------  --------------------------------------------
    abuse, fraud, opt-out            complained   email.complained    suppressed; the contact is unsubscribed
    not-spam, virus, auth-failure,   as it was    -                   as it was; counted and logged
      other, about nobody of ours

A second complaint about the same message changes nothing. Who complains has the message, whatever the ledger says (its 250 was lost, a later hop sent a
failure too): then the end of the recipient stays as it was, and all else is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay import consent
from relay.consent import Act
from relay.inbound import matching
from relay.inbound.matching import Mark
from relay.mail.arf import Complaint
from relay.store import recipients, returns, suppressions
from relay.store.recipients import Addressee

SOURCE = "feedback"
COMPLAINED = "complained"
KINDS = frozenset({"not-spam", "virus", "auth-failure", "other", "dmarc"})  # of reports that are none, by name in logs and metrics; the rest is "other"


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a complaint about one recipient: `result` "complained" | "known" | the kind of a report that is none; `mx` who had taken the message."""

    message_id: int
    result: str
    mx: str = ""
    stopped: tuple[int, ...] = ()


def record(conn: Any, complaint: Complaint, marks: Sequence[Mark], project: int | None, act: Act) -> list[Taken]:
    """Take a complaint to its end in one transaction; empty when it is about nobody of ours.

    project  the one whose mail it may be about, None where the address that it came to is nobody's
    act      what is known of the mail that brought it, of source SOURCE
    """
    about = matching.find(conn, marks, complaint.named, complaint.message_id, project)
    return [_one(conn, recipients.get(conn, number), complaint, act) for number in about]


def _one(conn: Any, addressee: Addressee, complaint: Complaint, act: Act) -> Taken:
    mx = recipients.delivered_by(conn, addressee.id)
    if not complaint.complains:
        return Taken(addressee.message_id, complaint.kind if complaint.kind in KINDS else "other", mx)
    if not returns.complained(conn, addressee.id, act.at) and _heard(conn, addressee):
        return Taken(addressee.message_id, "known", mx)
    said = {"feedback_type": complaint.kind, "reporter": complaint.reporter}
    done = consent.complained(conn, addressee, replace(act, more={**act.more, **said}), conn.info["ids"])
    return Taken(addressee.message_id, COMPLAINED, mx, done.stopped)


def _heard(conn: Any, addressee: Addressee) -> bool:
    """Whether a complaint of theirs is on record: about this message, or about another and it still holds."""
    holding = suppressions.of(conn, addressee.project_id, addressee.key)
    return returns.state(conn, addressee.id) == returns.COMPLAINED or any(entry.reason == consent.COMPLAINED for entry in holding)
