"""Real mail programs into a real relay process, out by MX lookup to a real Postfix: each message arrives once, as it was written, signed so that others agree.

A DNS server of the tests says where example.net takes its mail: at Postfix on 127.0.0.2, with STARTTLS.
"""

from __future__ import annotations

import contextlib
import os
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme

from tests.support import dkim, peers, postfix
from tests.support.dns import DnsServer
from tests.support.ports import free_port
from tests.support.running import ROOT, Running

HERE = Path(__file__).parent / "clients"
SENDER = "app@example.com"
MESSAGE = (
    "Date: Sat, 21 Nov 2026 08:00:00 +0000\r\nFrom: App <app@example.com>\r\nTo: Joe <%(to)s>\r\n"
    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= folded\r\n\tover two lines\r\nMessage-ID: <%(name)s@example.com>\r\n"
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-odd-CASE:   kept  \r\n"
    "\r\nHallo Jörg,  \r\n.\r\n..two dots\r\n\r\n%(name)s\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class World:
    """A relay, the far Postfix, and what a client must know."""

    relay: Running
    mx: postfix.Postfix
    dns: DnsServer
    key: str
    authority: Path
    records: dict[str, str]  # TXT by name, as a verifier looks them up

    @property
    def words(self) -> list[str]:
        """HOST PORT USER KEY FROM, as the scripts of clients/ take them."""
        return ["localhost", str(self.relay.smtp), "app", self.key, SENDER]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    top = tmp_path_factory.mktemp("world")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(top / "ca.pem"))
    for name in ("localhost", "mx.example.net"):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(top / f"{name}.pem"))
    zones = {"example.net": {"MX": "10 mx.example.net."}, "mx.example.net": {"A": "127.0.0.2"}}
    port = free_port("127.0.0.2")
    with contextlib.ExitStack() as stack:
        dns = stack.enter_context(DnsServer(zones))
        mx = stack.enter_context(postfix.mx(["example.net"], "127.0.0.2", port, top / "mx.example.net.pem"))
        settings = {
            "RELAY_SMTP__TLS_CERT": str(top / "localhost.pem"), "RELAY_SMTP__TLS_KEY": str(top / "localhost.pem"), "RELAY_DNS__NAMESERVERS": dns.address,
            "RELAY_SMTP__SUBMISSIONS": f"127.0.0.1:{free_port()}", "RELAY_DELIVERY__PORT": str(port), "RELAY_DELIVERY__ALLOW_PRIVATE": "true",
            "RELAY_DOMAINS__REQUIRE_VERIFIED": "false",
        }
        (top / "data").mkdir()
        relay = stack.enter_context(Running(top / "data", settings))
        relay.run("domain", "add", "example.com")
        (domain,) = relay.command("domain", "list")
        records = {record["name"].rstrip("."): record["value"] for record in domain["dns_records"] if record["type"] == "TXT"}
        yield World(relay, mx, dns, relay.key(), top / "ca.pem", records)


def run(command: list[str], octets: bytes = b"", **environ: str) -> str:
    done = subprocess.run(command, input=octets, capture_output=True, env={**os.environ, **environ}, check=False, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout.decode(errors="replace")


Client = Callable[[World, str, bytes], None]


def swaks(world: World, to: str, octets: bytes) -> None:
    path = world.relay.directory / "swaks.eml"
    path.write_bytes(octets.removesuffix(b"\r\n"))  # swaks adds one
    host, port, user, key, sender = world.words
    login = ["--auth", "LOGIN", "--auth-user", user, "--auth-password", key]
    run([peers.need("swaks"), "--server", host, "--port", port, "--tls", *login, "--from", sender, "--to", to, "--data", str(path)])


def msmtp(world: World, to: str, octets: bytes) -> None:
    host, port, user, key, sender = world.words
    tls = ["--tls=on", "--tls-starttls=on", f"--tls-trust-file={world.authority}"]
    login = ["--auth=plain", f"--user={user}", f"--passwordeval=printf %s {key}"]
    command = [peers.need("msmtp"), "--file=/dev/null", f"--host={host}", f"--port={port}", *tls, *login, f"--from={sender}", "--", to]
    run(command, octets.replace(b"\r\n", b"\n"))


def nodemailer(world: World, to: str, octets: bytes) -> None:
    if not (ROOT / ".peers/node_modules/nodemailer").exists():
        peers.absent("nodemailer")
    run([peers.need("node"), str(HERE / "send.mjs"), *world.words, to, str(world.authority)], octets, PEERS=str(ROOT / ".peers"))


def python(world: World, to: str, octets: bytes) -> None:
    host, port, user, key, sender = world.words
    with smtplib.SMTP(host, int(port), timeout=30) as line:
        line.starttls(context=ssl.create_default_context(cafile=str(world.authority)))
        line.login(user, key)
        assert line.sendmail(sender, [to], octets, ["BODY=8BITMIME"]) == {}


def python_implicit_tls(world: World, to: str, octets: bytes) -> None:
    port = int(world.relay.settings["RELAY_SMTP__SUBMISSIONS"].rpartition(":")[2])
    with smtplib.SMTP_SSL("localhost", port, timeout=30, context=ssl.create_default_context(cafile=str(world.authority))) as line:
        line.login("any name at all", world.key)
        line.sendmail(SENDER, [to], octets, ["BODY=8BITMIME"])


def curl(world: World, to: str, octets: bytes) -> None:
    host, port, user, key, sender = world.words
    tls = ["--ssl-reqd", "--cacert", str(world.authority)]
    command = [peers.need("curl"), "--silent", "--show-error", "--url", f"smtp://{host}:{port}", *tls, "--user", f"{user}:{key}"]
    run([*command, "--mail-from", sender, "--mail-rcpt", to, "--upload-file", "-"], octets)


def perl(world: World, to: str, octets: bytes) -> None:
    peers.need_perl("IO::Socket::SSL")
    run([peers.need_perl("Authen::SASL"), str(HERE / "send.pl"), *world.words, to, str(world.authority)], octets.replace(b"\r\n", b"\n"))


def sendmail(world: World, to: str, octets: bytes) -> None:
    command = [sys.executable, "-m", "relay.cli.sendmail", "-i", "-f", SENDER, to]
    run(command, octets.replace(b"\r\n", b"\n"), PYTHONPATH=str(ROOT), RELAY_DATA_DIR=str(world.relay.directory))


def postfix_client(world: World, to: str, octets: bytes) -> None:
    with postfix.client("localhost", world.relay.smtp, "app", world.key, world.authority) as client:
        with smtplib.SMTP(client.host, client.port, timeout=30) as line:
            line.sendmail(SENDER, [to], octets, ["BODY=8BITMIME"])
        client.wait_log("status=sent .*queued as em_")


CLIENTS = [swaks, msmtp, nodemailer, python, python_implicit_tls, curl, perl, sendmail, postfix_client]


@pytest.mark.limit(120)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_message_arrives_once_and_unchanged(world, client: Client):
    to = f"{client.__name__}@example.net"
    original = (MESSAGE % {"to": to, "name": client.__name__}).encode()
    client(world, to, original)
    mail = arrived(world, to)
    assert mail.sender.endswith("example.com")
    signed = mail.sent
    if client is postfix_client:  # it has put its own trace on top before it came to us
        assert signed.endswith(original)
    else:
        header = signed[: len(signed) - len(original)]
        assert signed.endswith(original), signed.decode(errors="replace")
        assert {line.split(b":")[0].lower() for line in header.split(b"\r\n") if line[:1] not in (b"", b"\t", b" ")} == {b"received", b"dkim-signature"}
    assert "TLSv1" in mail.received
    assert dkim.dkimpy(signed, world.records) == [True, True]
    peers.need_perl("Mail::DKIM::Verifier")
    assert dkim.mail_dkim(signed, world.records)[0] == ("pass", "rsa-sha256")


def arrived(world: World, to: str) -> postfix.Mail:
    """The one message for this address, once the relay has nothing more for it."""
    world.mx.wait_log(rf"to=<{to}>.*status=sent")
    (mail,) = [mail for mail in world.mx.mails() if mail.recipient == to]
    return mail


def test_phpmailer_as_wordpress_uses_it(world):
    php = peers.need("php")
    if not Path("/usr/share/php/libphp-phpmailer/autoload.php").exists():
        peers.absent("libphp-phpmailer")
    run([php, str(HERE / "send.php"), *world.words, "php@example.net", str(world.authority)])
    mail = arrived(world, "php@example.net")
    assert dkim.dkimpy(mail.sent, world.records) == [True, True]
    assert b"Hello\r\n.\r\n..from PHP" in mail.sent


def test_php_mail_through_sendmail(world):
    command = f"{sys.executable} -m relay.cli.sendmail -t -i"
    code = "exit(mail('mail@example.net', 'from mail()', \"Hello\\n.\\nthere\\n\", \"From: app@example.com\") ? 0 : 1);"
    run([peers.need("php"), "-d", f"sendmail_path={command}", "-r", code], PYTHONPATH=str(ROOT), RELAY_DATA_DIR=str(world.relay.directory))
    mail = arrived(world, "mail@example.net")
    assert mail.sent.endswith(b"\r\n\r\nHello\r\n.\r\nthere\r\n\r\n")  # PHP ends each message with a line end of its own


def test_many_recipients_of_one_message_each_get_it_once(world):
    host, port, user, key, sender = world.words
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, "all@example.net", "all"
    message.set_content("hi")
    names = [f"all{n}@example.net" for n in range(30)]
    with smtplib.SMTP(host, int(port), timeout=30) as line:
        line.starttls(context=ssl.create_default_context(cafile=str(world.authority)))
        line.login(user, key)
        refused = line.send_message(message, sender, [*names, "nobody@example.net"])
    assert refused == {}
    world.mx.wait_log(rf"to=<{names[-1]}>.*status=sent")
    for name in names:
        arrived(world, name)


def test_explain_tells_what_became_of_it(world):
    original = (MESSAGE % {"to": "explain@example.net", "name": "explain"}).encode()
    python(world, "explain@example.net", original)
    arrived(world, "explain@example.net")
    told = world.relay.run("explain", "explain@example.net").stdout
    for words in ("127.0.0.2", "mx.example.net", "TLS", "250"):
        assert words in told


def test_mail_that_sendmail_took_while_we_were_down_is_sent_after(world):
    """Also when the relay is killed again and again around its pickup: the key in the message keeps it single."""
    world.relay.kill()
    original = (MESSAGE % {"to": "down@example.net", "name": "down"}).encode()
    sendmail(world, "down@example.net", original)
    assert len(list((world.relay.directory / "maildrop").glob("*.mail"))) == 1
    world.relay.start()
    mail = arrived(world, "down@example.net")
    assert mail.sent.endswith(original)
    assert list((world.relay.directory / "maildrop").iterdir()) == []
