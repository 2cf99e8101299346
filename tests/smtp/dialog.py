"""Dialogs: what a client says and must hear, one file a behaviour.

    # words for the reader
    options: inbound trusted tls max_size=1000     how the listener is set up (see `options`)
    S: 220 relay\\.test                             a line from the server: a regular expression, matched from its start
    C: EHLO client.example                         a line to the server; lines that follow each other travel in one packet
    c: MAIL FROM:<a\\n                              octets as Python writes them, without CRLF of their own
    S: <closed>                                    the server has closed
    D: message <a@example.com>                     the last thing that the desk was asked; "D: <nothing>" if nothing
    TLS                                            the client begins TLS
    EOF                                            the client sends its last octet (half close)
"""

from __future__ import annotations

import ast
import asyncio
import re
import ssl
from dataclasses import replace
from pathlib import Path

from relay.smtp.limits import Budget
from relay.smtp.server import Listener, ListenerOptions
from relay.smtp.tls import Certificate
from tests.smtp.desk import Desk
from tests.support.until import PATIENCE

DIALOGS = sorted((Path(__file__).parent / "dialogs").glob("*.txt"))


def options(text: str, certificate: Certificate) -> ListenerOptions:
    """The options that words like "inbound trusted max_size=1000" mean; clients may not AUTH in the clear unless "clear" says so."""
    made = ListenerOptions("submission", "relay.test", plaintext_auth=())
    for word in text.split():
        name, _, value = word.partition("=")
        if name in ("submission", "submissions", "inbound"):
            made = replace(made, name=name)
        elif name == "trusted":
            made = replace(made, trusted_networks=("127.0.0.0/8",))
        elif name == "clear":
            made = replace(made, plaintext_auth=("127.0.0.0/8",))
        elif name == "proxy":
            made = replace(made, proxy_from=("127.0.0.0/8",))
        elif name == "tls":
            made = replace(made, certificate=certificate)
        elif name == "budget":
            made = replace(made, budget=Budget(int(value)))
        else:
            made = replace(made, **{name: int(value)})
    return made


class Client:
    """A client's end, that says and hears lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trust: ssl.SSLContext | None = None):
        self.reader = reader
        self.writer = writer
        self.trust = trust

    @classmethod
    async def to(cls, address: tuple[str, int], trust: ssl.SSLContext | None = None, implicit: bool = False) -> Client:
        named = {"ssl": trust, "server_hostname": "relay.test"} if implicit else {}
        return cls(*await asyncio.open_connection(*address, **named), trust)

    async def say(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def hear(self) -> bytes:
        """A line, without its CRLF; b"" at the end."""
        async with asyncio.timeout(PATIENCE):
            line = await self.reader.readline()
        assert not line or line.endswith(b"\r\n"), line
        return line[:-2]

    async def reply(self) -> list[bytes]:
        """The lines of one reply."""
        lines = [await self.hear()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.hear())
        return lines

    async def ask(self, octets: bytes) -> bytes:
        """Say a line, hear the last line of its reply."""
        await self.say(octets + b"\r\n")
        return (await self.reply())[-1]

    async def secure(self) -> None:
        await self.writer.start_tls(self.trust, server_hostname="relay.test")

    def close(self) -> None:
        self.writer.close()


async def run(path: Path, certificate: Certificate, trust: ssl.SSLContext) -> None:
    """Play a dialog; raises AssertionError with file and line."""
    script = [(number, line) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip() and not line.startswith("#")]
    given = script.pop(0)[1].removeprefix("options:") if script[0][1].startswith("options:") else ""
    desk = Desk()
    listener = Listener(desk, options(given, certificate))
    address = await listener.start("127.0.0.1")
    client = await Client.to(address, trust, implicit="submissions" in given and "proxy" not in given)
    try:
        waiting = b""
        for number, line in script:
            kind, _, text = line.partition(": ")
            if kind in "Cc":
                waiting += text.encode() + b"\r\n" if kind == "C" else ast.literal_eval(f"b'''{text}'''")
                continue
            if waiting:
                await client.say(waiting)
                waiting = b""
            await _step(client, desk, kind.strip(":"), text, f"{path.name}:{number}")
    finally:
        client.close()
        await listener.drain(1.0)
    assert listener.options.budget.used == 0, f"{path.name}: bytes in flight that nobody holds"
    assert listener.options.connections.open == 0, f"{path.name}: a connection still counted"


async def _step(client: Client, desk: Desk, kind: str, text: str, where: str) -> None:
    if kind == "TLS":
        await client.secure()
    elif kind == "EOF":
        client.writer.write_eof()
    elif kind == "D":
        said = desk.log[-1] if desk.log else "<nothing>"
        assert re.match(text, said), f"{where}: the desk was asked {said!r}, not {text!r}"
    elif kind == "S":
        try:
            line = (await client.hear()).decode()
        except ConnectionError:
            line = ""
        assert re.match(text, line or "<closed>"), f"{where}: the server said {line!r}, not {text!r}"
    else:
        raise AssertionError(f"{where}: what is {kind!r}?")
