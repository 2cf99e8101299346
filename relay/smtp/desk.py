"""The desk: whom the listener asks, and the session that it tells of.

The listener knows SMTP and nothing of projects, queues or policies; what it may accept it asks a desk, and answers what the desk says. A desk decides
by returning a Reply (None is yes) or by raising an error of relay.errors, whose reply the client hears; any other exception is a 451 and a log line.

Order of calls: `authenticate` any time before MAIL; `sender` at MAIL; `recipient` at each RCPT; `message` once, when all octets are there and are sound.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from relay.mail.message import Envelope, Principal, Recipient
from relay.mail.reply import Reply

_WITH = {  # RFC 3848: extended, TLS, authenticated
    (False, False, False): "SMTP",
    (False, True, False): "SMTPS",
    (False, False, True): "SMTPA",
    (False, True, True): "SMTPSA",
    (True, False, False): "ESMTP",
    (True, True, False): "ESMTPS",
    (True, False, True): "ESMTPA",
    (True, True, True): "ESMTPSA",
}


class Session:
    """One connection as a desk sees it.

    client, port    of the client, or what PROXY said; "uid:1000" and 0 for a local user on a Unix socket
    helo            what EHLO or HELO said, "" before
    extended        it was EHLO
    tls             "TLSv1.3 cipher TLS_AES_256_GCM_SHA384", "" in the clear
    principal       whom AUTH proved, None before
    listener        "submission" | "submissions" | "inbound" | "local"
    trusted         the client is in trusted_networks, or a local user, and may submit without AUTH
    plaintext_auth  the client may AUTH without TLS
    notes           the desk's own, kept as long as the connection
    """

    __slots__ = ("client", "extended", "helo", "listener", "notes", "plaintext_auth", "port", "principal", "tls", "trusted")

    def __init__(self, client: str, port: int, listener: str, trusted: bool = False, plaintext_auth: bool = False, tls: str = ""):
        self.client = client
        self.port = port
        self.listener = listener
        self.trusted = trusted
        self.plaintext_auth = plaintext_auth
        self.tls = tls
        self.helo = ""
        self.extended = False
        self.principal: Principal | None = None
        self.notes: Any = None

    @property
    def known(self) -> bool:
        """Somebody answers for this client: it has authenticated or its network is trusted."""
        return self.principal is not None or self.trusted

    @property
    def with_(self) -> str:
        """The `with` keyword of the Received field (RFC 3848)."""
        return _WITH[self.extended, self.tls != "", self.principal is not None]

    # The names that aiosmtpd's Session has for the same.

    @property
    def peer(self) -> tuple[str, int]:
        return self.client, self.port

    @property
    def host_name(self) -> str:
        return self.helo

    @property
    def extended_smtp(self) -> bool:
        return self.extended

    @property
    def authenticated(self) -> bool:
        return self.principal is not None


class Desk(Protocol):
    """What the listener asks.

    `sender` and `recipient` may answer at once or by an awaitable; at once costs no task, so answer so where there is nothing to wait for. An awaitable
    runs in a task that the end of the connection does not cancel.
    """

    async def authenticate(self, session: Session, mechanism: str, username: str, password: str) -> Principal | None:
        """Whom the credential proves, None if nobody. Asked for every AUTH; an answer is never kept for another session."""

    def sender(self, session: Session, envelope: Envelope) -> Reply | Awaitable[Reply | None] | None:
        """A refusal of this MAIL, or None."""

    def recipient(self, session: Session, envelope: Envelope, recipient: Recipient) -> Reply | Awaitable[Reply | None] | None:
        """A refusal of this RCPT, or None. `envelope` is that of MAIL: it does not list the recipients accepted before."""

    async def message(self, session: Session, envelope: Envelope, content: bytes) -> Reply:
        """The answer to the final dot, given only after the commit; the text of its 250 ends in the em_ id.

        content  the octets, lines ending in CRLF, not dot-stuffed, free of bare CR, bare LF and NUL, no line over 998 octets
        """
