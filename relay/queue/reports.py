"""Delivery reports on their way: rows that settle wrote become DSNs that enter at the door like any other mail (RFC 3464).

A report is submitted under the idempotency key dsn:<recipient>:<kind> and its rows are deleted afterwards: a crash in between submits again and the key makes
that harmless. The principal is `system`, so the customer's policies neither judge nor count it; its reverse-path is null, so nothing answers it. What the door
refuses for good ends as an event; what it defers stays a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from relay import log
from relay.clock import Clock
from relay.errors import Defer, NotFound, RelayError, StoreError
from relay.mail import address, ids, report
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient, Wishes, replace
from relay.mail.reply import Reply
from relay.metrics import counter
from relay.schedule import deadline
from relay.settings import Settings
from relay.store import events, faults, messages
from relay.store import reports as rows
from relay.store.engine import Store
from relay.store.reports import Report
from relay.store.writes import JOBS

INTERVAL = 1.0  # seconds; nobody waits for a report by the second
AGAIN = 60.0  # seconds until a report that the door deferred is tried again
KEPT_KEY = 24 * 8  # hours that the idempotency key of a report lasts: longer than any message waits

LOG = log.get("reports")
SENT = counter("dsn_total", "Delivery reports by kind and what the door said", "kind", "result")

Submit = Callable[..., Awaitable[Any]]


class Reports:
    """Sends what is owed.

    submit     the door: submit(principal, envelope, content, origin, wishes)
    principal  that of Relay itself; a report belongs to the project of the message it is about
    interval   seconds between two looks for reports that are due
    """

    def __init__(self, store: Store, submit: Submit, config: Settings, clock: Clock, maker: Maker, principal: Principal,
                 interval: float = INTERVAL):
        self._store, self._submit, self._clock, self._maker, self._principal = store, submit, clock, maker, principal
        self._interval = interval
        self._reporter = report.Reporter(config.hostname, config.dsn.sender, config.dsn.max_quote)

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                while found := await self._store.read(rows.due, self._clock.now()):
                    for each in found:
                        await self._send(each)
            except StoreError as error:
                LOG.warning("reports cannot be read", error=error.text)
            await asyncio.sleep(self._interval)

    async def _send(self, owed: Report) -> None:
        try:
            message, people = await self._store.read(_about, owed)
        except NotFound:
            LOG.warning("report dropped, its message is gone", id=ids.public("em", owed.message_id), kind=owed.kind)
            await self._store.write(rows.done, owed.rows, lane=JOBS)
            return
        try:
            await self._submit(
                replace(self._principal, kind="system", project=message.principal.project), self._envelope(message),
                self._content(owed, message, people), Origin("dsn"), self._wishes(owed))
            SENT.labels(owed.kind, "sent").inc()
            faults.point("report.submitted")
        except (Defer, StoreError) as deferral:
            SENT.labels(owed.kind, "deferred").inc()
            LOG.warning("report deferred", id=ids.public("em", owed.message_id), kind=owed.kind, reply=str(deferral.reply))
            await self._store.write(rows.later, owed.rows, self._clock.now() + AGAIN, lane=JOBS)
            return
        except RelayError as refusal:
            SENT.labels(owed.kind, "refused").inc()
            LOG.warning("report refused", id=ids.public("em", owed.message_id), kind=owed.kind, reply=str(refusal.reply))
            await self._store.write(_refused, owed, message.principal.project, refusal.reply, self._clock.now(), lane=JOBS)
            return
        await self._store.write(rows.done, owed.rows, lane=JOBS)

    def _envelope(self, message: Message) -> Envelope:
        """To the reverse-path alone, from nobody, and nothing is to be told about it (RFC 3461 §5.2.7)."""
        to = message.envelope.sender
        recipient = Recipient(self._maker.next(), to, address.key(to), address.domain_of(to), "NEVER")
        return Envelope("", (recipient,), smtputf8=message.envelope.smtputf8 or not to.isascii())

    def _content(self, owed: Report, message: Message, people: Sequence[Any]) -> bytes:
        lines = [report.Line(_recipient(row), _words(row), row.mx or "", row.at or self._clock.now()) for row in people]
        header = b"".join(message.header.raws())
        whole = header + b"\r\n" + message.body if message.size <= self._reporter.quote else b""
        original = report.Original(
            ids.public("em", message.id), message.header.value(b"message-id").strip("<> "), message.received_at, header, whole,
            message.envelope.envid, message.envelope.ret, message.envelope.smtputf8)
        waiting = [row.first_due for row in people if row.first_due is not None]
        until = min(waiting) + deadline(message.wishes.retry, message.wishes.stream) if waiting else None
        return report.build(self._reporter, owed.kind, message.envelope.sender, original, lines,
                            report_id=f"{ids.public('dsn', owed.recipients[0])}.{owed.kind}", now=self._clock.now(), until=until)

    def _wishes(self, owed: Report) -> Wishes:
        return Wishes(idempotency_key=f"dsn:{owed.recipients[0]}:{owed.kind}", idempotency_hours=KEPT_KEY)


def _about(conn: Any, owed: Report) -> tuple[Message, list[Any]]:
    """The message as it was admitted, and the rows of those who are told of; raises NotFound."""
    people = rows.people(conn, owed)
    if not people:
        raise NotFound("no recipients")
    return messages.load(conn, owed.message_id, False), people


def _refused(conn: Any, owed: Report, project: int, reply: Reply, now: float) -> None:
    data = {"kind": owed.kind, "code": reply.code, "text": reply.text}
    events.append(conn, [events.Event(project, "email.report_refused", now, owed.message_id, owed.recipients[0], data=data)])
    rows.done(conn, owed.rows)


def _recipient(row: Any) -> Recipient:
    return Recipient(row.id, row.address, row.key, row.domain, row.notify, row.orcpt)


def _words(row: Any) -> Reply:
    return Reply(row.code or 451, row.enhanced or "", row.text or "")
