"""Takes reports about our own mail to their end: bounces and complaints, at whichever address of ours they come in.

    bounce+TOKEN@        the address says whose mail it is about
    feedback@            our marks in it say (relay.inbound.matching); this is the address to give to feedback loops
    an inbound domain    the same, of that project's mail only: where recipients share a reverse-path, reports come to the sender's own

What is a report of neither kind, and what is about nobody of ours, is counted, logged and dropped; nothing here is ever answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from relay import log
from relay.clock import Clock
from relay.consent import Act
from relay.inbound import complaint, mailboxes, matching
from relay.inbound.authentication import Authentication
from relay.inbound.bounce import Heard, Hearing, Letter
from relay.inbound.mailboxes import Mailbox
from relay.inbound.matching import Mark
from relay.inbound.receiving import TAKEN
from relay.mail import arf, dsn, ids, traces
from relay.mail.arf import Complaint
from relay.mail.dsn import Report
from relay.mail.message import Envelope
from relay.metrics import BOUNCES, OTHER, counter
from relay.policy import Tokens
from relay.smtp.desk import Session
from relay.store.engine import Store

LOG = log.get("inbound")
COMPLAINTS = counter("complaints_total", "Messages that their recipients called spam, by who took them", "provider")
REPORTS = counter("arf_reports_total", "Feedback reports by who had taken the message and what came of them", "provider", "result")
UNMATCHED = "unmatched"


class Read(NamedTuple):
    """What a mail says; at most one of `report` and `complaint` matters, the complaint where it is one."""

    report: Report
    complaint: Complaint | None
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Returning:
    """`provider` names who runs an MX host, None for nobody known; `forget` tells the runner whose copies no longer wait; `proven` as in Receiving."""

    store: Store
    tokens: Tokens
    hearing: Hearing
    provider: Callable[[Sequence[str]], str | None]
    clock: Clock
    forget: Callable[[Iterable[int]], None]
    proven: bool

    async def bounced(self, session: Session, number: int, content: bytes, checked: Authentication) -> None:
        """Mail to the return path of this recipient's copy."""
        read = await self.read(content)
        if read.complaint is not None:
            await self._complained(session, read.complaint, [(number, b"")], checked)
            return
        heard = await self.store.write(self.hearing.record, number, self._letter(session, read.report, checked))
        self._heard(session, read.report, [heard], checked)

    async def feedback(self, session: Session, content: bytes, checked: Authentication) -> None:
        """Mail to the address for feedback loops."""
        read = await self.read(content)
        if read.complaint is not None:
            if not await self._complained(session, read.complaint, read.marks, checked):
                REPORTS.labels(OTHER, UNMATCHED).inc()
                LOG.info("complaint about nobody of ours", kind=read.complaint.kind, reporter=read.complaint.reporter, client=session.client,
                         **checked.results())
        else:
            self._heard(session, read.report, await self._sought(session, read, None, checked), checked)

    async def about_ours(self, session: Session, envelope: Envelope, content: bytes, boxes: Iterable[Mailbox], checked: Authentication) -> bool:
        """Whether mail to these mailboxes of domains was a report about the mail of their projects, and is dealt with; else it is somebody's mail.

        What a person writes about a bounce reads like one: free text counts from the null reverse-path alone.
        """
        read = await self.read(content)
        guess = bool(read.report.told) and all(told.guess for told in read.report.told)
        if read.complaint is None and (read.report.kind != dsn.REPORT or (guess and envelope.sender)):
            return False
        found = False
        for project in await self.store.read(_owners, boxes, self.proven):
            if read.complaint is not None:
                found |= await self._complained(session, read.complaint, read.marks, checked, project)
            elif heard := await self._sought(session, read, project, checked):
                self._heard(session, read.report, heard, checked)
                found = True
        return found

    async def read(self, content: bytes) -> Read:
        """In a thread: what anybody sends may take a while to read."""
        report, found, marks = await asyncio.to_thread(lambda: (dsn.read(content), arf.read(content), traces.marks(content)))
        return Read(report, found, matching.believed(self.tokens, marks))

    def _letter(self, session: Session, report: Report, checked: Authentication) -> Letter:
        return Letter(report, session.client, self.clock.now(), checked.shown())

    async def _sought(self, session: Session, read: Read, project: int | None, checked: Authentication) -> list[Heard]:
        return await self.store.write(self.hearing.seek, read.marks, self._letter(session, read.report, checked), project)

    def _heard(self, session: Session, report: Report, heard: Sequence[Heard], checked: Authentication) -> None:
        for each in heard:
            self.forget(each.stopped)
            for result in each.results or (each.kind,):
                TAKEN.labels("bounce", result).inc()
            for category in each.ended:
                BOUNCES.labels(category).inc()
            LOG.info("report", id=ids.public("em", each.message_id), kind=each.kind, results=list(each.results), reporter=report.reporter,
                     client=session.client, **checked.results())
        if not heard:
            TAKEN.labels("bounce", UNMATCHED).inc()
            LOG.info("report about nobody of ours", kind=report.kind, reporter=report.reporter, client=session.client, **checked.results())

    async def _complained(self, session: Session, found: Complaint, marks: Sequence[Mark], checked: Authentication, project: int | None = None) -> bool:
        """Whether it was about anybody of ours."""
        act = Act(complaint.SOURCE, session.client, at=self.clock.now(), more={"authentication": checked.shown()})
        taken = await self.store.write(complaint.record, found, marks, project, act)
        for each in taken:
            self.forget(each.stopped)
            provider = self.provider([each.mx]) or OTHER if each.mx else OTHER
            REPORTS.labels(provider, each.result).inc()
            if each.result == complaint.COMPLAINED:
                COMPLAINTS.labels(provider).inc()
            LOG.info("complaint", id=ids.public("em", each.message_id), kind=found.kind, result=each.result, reporter=found.reporter, client=session.client,
                     **checked.results())
        return bool(taken)


def _owners(conn: Any, boxes: Iterable[Mailbox], proven: bool) -> list[int]:
    """The projects whose domains these mailboxes are at."""
    found = (mailboxes.served(conn, box, proven) for box in boxes)
    return sorted({domain.project_id for domain in found if domain is not None})
