"""The message on its way through Relay: who sends it, to whom, and its octets, all frozen.

A policy takes a Message and gives back Messages; nothing is edited in place. The header is a tuple of fields that keep their own octets, so a
message that nobody changed leaves byte for byte as it came (RFC 6409 §8 lets a submission server add, not rewrite).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from relay.mail.header import Header
from relay.mail.reply import Reply

TRANSACTIONAL = "transactional"
MARKETING = "marketing"


class Principal(Struct, frozen=True):
    """Who submits: an API key, a trusted network, a local user, or Relay itself.

    kind        "key" | "trusted" | "local" | "system" (our own DSNs; passes only `headers` and `dkim`)
    project     id of the project; nothing of another project is ever read or written for it
    permission  "full_access" | "sending_access"
    mode        "live" | "test" (a test key simulates the life of a message without SMTP)
    domain      the one domain that the key may send from, or ""
    """

    kind: str
    project: int
    key_id: int | None = None
    name: str = ""
    permission: str = "full_access"
    mode: str = "live"
    domain: str = ""


class Recipient(Struct, frozen=True):
    """One envelope recipient.

    address  as it goes on the wire
    key      normal form for comparing (relay.mail.address.key)
    domain   A-label, lower case
    notify   DSN request as given: "" (the default, failure), "NEVER", or a comma list of SUCCESS, FAILURE, DELAY (RFC 3461 §4.1)
    orcpt    original recipient as given, xtext-encoded with its type ("rfc822;a@b"), or ""
    """

    id: int
    address: str
    key: str
    domain: str
    notify: str = ""
    orcpt: str = ""


class Envelope(Struct, frozen=True):
    """What MAIL FROM said.

    sender      reverse-path without brackets, "" for the null one
    body        "7BIT" | "8BITMIME" | "BINARYMIME"
    ret, envid  RFC 3461 §4.3, §4.4: "FULL" | "HDRS" | "", and xtext as given
    size        what SIZE= declared, 0 if nothing
    """

    sender: str
    recipients: tuple[Recipient, ...] = ()
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    size: int = 0


class Origin(Struct, frozen=True):
    """Where it came in: protocol "smtp" | "sendmail" | "http" | "broadcast" | "workflow" | "dsn", and what the Received field tells (RFC 3848 `with`)."""

    protocol: str = "smtp"
    client: str = ""  # IP address
    helo: str = ""
    with_: str = ""  # "ESMTPSA" and so on
    tls: str = ""  # "TLSv1.3 cipher TLS_AES_256_GCM_SHA384", "" in the clear


class Wishes(Struct, frozen=True):
    """What the sender asked for this message, by X-Relay-* fields or API fields; None means: as the project or domain has it."""

    tags: tuple[str, ...] = ()
    topic: str = ""
    stream: str = TRANSACTIONAL
    unsubscribe: bool = False
    opens: bool | None = None
    clicks: bool | None = None
    template: str = ""
    variables: dict[str, Any] | None = None
    idempotency_key: str = ""
    idempotency_hours: int = 24
    send_at: float | None = None  # UTC seconds
    idempotency_hash: str = ""  # of the request that brought the key; "" = of sender, recipients and body
    retry: str = "standard"  # the table of relay.schedule that its failures are counted in: "standard" | "otp"
    footer: bool = True  # a marketing copy shows its way out in its text; one without it has it in its header alone


class Decision(Struct, frozen=True):
    """One line of the trace that `relay explain` prints: which policy did what, and why."""

    policy: str
    action: str  # "passed" | "changed" | "refused" | "deferred" | "dropped" | "skipped" | "warned"
    detail: str = ""


class Message(Struct, frozen=True):
    """A message between the door and the wire.

    header    its fields, in order, each with its own octets
    body      the octets after the empty line, lines ending in CRLF, not dot-stuffed
    dropped   recipients a policy took out, each with the reply that says why; they end as `suppressed`
    facts     what policies learnt and the ledger keeps (spam_score, spam_warnings, ...), JSON-able
    sealed    signed: any later edit raises
    """

    id: int
    principal: Principal
    envelope: Envelope
    header: Header
    body: bytes
    origin: Origin = Origin()
    wishes: Wishes = Wishes()
    received_at: float = 0.0
    dropped: tuple[tuple[Recipient, Reply], ...] = ()
    trace: tuple[Decision, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    sealed: bool = False

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        return self.envelope.recipients

    @property
    def size(self) -> int:
        """Octets on the wire, before dot-stuffing."""
        return self.header.size + 2 + len(self.body)

    def octets(self) -> bytes:
        """Header, empty line and body, as they go to the next hop before dot-stuffing."""
        return b"".join(self.pieces())

    def pieces(self) -> tuple[bytes, bytes]:
        """The octets as header with its empty line, and body, so that a large one need not be copied."""
        return b"".join((*self.header.raws(), b"\r\n")), self.body

    def with_header(self, header: Header, *why: Decision) -> Message:
        """The message with this header, and why in its trace; raises RuntimeError once sealed."""
        if self.sealed:
            raise RuntimeError("the message is signed and may not change")
        return replace(self, header=header, trace=(*self.trace, *why))

    def with_body(self, body: bytes) -> Message:
        """The message with this body; raises RuntimeError once sealed."""
        if self.sealed:
            raise RuntimeError("the message is signed and may not change")
        return replace(self, body=body)

    def with_recipients(self, recipients: Iterable[Recipient]) -> Message:
        """The message to these recipients only (a copy, or after a drop)."""
        return replace(self, envelope=replace(self.envelope, recipients=tuple(recipients)))

    def drop(self, recipient: Recipient, reply: Reply) -> Message:
        """The message without this recipient, who ends as suppressed with `reply` as the reason."""
        kept = self.with_recipients(r for r in self.recipients if r.id != recipient.id)
        return replace(kept, dropped=(*self.dropped, (recipient, reply)))

    def noted(self, policy: str, action: str, detail: str = "") -> Message:
        """The message with one more line in its trace."""
        return replace(self, trace=(*self.trace, Decision(policy, action, detail)))
