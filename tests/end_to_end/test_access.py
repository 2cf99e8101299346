"""Who may send, in a running relay: keys, networks, TLS, suppressed recipients. A change by a command counts at once, in open sessions and in workers too."""

from __future__ import annotations

import contextlib
import smtplib
import socket
from collections.abc import Iterator

import pytest

from tests.end_to_end.world import SENDER
from tests.support.running import Running
from tests.support.until import until

KINDS = pytest.mark.parametrize("world", ["one", "workers", "postgres"], indirect=True)
MESSAGE = b"From: app@example.com\r\nSubject: x\r\n\r\nhi\r\n"


@KINDS
@pytest.mark.parametrize("act", ["revoke", "rotate"])
def test_a_key_that_ends_is_dead_in_sessions_that_are_open(world, act):
    key = world.relay.key("--name", f"short {act}")
    (shown,) = [each for each in world.relay.command("key", "list") if each["name"] == f"short {act}"]
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(world.session(key)) for _ in range(6)]  # enough for both workers
        for line in lines:
            assert line.mail(SENDER)[0] == 250
            line.rset()
        world.relay.command("key", act, shown["id"])
        for line in lines:
            code, words = line.mail(SENDER)
            assert (code, words[:5]) == (535, b"5.7.8")
    with pytest.raises(smtplib.SMTPAuthenticationError), world.session(key):
        pass


@KINDS
def test_a_key_that_is_made_counts_at_once(world):
    for _ in range(4):
        with world.session(world.relay.key()) as line:
            assert line.mail(SENDER)[0] == 250


@KINDS
def test_a_key_of_one_domain_sends_from_it_only(world):
    key = world.relay.key("--domain", "example.com")
    world.send(world.address("restricted"), key=key)
    with pytest.raises(smtplib.SMTPResponseException) as refused, world.session(key) as line:
        line.sendmail("x@example.org", [world.address("restricted")], MESSAGE.replace(b"app@example.com", b"x@example.org"))
    assert refused.value.smtp_code == 550


@KINDS
def test_a_foreign_from_is_refused_with_the_way_out(world):
    with world.session() as line, pytest.raises(smtplib.SMTPDataError) as refused:
        line.sendmail(SENDER, [world.address("foreign")], MESSAGE.replace(b"app@example.com", b"boss@example.org"))
    words = refused.value.smtp_error.decode()
    assert refused.value.smtp_code == 550
    for part in ("example.org", "example.com", "relay domain add"):
        assert part in words


@KINDS
def test_a_suppressed_recipient_is_refused_as_soon_as_he_is(world):
    to = world.address("stopped")
    with world.session() as line:
        line.mail(SENDER)
        assert line.rcpt(to)[0] == 250
        world.relay.command("suppress", "add", to)
        assert line.rcpt(to)[0] == 550
        assert line.rcpt(world.address("other"))[0] == 250
        world.relay.command("suppress", "remove", to)
        assert line.rcpt(to)[0] == 250


@KINDS
def test_what_waits_for_a_suppressed_recipient_never_leaves(world):
    sink, to = world.far.sink, world.address("waits", "plain.test")
    sink.script.rcpt[to] = "451 4.2.0 come back later"
    world.send(to)
    world.told(to, "come back later")
    world.relay.command("suppress", "add", to)
    sink.script.rcpt[to] = "250 2.1.5 welcome"
    world.relay.run("queue", "retry", "--all")
    assert "suppressed" in world.told(to, "suppressed")
    assert [row for row in world.relay.command("queue", "list") if row.get("address") == to or row.get("recipient") == to] == []
    assert to not in [name for message in sink.messages for name in message.recipients]


@pytest.fixture(scope="module", params=[0, 2], ids=["one process", "two workers"])
def fenced(request, tmp_path_factory) -> Iterator[Running]:
    """A relay without certificate where 127.0.0.1 may AUTH in the clear, 127.0.0.3 needs no AUTH, and others may do neither."""
    settings = {
        "RELAY_SMTP__PLAINTEXT_AUTH": "127.0.0.1/32", "RELAY_SMTP__TRUSTED_NETWORKS": "127.0.0.3/32", "RELAY_DOMAINS__REQUIRE_VERIFIED": "false",
        "RELAY_DELIVERY__ROUTE": '[{domain = "*", host = "127.0.0.1:1"}]',
    }
    with Running(tmp_path_factory.mktemp("fenced"), settings, request.param) as relay:
        yield relay


def line_from(relay: Running, address: str) -> smtplib.SMTP:
    line = smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60, source_address=(address, 0))
    line.ehlo()
    return line


def test_auth_in_the_clear_is_for_some_networks_only(fenced):
    key = fenced.key()
    with line_from(fenced, "127.0.0.1") as line:
        assert not line.has_extn("starttls")
        assert line.login("app", key)[0] == 235
    with line_from(fenced, "127.0.0.2") as line:
        assert not line.has_extn("auth")
        code, words = line.docmd("AUTH", "PLAIN AGFwcABzZWNyZXQ=")
        assert code in (530, 538)
        assert b"5.7." in words
        assert line.mail("a@example.com")[0] == 530


def test_a_trusted_network_needs_no_auth(fenced):
    with line_from(fenced, "127.0.0.3") as line:
        line.sendmail("a@example.com", ["b@example.net"], MESSAGE)
    (waiting, *_) = until(lambda: fenced.command("queue", "list"))
    assert "127.0.0.3" in fenced.run("explain", "b@example.net").stdout
    assert waiting


def test_nothing_said_before_starttls_counts_after_it(world):
    """Plaintext that came with STARTTLS in one packet is discarded (CVE-2011-0411)."""
    with socket.create_connection(("127.0.0.1", world.relay.smtp), 30) as line:
        read = line.makefile("rb")
        read.readline()
        line.sendall(b"EHLO x\r\n")
        while read.readline()[3:4] == b"-":
            continue
        line.sendall(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")
        assert read.readline().startswith(b"220 ")
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(100)
