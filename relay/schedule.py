"""When a recipient is tried again: a table for each kind of failure, and the deadline after which a failure is the last.

    standard   1, 5, 10, 20, 40 min, 1, 2, 3 h, then every 4 h      any other 4yz
    otp        15, 45 s, 2, 5, 10, 20 min                           mail that is worthless after an hour: its sender says so (relay.wishes)
    greylist   5, 6, 10 min, or what the reply asks plus 30 s       the peer wants to see us again; after 4 failures as standard
    full       1, 4, 12, 24 h                                       the mailbox is over quota
    rate       as long again as it has waited, 1 min to 1 h         the peer slows *us*: its site is slowed, the message pays no attempt
    site       the same                                             nobody answered: no attempt was made on the message itself

Everything here is a plain function of numbers. RFC 5321 §4.5.4.1: about two attempts in the first hour, then hours apart, give up after days; an early
second attempt is for greylisting. The deadline counts from the moment a recipient first became due, not from acceptance: scheduled mail, a relay that was
down and a clock that jumped never expire what was not tried. A wait ends at the deadline at the latest, so the last attempt is made there, and only an
attempt that fails at or after it gives up.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

STANDARD, OTP, GREYLIST, FULL, RATE, SITE = "standard", "otp", "greylist", "full", "rate", "site"

EXPIRY = {"transactional": 2 * DAY, "marketing": 5 * DAY}  # seconds from first due, by stream
JITTER = 0.15  # waits are spread by this share either way, so that mail deferred together does not come back together
GREYLIST_TURNS = 4  # failures after which a "greylist" that never lifts is treated as any other refusal
GREYLIST_SLACK = 30.0  # seconds added to what the peer asked for; its clock and ours differ
LONGEST_HINT = 4 * HOUR  # a peer that asks for more is not believed (the longest wait of the standard table)


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` seconds before the second, third, ... attempt, the last one repeated; `expiry` seconds, None = that of the stream."""

    steps: tuple[float, ...]
    expiry: float | None = None


PLANS = {
    STANDARD: Plan((1 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, 1 * HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR)),
    OTP: Plan((15.0, 45.0, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE), expiry=1 * HOUR),
    GREYLIST: Plan((5 * MINUTE, 6 * MINUTE, 10 * MINUTE, 10 * MINUTE)),
    FULL: Plan((1 * HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR), expiry=3 * DAY),
}
PACED = {RATE, SITE}  # kinds that do not consume an attempt: `counts` is false for them
PACE_LEAST, PACE_MOST = 1 * MINUTE, 1 * HOUR  # bounds of a paced wait


def counts(kind: str) -> bool:
    """Whether a failure of this kind is the message's own, and so advances its attempts."""
    return kind not in PACED


def deadline(kind: str, stream: str, table: str = STANDARD) -> float:
    """Seconds after first due from which on a failed attempt is the last; a paced wait makes the life of short-lived mail no longer.

    table  in which the recipient's own failures are counted
    """
    plan, most = PLANS.get(kind), EXPIRY.get(stream, EXPIRY["transactional"])
    if plan and plan.expiry is not None:
        return plan.expiry
    return min(PLANS[OTP].expiry, most) if table == OTP else most


def next_attempt(kind: str, attempts: int, age: float, stream: str = "transactional", hint: float | None = None, table: str = STANDARD) -> float | None:
    """Seconds until the next attempt, or None to give up.

    kind      which table, see above; an unknown one is standard
    attempts  failures so far that counted, this one included where `counts(kind)`
    age       seconds since the recipient first became due
    stream    "transactional" | "marketing", for the deadline
    hint      seconds the peer asked us to wait, None if it did not say
    table     in which the recipient's own failures are counted, which `kind` may interrupt

    The caller adds jitter (`spread`), so this stays a table.
    """
    left = deadline(kind, stream, table) - age
    if left <= 0:
        return None
    return min(_wait(kind, max(attempts, 1), max(age, 0.0), hint), max(left, PACE_LEAST))


def _wait(kind: str, attempts: int, age: float, hint: float | None) -> float:
    if kind in PACED:
        return min(max(age, hint or 0.0, PACE_LEAST), PACE_MOST)
    if kind == GREYLIST and attempts <= GREYLIST_TURNS and hint is not None:
        return min(hint, LONGEST_HINT) + GREYLIST_SLACK
    if kind == GREYLIST and attempts > GREYLIST_TURNS:
        kind = STANDARD
    steps = PLANS.get(kind, PLANS[STANDARD]).steps
    return steps[min(attempts, len(steps)) - 1]


def spread(seconds: float, chance: float) -> float:
    """`seconds` with full jitter; `chance` is uniform in [0, 1) and comes from the caller."""
    return seconds * (1.0 - JITTER + 2.0 * JITTER * chance)


def warns(notify: str, warned: bool, age: float, delay_after: float) -> bool:
    """Whether a delay report is due now: asked for with NOTIFY=DELAY, not sent before, and `age` seconds are over `delay_after` (RFC 3461 §6.3)."""
    return not warned and age >= delay_after and "DELAY" in notify
