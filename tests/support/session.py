"""The conversation of a scripted SMTP server (tests/support/sink.py): one protocol object a connection."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.support.script import CUT, Received

if TYPE_CHECKING:
    from tests.support.sink import Sink


class Session(asyncio.Protocol):
    """One connection to a sink, which counts it and hears of each message."""

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
    "EHLO": Session.ehlo, "HELO": Session.hello, "MAIL": Session.mail, "RCPT": Session.rcpt, "DATA": Session.data, "RSET": Session.rset,
    "NOOP": Session.noop, "QUIT": Session.quit, "STARTTLS": Session.starttls, "AUTH": Session.auth,
}


def _path(rest: str) -> tuple[str, str]:
    """Address and parameters of `FROM:<a@b> SIZE=1` or `TO:<...>`."""
    _, _, rest = rest.partition(":")
    path, _, parameters = rest.lstrip().partition("> ")
    return path.strip().removeprefix("<").removesuffix(">"), parameters
