"""How a server of the tests behaves, and what it keeps of a message: values that travel as JSON.

A reply is text without its CRLF; "\\n" inside makes it several lines; a list of replies is used up one by one, its last one stays; "" says nothing (a
tarpit) and "close" cuts the connection instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CUT = "close"  # as a reply: close the connection instead
Replies = str | list[str]


@dataclass(slots=True)
class Script:
    """How the server behaves; everything has its friendly default.

    greeting, ehlo, mail, data, dot, rset, noop, quit   replies; `ehlo` replaces the whole answer, `dot` is what follows the final dot
    rcpt         replies by address (lower case) or local part; "*" for all others
    extensions   what EHLO offers beside what the fields below add
    size         SIZE that is offered, 0 for none; not enforced
    starttls     offer it; `broken_tls` answers 220 and then garbage; `implicit_tls` speaks TLS at once
    auth         "user:password" that AUTH takes (PLAIN and LOGIN); refused before it: MAIL
    delays       seconds before the answer to a phase: greeting ehlo mail rcpt data dot
    drop_data    close after this many octets of DATA
    connections  simultaneous ones; beyond, `busy` is the greeting
    per_connection   messages; the next MAIL gets `enough`
    farewell     said unasked after a message, then the connection is closed
    strict_pipelining   a client that sends more than one command at once without PIPELINING being offered is told 503 and cut
    keep         store messages (False: count them only)
    """

    hostname: str = "sink.test"
    greeting: Replies = ""
    ehlo: Replies = ""
    mail: Replies = "250 2.1.0 sender fine"
    rcpt: dict[str, Replies] = field(default_factory=dict)
    data: Replies = "354 go ahead"
    dot: Replies = "250 2.0.0 accepted"
    rset: Replies = "250 2.0.0 forgotten"
    noop: Replies = "250 2.0.0 here"
    quit: Replies = "221 2.0.0 bye"
    extensions: list[str] = field(default_factory=lambda: ["ENHANCEDSTATUSCODES"])
    pipelining: bool = True
    eightbit: bool = True
    utf8: bool = True
    dsn: bool = True
    size: int = 50_000_000
    starttls: bool = False
    broken_tls: bool = False
    implicit_tls: bool = False
    auth: str = ""
    delays: dict[str, float] = field(default_factory=dict)
    drop_data: int = 0
    connections: int = 0
    busy: str = "421 4.7.0 too many connections"
    per_connection: int = 0
    enough: str = "421 4.7.0 too many messages on this connection"
    farewell: str = ""
    strict_pipelining: bool = True
    keep: bool = True


@dataclass(slots=True)
class Received:
    """A message that was accepted: `content` with dots un-stuffed, `mail` and `rcpts` the parameters as sent, upper-cased keywords untouched."""

    sender: str
    recipients: list[str]
    content: bytes
    mail: str = ""
    rcpts: list[str] = field(default_factory=list)
    helo: str = ""
    client: str = ""
    tls: str = ""
    user: str = ""
    connection: int = 0
    at: float = 0.0
