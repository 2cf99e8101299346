"""The submission desk: what the SMTP listener asks, answered by the door.

It turns a session into a principal (AUTH, a trusted network, a local user of sendmail), hands recipients to the admit chain at RCPT and the whole message to
the door after the final dot, and says under which id it was queued.
"""

from __future__ import annotations

from relay.errors import Refuse
from relay.mail.message import Envelope, Origin, Principal, Recipient
from relay.mail.reply import Reply
from relay.services import Doorkeeper
from relay.smtp.desk import Session
from relay.submission import Door

REVOKED = Reply(535, "5.7.8", "the API key of this session was revoked or changed, authenticate again")
UNKNOWN = Reply(530, "5.7.0", "authentication required")


class SubmissionDesk:
    """A desk for relay.smtp.server.Listener; `trusted` is the principal of trusted_networks."""

    def __init__(self, door: Door, keeper: Doorkeeper, trusted: Principal):
        self._door = door
        self._keeper = keeper
        self._trusted = trusted

    async def authenticate(self, session: Session, mechanism: str, username: str, password: str) -> Principal | None:
        return await self._keeper.principal(password)

    async def sender(self, session: Session, envelope: Envelope) -> Reply | None:
        if session.principal is None:
            return None if session.trusted else UNKNOWN
        return None if await self._keeper.still(session.principal) else REVOKED

    async def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> Reply | None:
        return await self._door.recipient(session.principal or self._trusted, envelope, recipient)

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        principal = session.principal or self._trusted
        if session.principal is None and not session.trusted:
            raise Refuse(UNKNOWN)
        origin = Origin("smtp", session.client, session.helo, session.with_, session.tls)
        receipt = await self._door.submit(principal, envelope, content, origin)
        return Reply(250, "2.0.0", f"{'had it already' if receipt.replayed else 'queued'} as {receipt.id}")
