"""A desk that decides by what it reads in the addresses and the message, and remembers what it was asked."""

from __future__ import annotations

import asyncio

from relay.errors import Defer, Refuse, StoreError
from relay.mail.message import Envelope, Principal, Recipient
from relay.mail.reply import Reply
from relay.smtp.desk import Session

KEY = Principal("key", 1, 7)
UNKNOWN = Reply(550, "5.1.1", "no such user")
NOT_YOURS = Reply(550, "5.7.1", "not a domain of this key")


class Desk:
    """The password "good" is right. Local parts say what happens: `refused`, `later` (after a wait), `laterrefused`, `fault`, `crash`.

    A message with a line "X-Desk: refuse|defer|crash|wait" meets that; `wait` lasts until `go` is set.
    """

    def __init__(self):
        self.log: list[str] = []
        self.contents: list[bytes] = []
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()

    async def authenticate(self, session: Session, mechanism: str, username: str, password: str) -> Principal | None:
        self.log.append(f"authenticate {mechanism} {username} {session.with_}")
        if password == "fault":
            raise StoreError
        if password == "crash":
            raise RuntimeError("secret words that no client may read")
        if username == "later":
            await asyncio.sleep(0)
        return KEY if password == "good" else None

    def sender(self, session: Session, envelope: Envelope):
        said = f"body={envelope.body} utf8={envelope.smtputf8} ret={envelope.ret} envid={envelope.envid} size={envelope.size}"
        self.log.append(f"sender <{envelope.sender}> {said}")
        return self._verdict(envelope.sender, NOT_YOURS)

    def recipient(self, session: Session, envelope: Envelope, recipient: Recipient):
        self.log.append(f"recipient <{recipient.address}> key={recipient.key} domain={recipient.domain} notify={recipient.notify} orcpt={recipient.orcpt}")
        return self._verdict(recipient.address, UNKNOWN)

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        to = ",".join(r.address for r in envelope.recipients)
        self.log.append(f"message <{envelope.sender}> to {to} with {session.with_} helo {session.helo} {len(content)} octets {content[:60]!r}")
        if b"X-Desk: refuse" in content:
            raise Refuse(Reply(554, "5.7.1", "refused by the desk"))
        if b"X-Desk: defer" in content:
            raise Defer(Reply(451, "4.7.1", "not now"))
        if b"X-Desk: crash" in content:
            raise RuntimeError("secret words that no client may read")
        if b"X-Desk: wait" in content:
            self.waiting.set()
            await self.go.wait()
        self.sessions.append(session)
        self.envelopes.append(envelope)
        self.contents.append(content)
        return Reply(250, "2.0.0", f"queued as em_{len(self.contents):013d}")

    def _verdict(self, address: str, refusal: Reply):
        local = address.partition("@")[0]
        if local == "crash":
            raise StoreError
        if local in ("later", "laterrefused", "fault"):
            return self._later(local, refusal)
        return refusal if local == "refused" else None

    async def _later(self, local: str, refusal: Reply) -> Reply | None:
        await asyncio.sleep(0)
        if local == "fault":
            raise RuntimeError("secret words that no client may read")
        return refusal if local == "laterrefused" else None
