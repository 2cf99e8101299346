"""The door: everything that Relay sends enters here, whoever brings it: SMTP, sendmail, the API, broadcasts, workflows, our own DSNs.

    principal, envelope, octets ─► header parsed, X-Relay-* taken ─► admit chain ─► commit (durable) ─► Receipt

`submit` returns only when the message and its recipients are committed and flushed; until then the client keeps the message. What it raises carries the
reply that the client hears: Refuse (5yz), Defer (4yz), Invalid (the field at fault). Cancelling `submit` does not undo a commit that has begun.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from msgspec import Struct

from relay import eager, log
from relay.clock import Clock
from relay.errors import Defer, Refuse, RelayError
from relay.mail import header, ids, traces
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient, Wishes, replace
from relay.mail.reply import Reply
from relay.metrics import Earned, Tally, histogram
from relay.policy import Chain, Tokens
from relay.wishes import take

PATIENCE = 3.5  # seconds for all policies together; common mail libraries give up 5 s after the final dot
SLOW = Reply(451, "4.3.0", "a policy took too long, try again later")
OBEYED = frozenset({"key", "trusted", "local"})  # principals whose X-Relay-* fields count

RECEIVED = Tally("messages_received", "Messages accepted, by protocol and project (its id; the first 50 that send much, all others as other)",
                 "protocol", "tenant")
TENANTS = Earned()
SIZES = histogram("message_size_bytes", "Octets of accepted messages", buckets=(1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 5e6, 1e7, 2.5e7))

LOG = log.get("door")

Commit = Callable[[Sequence[Message]], Awaitable[int]]
CommitEach = Callable[[Sequence[Sequence[Message]]], Awaitable[list[int | RelayError]]]
Fill = Callable[[int, header.Header, Wishes], Awaitable[tuple[header.Header, bytes]]]


@lru_cache(1_024)
def _tenant(project: int) -> str:
    return ids.public("prj", project)


class Receipt(Struct, frozen=True):
    """What the sender gets: the id, what was replayed, who was left out, what policies noted."""

    id: str
    message: Message
    replayed: bool = False


class Brought(Struct, frozen=True):
    """A message as a caller brings it, header and body apart; `dropped` and `facts` as in `Door.judge`."""

    envelope: Envelope
    content: tuple[header.Header, bytes]
    wishes: Wishes
    dropped: Sequence[tuple[Recipient, Reply]] = ()
    facts: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Door:
    """Where mail enters.

    admit   the chain that decides
    system  the chain for our own mail (`headers` only): a DSN is not judged by the customer's policies
    fill    header and body of a message that names a template by X-Relay-Template-Id
    commit  makes the messages durable, all or none; gives the id of the first, or of the message that had its idempotency key before
    tokens  know our own traces: mail that loops through us is refused

    commit_each  the same for submissions that came together, for each its id or its error; without it `commit` is asked once for each
    """

    admit: Chain
    system: Chain
    commit: Commit
    maker: ids.Maker
    clock: Clock
    fill: Fill | None = None
    commit_each: CommitEach | None = None
    tokens: Tokens | None = None

    async def recipient(self, principal: Principal, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """The refusal of this recipient before any octet is read, or None."""
        return await self.admit.recipient(principal, envelope, recipient)

    async def recipients(self, principal: Principal, asked: Sequence[tuple[Envelope, Recipient]]) -> list[Reply | None]:
        """What `recipient` gives for each of many."""
        return await self.admit.recipients(principal, asked)

    async def submit(
        self, principal: Principal, envelope: Envelope, content: bytes, origin: Origin, wishes: Wishes | None = None,
    ) -> Receipt:
        """A Receipt once `content` is durable; `judge` and `keep` in one."""
        return await self.keep(await self.judge(principal, envelope, content, origin, wishes))

    async def judge(
        self, principal: Principal, envelope: Envelope, content: bytes | tuple[header.Header, bytes], origin: Origin, wishes: Wishes | None = None,
        *, dropped: Sequence[tuple[Recipient, Reply]] = (), facts: dict[str, Any] | None = None, asked: bool = False,
    ) -> Sequence[Message]:
        """The messages as the admit chain lets them pass, not yet kept; who does not keep them calls `let_go`.

        content  header and body, lines ending in CRLF, no bare CR or LF, not dot-stuffed; or the two apart
        wishes   what the caller asks for; None reads the X-Relay-* fields
        dropped  recipients that were refused before, whom the ledger shall name as suppressed
        facts    what the ledger shall keep beside what policies learn
        asked    the caller asks the suppression list itself, for many recipients at once and in the transaction that keeps them
        """
        now = self.clock.now()
        fields, body = header.split(content) if isinstance(content, bytes) else content
        fields, said = self._taken(fields, wishes is None and principal.kind in OBEYED, now)
        if said.template and self.fill is not None:
            fields, body = await self.fill(principal.project, fields, said)
        return await self._admit(Message(
            id=self.maker.next(), principal=principal, envelope=envelope, header=fields, body=body, origin=origin,
            wishes=wishes or said, received_at=now, dropped=tuple(dropped), facts=facts or {},
        ), asked)

    @property
    def prompt(self) -> bool:
        """Whether `judge_each` can be asked: the admit chain waits for nobody outside."""
        return self.admit.prompt

    async def judge_each(self, principal: Principal, brought: Sequence[Brought], origin: Origin) -> list[Message | RelayError]:
        """What `judge` gives for each of many, or what it raises; they go from policy to policy together, at half the cost."""
        now = self.clock.now()
        entered = [self._entered(principal, each, origin, now) for each in brought]
        try:
            judged = iter(await eager.within(PATIENCE, self.admit.apply_each([each for each in entered if isinstance(each, Message)])))
        except TimeoutError:
            return [each if isinstance(each, RelayError) else Defer(SLOW) for each in entered]
        return [next(judged) if isinstance(each, Message) else each for each in entered]

    def _entered(self, principal: Principal, brought: Brought, origin: Origin, now: float) -> Message | RelayError:
        try:
            fields, _ = self._taken(brought.content[0], False, now)
        except RelayError as error:
            return error
        return Message(
            id=self.maker.next(), principal=principal, envelope=brought.envelope, header=fields, body=brought.content[1], origin=origin,
            wishes=brought.wishes, received_at=now, dropped=tuple(brought.dropped), facts=dict(brought.facts))

    def _taken(self, fields: header.Header, obey: bool, now: float) -> tuple[header.Header, Wishes]:
        """The header without what it asks of us, and what that is; raises Refuse for mail that comes round again."""
        fields, said = take(fields, obey, now)
        if self.tokens is not None and traces.looped(self.tokens.read, fields):
            raise Refuse(traces.LOOP)
        return fields, said

    async def keep(self, admitted: Sequence[Message]) -> Receipt:
        """A Receipt once they are durable."""
        receipt, = await self.keep_many((admitted,))
        if isinstance(receipt, RelayError):
            raise receipt
        return receipt

    async def keep_many(self, submissions: Sequence[Sequence[Message]]) -> list[Receipt | RelayError]:
        """For each submission a Receipt once it is durable, or why it is not; they go to the disk together and fail alone."""
        if self.commit_each is None or len(submissions) < 2:
            answers = [await self._committed(admitted) for admitted in submissions]
        else:
            try:
                answers = await self.commit_each(submissions)
            except RelayError as error:
                answers = [error] * len(submissions)
        return [Receipt(self.told(admitted[0]), admitted[0]) if answer == admitted[0].id else await self._not_kept(admitted, answer)
                for admitted, answer in zip(submissions, answers, strict=True)]

    async def _committed(self, admitted: Sequence[Message]) -> int | RelayError:
        try:
            return await self.commit(admitted)
        except RelayError as error:
            return error

    async def _not_kept(self, admitted: Sequence[Message], committed: int | RelayError) -> Receipt | RelayError:
        """The receipt of the message that had its key before, or why there is none."""
        await self.let_go(admitted)
        if isinstance(committed, RelayError):
            return committed
        return Receipt(self.told(admitted[0], committed), admitted[0], replayed=True)

    @staticmethod
    def told(first: Message, committed: int = 0) -> str:
        """The public id of a message that is durable now, counted and logged; `committed` is the id it was found under, its own if not said."""
        name, envelope, origin, size = ids.public("em", committed or first.id), first.envelope, first.origin, first.size
        RECEIVED.counts[origin.protocol, TENANTS.label(_tenant(first.principal.project))] += 1
        SIZES.observe(size)
        LOG.info("accepted", id=name, project=first.principal.project, protocol=origin.protocol, sender=envelope.sender,
                 recipients=len(envelope.recipients), size=size, client=origin.client)
        return name

    async def let_go(self, admitted: Sequence[Message]) -> None:
        """Policies take back what these messages used up (places under a limit): they are not kept."""
        for message in admitted:
            await self.admit.undo(message)

    async def _admit(self, message: Message, asked: bool) -> Sequence[Message]:
        chain = self.system if message.principal.kind == "system" else self.admit.without("suppress") if asked else self.admit
        try:
            admitted = await eager.within(PATIENCE, chain.apply(message))
        except TimeoutError:
            raise Defer(SLOW) from None
        return admitted or (replace(message, envelope=replace(message.envelope, recipients=())),)
