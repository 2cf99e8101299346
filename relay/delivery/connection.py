"""An open connection to a site's host, ready for transactions: what the queue's couriers hold.

    outcomes = await connection.deliver(job)     one Outcome per recipient, never an exception for what the server does
    connection.usable, connection.delivered      whether it may carry another, how many messages it carried
    connection.close()                           QUIT, returns at once
    connection.abort()                           cut it; a deliver under way ends: ambiguous after the final dot, conn_error before
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain

from msgspec.structs import replace

from relay.delivery.offer import offer
from relay.delivery.outcome import CONN_ERROR, PERMFAIL, TEMPFAIL, Job, Outcome, Verdict, verdicts
from relay.delivery.route import Host, Route
from relay.errors import ConnectFailed, Invalid, Refuse
from relay.mail.message import Decision
from relay.mail.reply import Reply
from relay.metrics import counter, histogram
from relay.smtp import wire
from relay.smtp.client import Client, Extensions

ATTEMPTS = counter("delivery_attempts_total", "Recipients per delivery attempt, by its result", "provider", "source", "result")
TOOK = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 600.0)
SECONDS = histogram("delivery_attempt_seconds", "A step of a connection, or a transaction from MAIL to where it ended", "phase", buckets=TOOK)
TIMED = {phase: SECONDS.labels(phase).observe for phase in ("dns", "connect", "banner", "ehlo", "tls", "auth", "mail", "rcpt", "data", "dot")}
LACKING = frozenset({"5.6.3", "5.6.7"})  # what one host of a domain cannot take and another may

_attempts: dict[tuple[str, str, str], Callable[[], None]] = {}  # counters with their labels resolved; bounded by providers times sources times results


class Connection:
    """One connection; used by one task at a time.

    another  opens a connection of the same route, without the hosts, addresses and sources named
    sources  how many of our addresses could have been used
    """

    __slots__ = ("_another", "_beside", "_client", "_sources", "address", "delivered", "host", "key", "messages", "mx", "route", "site", "source", "tls")

    def __init__(self, client: Client, route: Route, host: Host, address: str, source: str, tls: str,
                 another: Callable[[Route, tuple[str, ...]], Awaitable[Connection]] | None = None, sources: int = 1):
        self._client, self._another, self._sources = client, another, sources
        self._beside: Connection | None = None  # that which carries what this one could not
        self.route, self.host, self.site, self.key, self.mx = route, host, route.site, route.key, host.name
        self.address, self.source, self.tls = address, source, tls
        self.delivered = 0  # messages taken by the server
        self.messages = 0  # transactions begun, whatever became of them

    @property
    def usable(self) -> bool:
        """Open, and the server has not said goodbye."""
        return self._client.usable

    @property
    def final(self) -> bool:
        """The final dot of the last message has been handed over: whatever happens now, the server may have taken it."""
        return (self._client.told is not None and self._client.told.sent) or (self._beside is not None and self._beside.final)

    @property
    def farewell(self) -> Reply | None:
        """What the server said unasked, a 421 as a rule."""
        return self._client.farewell

    @property
    def extensions(self) -> Extensions:
        return self._client.extensions

    async def deliver(self, job: Job) -> list[Outcome]:
        """One transaction; an Outcome for each recipient in the job's order."""
        outcomes = await self._transaction(job)
        return await self._hurried(job, outcomes) if job.hurried else outcomes

    async def _transaction(self, job: Job) -> list[Outcome]:
        begun = time.monotonic()
        try:
            offered = offer(job, self._client.extensions)
            content = _begun(wire.pieces(job.content) if not job.body else wire.parted(job.content, job.body))
        except Refuse as refusal:
            return await self._elsewhere(job, refusal.reply)
        except Invalid as error:
            return self._all(job, (PERMFAIL, error.reply, "mail"))
        self.messages += 1
        rcpts = [each for each in offered.rcpts if isinstance(each, bytes)]
        if not rcpts:
            return self._outcomes(job, [(PERMFAIL, each, "rcpt") for each in offered.rcpts], begun)
        try:
            told = await self._client.transact(offered.mail, rcpts, content)
        except Invalid as error:  # found in a later piece of a large message: the connection is cut, the server never saw a final dot
            return self._all(job, (PERMFAIL, error.reply, "data"), begun)
        found = verdicts(told)
        TIMED[found[0][2]](time.monotonic() - begun)
        if told.dot is not None and told.dot.code < 300 and told.sent:
            self.delivered += 1
        if len(rcpts) < len(offered.rcpts):
            judged = iter(found)
            found = [next(judged) if isinstance(each, bytes) else (PERMFAIL, each, "rcpt") for each in offered.rcpts]
        return self._outcomes(job, found, begun)

    async def _elsewhere(self, job: Job, reply: Reply) -> list[Outcome]:
        """The job to another host of the route, where this one lacks an extension; with none left, the refusal."""
        if reply.enhanced not in LACKING or not self._others or self._another is None:
            return self._all(job, (PERMFAIL, reply, "mail"))
        try:
            other = await self._another(self.route, (self.mx,))
        except ConnectFailed as failure:
            verdict = (PERMFAIL, reply, "mail") if failure.reply.permanent else (CONN_ERROR, failure.reply, failure.phase)
            return self._all(job, verdict)
        return await self._by(other, job)

    async def _hurried(self, job: Job, outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes after those who were put off have been tried once more, at another host or from another source: a login code waits for no greylist."""
        late = [number for number, each in enumerate(outcomes) if each.result in (TEMPFAIL, CONN_ERROR)]
        without = (self.mx,) * self._others + (self.source,) * (self._sources > 1)
        if not late or not without or self._another is None:
            return outcomes
        try:
            other = await self._another(self.route, without)
        except ConnectFailed:
            return outcomes
        second = await self._by(other, replace(job, recipients=tuple(job.recipients[number] for number in late)))
        for number, outcome in zip(late, second, strict=True):
            first = outcomes[number]
            said = Decision("delivery", "deferred", f"{first.mx} [{first.address}]: {first.reply}; tried elsewhere at once")
            outcomes[number] = replace(outcome, steps=(said,))
        return outcomes

    async def _by(self, other: Connection, job: Job) -> list[Outcome]:
        """The job on a connection beside this one; one step aside is enough."""
        other._another, self._beside = None, other
        try:
            return await other.deliver(job)
        finally:
            self._beside = None
            other.close()

    @property
    def _others(self) -> bool:
        """The route has a host beside this one."""
        return any(host.name != self.mx for host in self.route.hosts)

    def _all(self, job: Job, verdict: Verdict, begun: float | None = None) -> list[Outcome]:
        return self._outcomes(job, [verdict] * len(job.recipients), begun)

    def _outcomes(self, job: Job, found: list[Verdict], begun: float | None) -> list[Outcome]:
        seconds = time.monotonic() - begun if begun is not None else 0.0
        passed = self._client.extensions.dsn
        outcomes = []
        for recipient, (result, reply, phase) in zip(job.recipients, found, strict=True):
            _count(self.route.provider, self.source, result)
            outcomes.append(Outcome(recipient.id, result, reply, phase, self.site, self.mx, self.address, self.source, self.tls, seconds, passed))
        return outcomes

    def close(self) -> None:
        """Say QUIT and let go; never waits."""
        self._client.quit()

    def abort(self) -> None:
        """Cut the connection, and the one beside it."""
        self._client.abort()
        if self._beside is not None:
            self._beside.abort()


def _begun(content: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces with the first one made: a small message is checked before anything is said to the server."""
    return chain((next(content),), content)


def _count(provider: str, source: str, result: str) -> None:
    labels = (provider, source or "default", result)
    count = _attempts.get(labels)
    if count is None:
        count = _attempts[labels] = ATTEMPTS.labels(*labels).inc
    count()
