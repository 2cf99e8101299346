"""The submission desks: what the SMTP listener asks, answered by the door.

They turn a session into a principal (AUTH, a trusted network, a local user of sendmail), hand recipients to the admit chain at RCPT and the whole message to
the door after the final dot, and say under which id it was queued.
"""

from __future__ import annotations

import asyncio
import pwd
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from relay import eager
from relay.errors import Refuse
from relay.mail import address, local
from relay.mail.drop import Drop
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Origin, Principal, Recipient
from relay.mail.reply import Reply
from relay.services import Doorkeeper
from relay.smtp.desk import Session
from relay.submission import Door

Large = Callable[[], AbstractAsyncContextManager[Any]]
LARGE = 1_000_000  # octets from which messages go through the door one after the other: there each is in memory several times

REVOKED = Reply(535, "5.7.8", "the API key of this session was revoked or changed, authenticate again")
UNKNOWN = Reply(530, "5.7.0", "authentication required")


class SubmissionDesk:
    """A desk for relay.smtp.server.Listener.

    trusted  the principal of trusted_networks
    large    gives the context in which a large message goes through the door; one at a time without it
    quick    checks at MAIL and RCPT answer without waiting (SQLite, shipped policies), so they need no task; 10 us each instead of 40
    """

    def __init__(self, door: Door, keeper: Doorkeeper, trusted: Principal, quick: bool = False, large: Large | None = None):
        self.door = door  # SIGHUP puts a new one here
        self.quick = quick
        self._keeper = keeper
        self._trusted = trusted
        turn = asyncio.Semaphore(1)
        self._large = large or (lambda: turn)

    async def authenticate(self, session: Session, mechanism: str, username: str, password: str) -> Principal | None:
        return await self._keeper.principal(password)

    def sender(self, session: Session, envelope: Envelope) -> Reply | Awaitable[Reply | None] | None:
        if session.principal is None:
            return None if session.trusted else UNKNOWN
        return self._answer(self._still(session.principal))

    def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> Reply | Awaitable[Reply | None] | None:
        return self._answer(self.door.recipient(session.principal or self._trusted, envelope, recipient))

    async def _still(self, principal: Principal) -> Reply | None:
        return None if await self._keeper.still(principal) else REVOKED

    def _answer(self, question: Coroutine[Any, Any, Reply | None]) -> Reply | Awaitable[Reply | None] | None:
        return eager.begin(question)[1] if self.quick else question

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        principal = session.principal or self._trusted
        if session.principal is None and not session.trusted:
            raise Refuse(UNKNOWN)
        origin = Origin("smtp", session.client, session.helo, session.with_, session.tls)
        if len(content) < LARGE:
            receipt = await self.door.submit(principal, envelope, content, origin)
        else:
            async with self._large():
                receipt = await self.door.submit(principal, envelope, content, origin)
        return Reply(250, "2.0.0", f"{'had it already' if receipt.replayed else 'queued'} as {receipt.id}")


class LocalDesk:
    """The desk of sendmail(1): the credential is the local user, as the kernel names it, and the project is `default`.

    users     names that may submit, "*" = all ([sendmail] users)
    hostname  completes addresses without a domain
    """

    def __init__(self, door: Door, keeper: Doorkeeper, users: Sequence[str], hostname: str, maker: Maker):
        self.door, self._keeper, self._users, self._hostname, self._maker = door, keeper, users, hostname, maker

    async def authenticate(self, session: Session, mechanism: str, username: str, password: str) -> Principal | None:
        return None

    def sender(self, session: Session, envelope: Envelope) -> Reply | None:
        return self._refusal(_user(session.client))

    async def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> Reply | None:
        return await self.door.recipient(await self._principal(session.client), envelope, recipient)

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        origin = Origin("sendmail", helo=session.client, with_="LMTP" if session.helo == "" else session.with_)
        receipt = await self.door.submit(await self._principal(session.client), envelope, local.qualify(content, self._hostname), origin)
        return Reply(250, "2.0.0", f"queued as {receipt.id}")

    async def pick_up(self, uid: int, told: Drop, content: bytes) -> str:
        """The em_ id of a file of the maildrop, submitted as its owner's mail."""
        client = f"uid:{uid}"
        refusal = self._refusal(_user(client))
        if refusal is not None:
            raise Refuse(refusal)
        recipients = tuple(self._recipient(text, told.notify) for text in told.recipients)
        envelope = Envelope(told.sender, recipients, "8BITMIME", ret=told.ret, envid=told.envid)
        receipt = await self.door.submit(await self._principal(client), envelope, content, Origin("sendmail", helo=client))
        return receipt.id

    def _recipient(self, text: str, notify: str) -> Recipient:
        _, domain = address.parse(text, utf8=True)
        return Recipient(self._maker.next(), text, address.key(text), domain, notify)

    def _refusal(self, user: str) -> Reply | None:
        if "*" in self._users or user in self._users:
            return None
        return Reply(550, "5.7.1", f"{user} may not submit mail; [sendmail] users lists who may")

    async def _principal(self, client: str) -> Principal:
        return await self._keeper.local("local", _user(client))


def _user(client: str) -> str:
    """The login name of "uid:1000", or that text where the uid has none."""
    number = client.removeprefix("uid:")
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return client
