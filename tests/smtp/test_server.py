"""The listener on real sockets: what a dialog file cannot say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay.clock import Clock
from relay.metrics import REGISTRY
from relay.smtp import auth
from relay.smtp.auth import Guard
from relay.smtp.limits import Budget, Connections
from relay.smtp.server import Listener, ListenerOptions
from relay.smtp.tls import Certificate
from tests.smtp.desk import Desk
from tests.smtp.dialog import Client

TRUSTED = ListenerOptions("submission", "relay.test", trusted_networks=("127.0.0.0/8",))
SUBMISSION = ListenerOptions("submission", "relay.test")
INBOUND = ListenerOptions("inbound", "relay.test", plaintext_auth=())

pytestmark = pytest.mark.both_loops


@contextlib.asynccontextmanager
async def serving(options: ListenerOptions, desk: Desk | None = None) -> AsyncIterator[tuple[Listener, tuple[str, int]]]:
    # Counters of its own for each test: the defaults of the constants above are shared.
    options = replace(options, budget=Budget(), guard=options.guard if options.guard is not SUBMISSION.guard else Guard())
    if options.connections in (TRUSTED.connections, SUBMISSION.connections, INBOUND.connections):
        options = replace(options, connections=Connections())
    listener = Listener(desk or Desk(), options)
    address = await listener.start("127.0.0.1")
    try:
        yield listener, address
    finally:
        await listener.drain(1.0)


async def greeted(address: tuple[str, int]) -> Client:
    client = await Client.to(address)
    await client.hear()
    await client.ask(b"EHLO client")
    return client


async def send(client: Client, body: bytes) -> None:
    for command in (b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA"):
        assert (await client.ask(command))[:1] in (b"2", b"3")
    await client.say(body + b"\r\n.\r\n")


async def test_a_client_that_disconnects_after_the_dot_does_not_cancel_the_commit():
    desk = Desk()
    async with serving(TRUSTED, desk) as (listener, address):
        client = await greeted(address)
        await send(client, b"X-Desk: wait")
        await desk.waiting.wait()
        # A reset: an orderly close could as well be a half close, whose sender still listens.
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        while listener.open:
            await asyncio.sleep(0)
        assert desk.contents == []
        assert listener.options.budget.used > 0
        desk.go.set()
        assert await listener.drain(2.0) == 0
        assert desk.contents == [b"X-Desk: wait\r\n"]
        assert listener.options.budget.used == 0


async def test_a_half_closed_client_hears_of_a_commit_that_takes_time():
    desk = Desk()
    async with serving(TRUSTED, desk) as (_, address):
        client = await greeted(address)
        await send(client, b"X-Desk: wait")
        await desk.waiting.wait()
        client.writer.write_eof()
        desk.go.set()
        assert (await client.hear()).startswith(b"250 2.0.0 queued")
        assert await client.hear() == b""


async def test_commands_sent_during_a_commit_wait_for_it_and_are_bounded():
    desk = Desk()
    async with serving(TRUSTED, desk) as (listener, address):
        client = await greeted(address)
        await send(client, b"X-Desk: wait")
        await desk.waiting.wait()
        connection, = listener.open
        writing = asyncio.create_task(client.say(b"RSET\r\n" * 50 + b"NOOP " + b"x" * 400 + b"\r\n" + b"RCPT TO:<x>\r\n" * 400_000))
        while not connection._stopped:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(connection.engine.data) < 1_000_000
        assert not writing.done()
        desk.go.set()
        assert (await client.hear()).startswith(b"250 2.0.0 queued")
        assert (await client.hear()).startswith(b"250 2.0.0 ok")
        writing.cancel()


async def test_a_quiet_client_hears_421_and_a_slow_one_does_not():
    async with serving(replace(TRUSTED, idle=0.4)) as (_, address):
        quiet, slow = await greeted(address), await greeted(address)
        await send(slow, b"")  # the reply of which is read below
        for command in (b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>"):
            await slow.ask(command)
        await slow.hear()
        await slow.ask(b"DATA")
        quiet_heard = asyncio.create_task(quiet.hear())
        while not quiet_heard.done():  # slower than the limit in all, but never quiet for as long
            await slow.say(b"x")
            await asyncio.wait({quiet_heard}, timeout=0.05)
        assert quiet_heard.result().startswith(b"421 4.4.2")
        assert await quiet.hear() == b""
        await slow.say(b"\r\n.\r\n")
        assert (await slow.hear()).startswith(b"250")


async def test_a_client_that_waits_for_our_commit_is_not_idle():
    desk = Desk()
    async with serving(replace(TRUSTED, idle=0.1), desk) as (listener, address):
        client = await greeted(address)
        await send(client, b"X-Desk: wait")
        connection, = listener.open
        while connection.quiet < 40:
            await asyncio.sleep(0)
        desk.go.set()
        assert (await client.hear()).startswith(b"250")


async def test_a_client_that_does_not_read_is_cut_off():
    async with serving(replace(TRUSTED, idle=0.2)) as (listener, address):
        client = await greeted(address)
        connection, = listener.open
        connection.engine.errors = connection.engine.junk = -10**9
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(60):
                while listener.open:
                    client.writer.write(b"HELP\r\n" * 10_000)
                    await client.writer.drain()
        assert not listener.open


async def test_a_closing_listener_accepts_nobody_and_tells_the_idle():
    desk = Desk()
    async with serving(TRUSTED, desk) as (listener, address):
        idle, busy = await greeted(address), await greeted(address)
        await send(busy, b"X-Desk: wait")
        await desk.waiting.wait()
        draining = asyncio.create_task(listener.drain(5.0))
        assert (await idle.hear()).startswith(b"421 4.3.2")
        assert await idle.hear() == b""
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*address)
        assert not draining.done()
        desk.go.set()
        assert (await busy.hear()).startswith(b"250 2.0.0 queued")
        assert (await busy.hear()).startswith(b"421 4.3.2")
        assert await draining == 0


async def test_a_transaction_that_does_not_end_is_cut_when_the_time_is_over():
    async with serving(TRUSTED) as (listener, address):
        client = await greeted(address)
        await client.ask(b"MAIL FROM:<a@example.com>")
        assert await listener.drain(0.05) == 1
        with contextlib.suppress(ConnectionError):
            assert await client.hear() == b""


async def test_connections_of_an_unknown_address_are_bounded():
    async with serving(replace(INBOUND, connections=Connections(100, per_address=2))) as (listener, address):
        first, _second = await greeted(address), await greeted(address)
        third = await Client.to(address)
        assert (await third.hear()).startswith(b"421 4.7.0 too many connections from your address")
        assert await third.hear() == b""
        assert await first.ask(b"QUIT") == b"221 2.0.0 bye"
        assert await first.hear() == b""
        while len(listener.open) > 1:
            await asyncio.sleep(0)
        fourth = await Client.to(address)
        assert (await fourth.hear()).startswith(b"220")


async def test_a_client_that_has_authenticated_frees_its_place_among_the_unknown():
    doors = Connections(100, per_address=1)
    async with serving(replace(SUBMISSION, plaintext_auth=("127.0.0.0/8",), connections=doors)) as (_, address):
        client = await greeted(address)
        assert doors.unknown == 1
        assert (await client.ask(b"AUTH PLAIN AGFwaQBnb29k")).startswith(b"235")
        assert doors.unknown == 0
        assert doors.open == 1


class Hand:
    """A clock that stands still."""

    clock = Clock(elapsed=lambda: 1_000.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals of AUTH are not held back."""
    monkeypatch.setattr(auth, "DELAY", 0.001)
    monkeypatch.setattr(auth, "DELAY_MOST", 0.01)


@pytest.mark.usefixtures("quick")
async def test_an_address_that_apps_share_is_slowed_but_never_locked_out():
    guard = Guard(Hand.clock)
    async with serving(replace(SUBMISSION, guard=guard)) as (_, address):
        for _ in range(7):
            client = await greeted(address)
            assert (await client.ask(b"AUTH PLAIN AGFwaQB3cm9uZw==")).startswith(b"535 5.7.8")
        assert guard.delay("127.0.0.1") == auth.DELAY_MOST
        assert (await client.ask(b"AUTH PLAIN AGFwaQBnb29k")).startswith(b"235")
        assert guard.delay("127.0.0.1") == 0.0


@pytest.mark.usefixtures("quick")
async def test_the_fifth_failed_auth_locks_an_address_out(certificate: Certificate, trust: ssl.SSLContext):
    options = ListenerOptions("submissions", "relay.test", certificate=certificate, proxy_from=("127.0.0.0/8",), guard=Guard(Hand.clock))
    async with serving(options) as (_, address):
        assert [await attempt(address, trust, b"192.0.2.7", b"wrong") for _ in range(5)] == [b"535"] * 4 + [b"421"]
        assert await attempt(address, trust, b"192.0.2.7", b"good") == b"421"
        assert await attempt(address, trust, b"192.0.2.8", b"good") == b"235"


async def attempt(address: tuple[str, int], trust: ssl.SSLContext, source: bytes, password: bytes) -> bytes:
    """The code that AUTH is answered with, asked from this address."""
    client = await Client.to(address, trust)
    await client.say(b"PROXY TCP4 " + source + b" 127.0.0.1 4711 465\r\n")
    await client.secure()
    await client.hear()
    await client.ask(b"EHLO client")
    answer = await client.ask(b"AUTH PLAIN " + base64.b64encode(b"\0api\0" + password))
    client.close()
    return answer[:3]


async def test_a_refused_auth_is_answered_late(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auth, "DELAY", 0.2)
    async with serving(SUBMISSION) as (_, address):
        client = await greeted(address)
        await client.say(b"AUTH PLAIN AGFwaQB3cm9uZw==\r\nNOOP\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.hear()
        assert (await client.hear()).startswith(b"535")
        assert (await client.hear()).startswith(b"250")


@pytest.mark.parametrize(
    ("name", "trusted", "password", "answer"),
    [
        ("submission", False, b"", b"530"),
        ("submission", False, b"wrong", b"530"),
        ("submission", False, b"good", b"250"),
        ("submission", True, b"", b"250"),
        ("submissions", False, b"", b"530"),
        ("submissions", False, b"wrong", b"530"),
        ("submissions", False, b"good", b"250"),
        ("submissions", True, b"", b"250"),
    ],
)
@pytest.mark.usefixtures("quick")
async def test_nobody_submits_unproved(certificate: Certificate, trust: ssl.SSLContext, name: str, trusted: bool, password: bytes, answer: bytes):
    options = ListenerOptions(name, "relay.test", certificate=certificate, trusted_networks=("127.0.0.0/8",) if trusted else ())
    desk = Desk()
    async with serving(options, desk) as (_, address):
        client = await Client.to(address, trust, implicit=options.implicit_tls)
        await client.hear()
        await client.ask(b"EHLO client")
        if password:
            await client.ask(b"AUTH PLAIN " + base64.b64encode(b"\0api\0" + password))
        assert (await client.ask(b"MAIL FROM:<a@example.com>"))[:3] == answer
        assert (desk.log[-1:] == [] or desk.log[-1].startswith("authenticate")) == (answer == b"530")
        await client.ask(b"QUIT")


async def test_an_inherited_socket_is_served_without_nagle():
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # proto 0, as a socket rebuilt from a file descriptor may be
    sock.bind(("127.0.0.1", 0))
    listener = Listener(Desk(), TRUSTED)
    address = await listener.start(sock)
    client = await greeted(address)
    connection, = listener.open
    accepted = connection.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert await client.ask(b"QUIT") == b"221 2.0.0 bye"
    await listener.drain(1.0)


async def test_two_listeners_share_a_port():
    first, second = Listener(Desk(), TRUSTED), Listener(Desk(), TRUSTED)
    address = await first.start("127.0.0.1", 0, reuse_port=True)
    assert await second.start("127.0.0.1", address[1], reuse_port=True) == address
    await first.drain(1.0)
    client = await greeted(address)
    assert await client.ask(b"QUIT") == b"221 2.0.0 bye"
    await second.drain(1.0)


async def test_a_local_user_needs_no_password_because_the_kernel_names_him(tmp_path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(tmp_path / "submit.sock"))
    desk = Desk()
    listener = Listener(desk, ListenerOptions("local", "relay.test"))
    await listener.start(sock)
    client = Client(*await asyncio.open_unix_connection(str(tmp_path / "submit.sock")))
    assert (await client.hear()).startswith(b"220")
    await client.ask(b"EHLO client")
    assert (await client.ask(b"AUTH PLAIN AGFwaQBnb29k")).startswith(b"502")
    await send(client, b"text")
    assert (await client.hear()).startswith(b"250")
    assert desk.sessions[0].client == f"uid:{os.getuid()}"
    assert desk.sessions[0].trusted
    await listener.drain(1.0)


async def test_a_unix_socket_of_another_listener_trusts_nobody(tmp_path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(tmp_path / "smtp"))
    listener = Listener(Desk(), replace(SUBMISSION, connections=Connections()))
    await listener.start(sock)
    client = Client(*await asyncio.open_unix_connection(str(tmp_path / "smtp")))
    await client.hear()
    await client.ask(b"EHLO client")
    assert (await client.ask(b"MAIL FROM:<a@example.com>")).startswith(b"530")
    await listener.drain(1.0)


async def test_connections_are_counted():
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"relay_{name}", labels) or 0.0

    def counts() -> tuple[float, float]:
        return value("smtp_connections_total", listener="submission", result="ok"), value("smtp_connections_open", listener="submission")

    ended, opened = counts()
    async with serving(TRUSTED) as (_, address):
        client = await greeted(address)
        assert counts() == (ended, opened + 1)
        await client.ask(b"QUIT")
        await client.hear()
    assert counts() == (ended + 1, opened)


async def test_aiosmtpd_names_mean_the_same():
    desk = Desk()
    async with serving(TRUSTED, desk) as (listener, address):
        client = await greeted(address)
        await client.ask(b"MAIL FROM:<a@example.com>")
        connection, = listener.open
        assert connection.event_handler is desk
        assert connection.session.host_name == "client"
        assert connection.session.extended_smtp
        assert connection.session.peer[0] == "127.0.0.1"
        assert not connection.session.authenticated
        assert connection.envelope.sender == "a@example.com"
        assert (connection.hostname, connection.data_size_limit, connection.tls_context) == ("relay.test", 26_214_400, None)
        await client.ask(b"QUIT")


async def test_commands_and_transactions_are_counted():
    def counted() -> list[float]:
        commands = [("EHLO", "2xx"), ("RCPT", "2xx"), ("RCPT", "5xx"), ("DATA", "3xx"), ("DATA", "2xx"), ("other", "5xx"), ("QUIT", "2xx")]
        found = [REGISTRY.get_sample_value("relay_smtp_commands_total", {"verb": verb, "code_class": kind}) for verb, kind in commands]
        found += [REGISTRY.get_sample_value(f"relay_smtp_{name}_seconds_count") for name in ("data_commit", "transaction")]
        return [value or 0.0 for value in found]

    before = counted()
    async with serving(TRUSTED) as (_, address):
        client = await greeted(address)
        assert (await client.ask(b"RCPT TO:<b@example.org>"))[:1] == b"5"
        assert (await client.ask(b"JUMP"))[:1] == b"5"
        await send(client, b"Subject: x\r\n\r\nx")
        await client.hear()
        await client.ask(b"quit")
    assert [after - earlier for after, earlier in zip(counted(), before, strict=True)] == [1.0] * 9
