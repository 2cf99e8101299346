"""A delivery report finds the recipient it is about, and changes what it has evidence for.

The token in the address that it came to, or in the message that it returns, says whose copy bounced; it is signed, so no report reaches another project's
mail. What a report then says of that recipient:

    it says                                         state       event                 address suppressed
    ----------------------------------------------  ----------  --------------------  ---------------------------------------
    failed, 5.y.z, about our recipient's address    bounced     email.bounced         when the class is `hard` (relay.bounces), never on a guess
    failed, 4.y.z (a later hop gave up)             failed      email.failed          for a while, when it has worn out (relay.consent)
    failed, about another address only              as it was   email.soft_bounced    never: a forward or a list behind it broke
    delayed                                         as it was   email.deferred, once  never
    delivered, relayed, expanded                    as it was   -                     never; told to a submitter who asked (RFC 3461)
    nothing that can be read, an auto-reply         as it was   -                     never

The address counts as ours when Final-Recipient is it, or names nobody and Original-Recipient is it or names nobody; then what else the report lists is not
looked at. A report that arrives twice adds an attempt to the record and nothing else. Whoever submitted by SMTP gets the failure at their own reverse-path,
which ours had replaced (A8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay import consent
from relay.bounces import READ, WEARING, Classification, Rules
from relay.consent import Act, Terms
from relay.inbound import matching
from relay.inbound.matching import Mark, key_of
from relay.mail import address
from relay.mail.dsn import Report, Told
from relay.mail.reply import Reply
from relay.store import recipients, returns
from relay.store.attempts import Attempt
from relay.store.queue import Settlement
from relay.store.recipients import Addressee

SOURCE = "report"
SUCCESSES = {"delivered": "delivered", "relayed": "relayed", "expanded": "relayed"}  # action -> kind of report to the submitter


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a mail to a return path: its `kind`, and the recipients whose copies no longer wait.

    results  words for the log: "bounced hard", "failed", "elsewhere", "delayed", "told", "known"
    ended    categories of relay.bounces, one for each recipient that ended by it
    """

    message_id: int
    kind: str
    results: tuple[str, ...] = ()
    stopped: tuple[int, ...] = ()
    ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Letter:
    """A report as it came in: `client` IP address, `at` UTC seconds, `checked` what SPF, DKIM and DMARC say of who sent it."""

    report: Report
    client: str
    at: float
    checked: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hearing:
    """Takes reports to their end: `rules` say what their replies mean, `terms` how long bounces suppress. Each call is one transaction's work."""

    rules: Rules
    terms: Terms

    def record(self, conn: Any, number: int, letter: Letter) -> Heard:
        """What came of a report about the recipient of this id; raises NotFound."""
        addressee = recipients.get(conn, number)
        results: list[str] = []
        stopped: list[int] = []
        ended: list[str] = []
        for told in _concerning(letter.report.told, addressee):
            if returns.heard(conn, number) >= returns.KEPT:
                break
            results.append(self._line(conn, addressee, told, letter, stopped, ended))
        return Heard(addressee.message_id, letter.report.kind, tuple(results), tuple(stopped), tuple(ended))

    def seek(self, conn: Any, marks: Sequence[Mark], letter: Letter, project: int | None) -> list[Heard]:
        """What came of a report that came to no token, about the recipients whom it proves (relay.inbound.matching), of this project if one is given."""
        report = letter.report
        named = [name for told in report.told for name in (told.original, told.final) if name]
        return [self.record(conn, number, letter) for number in matching.find(conn, marks, named, report.message_id, project)]

    def _line(self, conn: Any, addressee: Addressee, told: Told, letter: Letter, stopped: list[int], ended: list[str]) -> str:
        if told.action in SUCCESSES:
            owed = _about(told, addressee) and returns.pass_on(conn, _settlement(addressee, told, letter, "delivered"), SUCCESSES[told.action])
            return "told" if owed else "success"
        found = self.rules.classify(told.reply, told.mx, returns.PHASE)
        found = found.doubted if told.guess else found
        if not told.failed:
            return _delayed(conn, addressee, told, letter, found)
        if not _about(told, addressee):
            elsewhere = ("email.soft_bounced", {**_words(addressee, told, found), "address": told.final or told.original})
            returns.note(conn, _settlement(addressee, told, letter, "delivered", elsewhere))
            return "elsewhere"
        state = "bounced" if told.reply.permanent else "failed"
        event = (f"email.{state}", _words(addressee, told, found) | ({} if state == "bounced" else {"reason": "expired"}))
        if not returns.settle(conn, _settlement(addressee, told, letter, state, event)):
            return "known"
        stopped.append(addressee.id)
        ended.append(found.category)
        evidence = _evidence(told, letter, found)
        if told.reply.permanent and found.suppresses:
            stopped.extend(consent.bounced(conn, addressee, evidence, self.terms, conn.info["ids"]).stopped)
            return "bounced hard"
        if found.category in WEARING:
            stopped.extend(consent.bounced_softly(conn, addressee, evidence, self.rules, self.terms, conn.info["ids"]).stopped)
        return state


def _concerning(told: Sequence[Told], addressee: Addressee) -> Sequence[Told]:
    """What is said about our recipient's address; where nothing is, the first word about anybody behind it."""
    return [each for each in told if _about(each, addressee)] or told[:1]


def _delayed(conn: Any, addressee: Addressee, told: Told, letter: Letter, found: Classification) -> str:
    first = not returns.heard(conn, addressee.id, ("tempfail",))
    event = ((("email.deferred", _words(addressee, told, found)),) if first else ())
    returns.note(conn, _settlement(addressee, told, letter, "delivered", *event))
    return "delayed"


def _about(told: Told, addressee: Addressee) -> bool:
    """Whether it is our recipient's own address that the report is about, as far as it says."""
    named = told.final or told.original
    return not named or key_of(named) == addressee.key


def _settlement(addressee: Addressee, told: Told, letter: Letter, state: str, *events: tuple[str, dict[str, Any]]) -> Settlement:
    """What the record gets; `state` counts only where `returns.settle` is asked."""
    failed = told.failed and told.reply.permanent
    attempt = Attempt(letter.at, 0.0, address.domain_of(addressee.address), told.mx or letter.report.reporter, letter.client, "", "",
                      returns.GUESS if told.guess else returns.PHASE, "permfail" if failed else "tempfail", told.reply)
    return Settlement(addressee.id, addressee.message_id, addressee.project_id, state, told.reply, letter.at, attempt, events=events)


def _words(addressee: Addressee, told: Told, found: Classification) -> dict[str, Any]:
    reply: Reply = told.reply
    return {"to": addressee.address, "code": reply.code, "enhanced": reply.enhanced, "text": reply.text, "mx": told.mx, "category": found.category,
            "rule": found.rule, "source": SOURCE}


def _evidence(told: Told, letter: Letter, found: Classification) -> Act:
    said = {"rule": found.rule, "reply": str(told.reply)[:READ], "mx": told.mx, "phase": returns.PHASE, "reporter": letter.report.reporter,
            "final_recipient": told.final, "authentication": letter.checked}
    return Act(SOURCE, letter.client, at=letter.at, more=said)

