"""A scriptable SMTP server that accepts mail and keeps it, as fast as a test needs: the far side of every delivery in the tests.

    with Sink(Script(rcpt={"bob@x.test": "550 5.1.1 no such user"}, starttls=True)) as sink:
        ...deliver to ("127.0.0.1", sink.port)
        sink.wait(1); sink.messages[0].content

A reply is text without its CRLF; "\\n" inside makes it several lines; a list of replies is used up one by one, its last one stays; "" says nothing (a
tarpit) and "close" cuts the connection instead. What goes wrong is a field of Script, so that a scenario is one value and travels as JSON.

As a process: `python -m tests.support.sink --listen 127.0.0.1:2526 --script '{"dot": "451 4.3.0 later"}' --log FILE`, which prints the address it listens on
and writes a JSON line per message to FILE; it ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import IO

import trustme

from tests.support.thread import Threaded

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


@cache
def authority() -> trustme.CA:
    """The certificate authority of the tests."""
    return trustme.CA()


@cache
def certificate(*names: str) -> ssl.SSLContext:
    """A server context with a certificate of the tests' authority for these names or addresses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)
    return context


class Sink(Threaded):
    """The server. `messages`, `count`, `opened`, `open_now`, `most_open`, `transcript` (verbs per connection) tell what happened."""

    def __init__(self, script: Script | None = None, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None):
        self.script = script or Script()
        self.host, self.port = host, port
        secure = self.script.starttls or self.script.implicit_tls
        self.context = context or (certificate(self.script.hostname, "localhost", "127.0.0.1") if secure else None)
        self.messages: list[Received] = []
        self.transcript: list[list[str]] = []
        self.count = self.opened = self.open_now = self.most_open = self.rejected = 0
        self.on_message: Callable[[Received], None] | None = None
        self._arrived = threading.Condition()
        self._used: dict[int, int] = {}
        self._sessions: set[_Session] = set()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def open(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, self.port))
        self.port = sock.getsockname()[1]
        tls = self.context if self.script.implicit_tls else None
        self._server = await asyncio.get_running_loop().create_server(lambda: _Session(self), sock=sock, backlog=1024, ssl=tls)

    async def shut(self) -> None:
        self._server.close()
        for session in list(self._sessions):
            session.transport.abort()

    def wait(self, count: int, within: float = 10.0) -> list[Received]:
        """The messages once there are `count`; raises TimeoutError naming how many came."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self.count >= count, within):
                raise TimeoutError(f"{self.count} of {count} messages came in {within} s")
        return self.messages

    async def arrived(self, count: int, within: float = 10.0) -> list[Received]:
        """`wait` for a test on an event loop of its own."""
        return await asyncio.to_thread(self.wait, count, within)

    def took(self, message: Received | None) -> None:
        with self._arrived:
            self.count += 1
            if message is not None:
                self.messages.append(message)
            self._arrived.notify_all()
        if message is not None and self.on_message:
            self.on_message(message)

    def reply(self, replies: Replies) -> str:
        """The next of these replies."""
        if isinstance(replies, str):
            return replies
        used = self._used.get(id(replies), 0)
        self._used[id(replies)] = used + 1
        return replies[min(used, len(replies) - 1)]


class _Session(asyncio.Protocol):
    def __init__(self, sink: Sink):
        self.sink, self.script = sink, sink.script
        self.buffer = bytearray()
        self.in_data = self.upgrading = self.busy = False
        self.helo = self.tls = self.user = ""
        self.pending: list[Callable[[bytes], None]] = []
        self.taken = self.dropped = 0
        self.reset()

    def reset(self) -> None:
        self.sender: str | None = None
        self.recipients: list[str] = []
        self.mail_parameters, self.rcpt_parameters = "", []

    # connection

    def connection_made(self, transport) -> None:
        self.transport = transport
        if self.upgrading:
            return
        sink = self.sink
        sink.opened += 1
        self.number = sink.opened
        self.log: list[str] = []
        if self.script.keep:
            sink.transcript.append(self.log)
        sink.open_now += 1
        sink.most_open = max(sink.most_open, sink.open_now)
        sink._sessions.add(self)
        self.client = (transport.get_extra_info("peername") or ("",))[0]
        self._secured()
        if self.script.connections and sink.open_now > self.script.connections:
            sink.rejected += 1
            self.say(self.script.busy)
            self.transport.close()
            return
        self.answer("greeting", sink.reply(self.script.greeting) or f"220 {self.script.hostname} ESMTP sink")

    def connection_lost(self, exc) -> None:
        self.sink.open_now -= 1
        self.sink._sessions.discard(self)

    def _secured(self) -> None:
        secure = self.transport.get_extra_info("ssl_object")
        self.tls = f"{secure.version()} {secure.cipher()[0]}" if secure else ""

    def say(self, text: str) -> None:
        if text == CUT:
            self.transport.abort()
        elif text:
            lines = text.split("\n")
            for line in lines[:-1]:
                self.transport.write(line.encode("utf-8", "surrogateescape") + b"\r\n")
            self.transport.write(lines[-1].encode("utf-8", "surrogateescape") + b"\r\n")

    def answer(self, phase: str, text: str) -> None:
        """Say it, after the delay of this phase; what the client sends meanwhile waits."""
        delay = self.script.delays.get(phase)
        if not delay:
            self.say(text)
            return
        self.busy = True
        asyncio.get_running_loop().call_later(delay, self._late, text)

    def _late(self, text: str) -> None:
        self.busy = False
        if not self.transport.is_closing():
            self.say(text)
            self.work()

    # octets

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.upgrading or self.busy:
            return
        if self.script.strict_pipelining and not self.script.pipelining and not self.in_data and self.buffer.count(b"\n") > 1:
            self.say("503 5.5.0 pipelining was not offered")
            self.transport.close()
            return
        self.work()

    def work(self) -> None:
        while not self.busy and not self.upgrading and not self.transport.is_closing():
            if self.in_data:
                if not self.content():
                    return
                continue
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return
            line = bytes(self.buffer[:end])
            del self.buffer[: end + 2]
            if self.pending:
                self.pending.pop()(line)
            else:
                self.command(line.decode("utf-8", "surrogateescape"))

    def content(self) -> bool:
        buffer = self.buffer
        if self.script.drop_data and len(buffer) >= self.script.drop_data:
            self.transport.abort()
            return False
        if buffer.startswith(b".\r\n"):
            end, size = 0, 3
        else:
            end, size = buffer.find(b"\r\n.\r\n", max(0, self.scanned - 5)) + 2, 3
            if end == 1:
                self.scanned = len(buffer)
                return False
        wire = bytes(buffer[:end])
        del buffer[: end + size]
        self.in_data = False
        self.finish(wire)
        return True

    def finish(self, wire: bytes) -> None:
        text = self.sink.reply(self.script.dot)
        if text.startswith("2"):
            self.taken += 1
            if self.script.keep:
                content = wire[1:] if wire.startswith(b".") else wire
                content = content.replace(b"\r\n.", b"\r\n") if b"\r\n." in content else content
                self.sink.took(Received(self.sender or "", self.recipients, content, self.mail_parameters, self.rcpt_parameters, self.helo, self.client,
                                        self.tls, self.user, self.number, time.time()))
            else:
                self.sink.took(None)
        self.reset()
        self.answer("dot", text)
        if self.script.farewell:
            self.say(self.script.farewell)
            self.transport.close()

    # commands

    def command(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        verb = verb.upper()
        self.log.append(verb)
        act = _VERBS.get(verb)
        if act is None:
            self.say("500 5.5.2 unknown command")
        else:
            act(self, rest)

    def ehlo(self, rest: str) -> None:
        self.helo = rest
        self.reset()
        given = self.sink.reply(self.script.ehlo)
        self.answer("ehlo", given or "\n".join(self.offers()))

    def hello(self, rest: str) -> None:
        self.helo = rest
        self.say(f"250 {self.script.hostname}")

    def offers(self) -> list[str]:
        script = self.script
        words = list(script.extensions)
        words += ["PIPELINING"] * script.pipelining + ["8BITMIME"] * script.eightbit + ["SMTPUTF8"] * script.utf8 + ["DSN"] * script.dsn
        words += [f"SIZE {script.size}"] * bool(script.size) + ["STARTTLS"] * (script.starttls and not self.tls) + ["AUTH PLAIN LOGIN"] * bool(script.auth)
        lines = [script.hostname, *words]
        return [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]

    def mail(self, rest: str) -> None:
        if self.script.auth and not self.user:
            self.say("530 5.7.0 authenticate first")
        elif self.sender is not None:
            self.say("503 5.5.1 nested MAIL")
        elif self.script.per_connection and self.taken >= self.script.per_connection:
            self.say(self.script.enough)
            self.transport.close()
        else:
            text = self.sink.reply(self.script.mail)
            if text.startswith("2"):
                self.sender, self.mail_parameters = _path(rest)
            self.answer("mail", text)
            self._close_after(text)

    def rcpt(self, rest: str) -> None:
        if self.sender is None:
            self.say("503 5.5.1 MAIL first")
            return
        address, parameters = _path(rest)
        table = self.script.rcpt
        replies = table.get(address.lower()) or table.get(address.rpartition("@")[0]) or table.get("*") or "250 2.1.5 recipient fine"
        text = self.sink.reply(replies)
        if text.startswith("2"):
            self.recipients.append(address)
            self.rcpt_parameters.append(parameters)
        self.answer("rcpt", text)
        self._close_after(text)

    def data(self, rest: str) -> None:
        if self.sender is None or not self.recipients:
            self.say("503 5.5.1 RCPT first" if self.sender is None else "554 5.5.1 no valid recipients")
            return
        text = self.sink.reply(self.script.data)
        self.in_data = text.startswith("3")
        self.scanned = 0
        self.answer("data", text)
        self._close_after(text)

    def _close_after(self, text: str) -> None:
        if text.startswith("421"):
            self.transport.close()

    def rset(self, rest: str) -> None:
        self.reset()
        self.say(self.sink.reply(self.script.rset))

    def noop(self, rest: str) -> None:
        self.say(self.sink.reply(self.script.noop))

    def quit(self, rest: str) -> None:
        self.say(self.sink.reply(self.script.quit))
        self.transport.close()

    def starttls(self, rest: str) -> None:
        if not self.script.starttls or self.tls:
            self.say("502 5.5.1 not here")
            return
        if self.script.broken_tls:
            self.say("220 2.0.0 go ahead")
            self.transport.write(b"this is not TLS\r\n")
            self.transport.close()
            return
        self.upgrading = True
        self.buffer.clear()
        self.say("220 2.0.0 go ahead")
        self.task = asyncio.get_running_loop().create_task(self._upgrade())

    async def _upgrade(self) -> None:
        try:
            self.transport = await asyncio.get_running_loop().start_tls(self.transport, self, self.sink.context, server_side=True)
        except (OSError, ssl.SSLError):
            self.transport.abort()
            return
        self.upgrading = False
        self.reset()
        self._secured()
        self.work()

    def auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        if mechanism.upper() == "LOGIN":
            self.say("334 VXNlcm5hbWU6")
            self.pending.append(self._login_user)
        elif initial:
            self._check(base64.b64decode(initial).decode().split("\0")[1:])
        else:
            self.say("334 ")
            self.pending.append(lambda line: self._check(base64.b64decode(line).decode().split("\0")[1:]))

    def _login_user(self, line: bytes) -> None:
        self.say("334 UGFzc3dvcmQ6")
        self.pending.append(lambda password: self._check([base64.b64decode(line).decode(), base64.b64decode(password).decode()]))

    def _check(self, given: list[str]) -> None:
        if ":".join(given) == self.script.auth:
            self.user = given[0]
            self.say("235 2.7.0 welcome")
        else:
            self.say("535 5.7.8 wrong user or password")


_VERBS = {
    "EHLO": _Session.ehlo, "HELO": _Session.hello, "MAIL": _Session.mail, "RCPT": _Session.rcpt, "DATA": _Session.data, "RSET": _Session.rset,
    "NOOP": _Session.noop, "QUIT": _Session.quit, "STARTTLS": _Session.starttls, "AUTH": _Session.auth,
}


def _path(rest: str) -> tuple[str, str]:
    """Address and parameters of `FROM:<a@b> SIZE=1` or `TO:<...>`."""
    _, _, rest = rest.partition(":")
    path, _, parameters = rest.lstrip().partition("> ")
    return path.strip().removeprefix("<").removesuffix(">"), parameters


async def _serve(sink: Sink, log: IO[str] | None) -> None:
    if log is not None:
        sink.on_message = lambda message: print(json.dumps({**asdict(message), "content": message.content.decode("latin-1")}), file=log, flush=True)
    await sink.open()
    print(f"listening {sink.address}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--script", default="{}", help="fields of Script as JSON")
    parser.add_argument("--log", help="file that takes a JSON line per message")
    parser.add_argument("--count", action="store_true", help="keep nothing, only count")
    given = parser.parse_args()
    host, _, port = given.listen.rpartition(":")
    script = Script(**json.loads(given.script), **({"keep": False} if given.count else {}))
    log = open(given.log, "a", encoding="utf-8") if given.log else None  # noqa: SIM115 (it lives as long as the process)
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    run(_serve(Sink(script, host, int(port)), log))


if __name__ == "__main__":
    main()
