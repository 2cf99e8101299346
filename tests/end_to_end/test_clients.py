"""Real mail programs into a real relay process, out by MX lookup to a real Postfix: each message arrives once, as written, signed so that others agree."""

from __future__ import annotations

import os
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.end_to_end.world import SENDER, World
from tests.support import dkim, peers, postfix
from tests.support.running import ROOT

HERE = Path(__file__).parent / "clients"
MESSAGE = (
    "Date: Sat, 21 Nov 2026 08:00:00 +0000\r\nFrom: App <app@example.com>\r\nTo: Joe <%(to)s>\r\n"
    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= folded\r\n\tover two lines\r\nMessage-ID: <%(name)s@example.com>\r\n"
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-odd-CASE:   kept  \r\n"
    "\r\nHallo Jörg,  \r\n.\r\n..two dots\r\n\r\n%(name)s\r\n\r\n"
)

Client = Callable[[World, str, bytes], bytes | None]  # gives what it sent where that is a message of its own making


def message(world: World, to: str) -> bytes:
    return (MESSAGE % {"to": to, "name": f"{to.partition('@')[0]}"}).encode()


def run(command: list[str], octets: bytes = b"", **environ: str) -> bytes:
    done = subprocess.run(command, input=octets, capture_output=True, env={**os.environ, **environ}, check=False, timeout=150)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout


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
    with smtplib.SMTP(host, int(port), timeout=60) as line:
        line.starttls(context=ssl.create_default_context(cafile=str(world.authority)))
        line.login(user, key)
        assert line.sendmail(sender, [to], octets, ["BODY=8BITMIME"]) == {}


def python_implicit_tls(world: World, to: str, octets: bytes) -> None:
    port = int(world.relay.settings["RELAY_SMTP__SUBMISSIONS"].rpartition(":")[2])
    with smtplib.SMTP_SSL("localhost", port, timeout=60, context=ssl.create_default_context(cafile=str(world.authority))) as line:
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


def django(world: World, to: str, octets: bytes) -> bytes:
    return run([sys.executable, str(HERE / "send_django.py"), *world.words, to, str(world.authority)])


def phpmailer(world: World, to: str, octets: bytes) -> bytes:
    if not Path("/usr/share/php/libphp-phpmailer/autoload.php").exists():
        peers.absent("libphp-phpmailer")
    return run([peers.need("php"), str(HERE / "send.php"), *world.words, to, str(world.authority)]) + b"\r\n"  # what its SMTP class adds to what it shows


def sendmail(world: World, to: str, octets: bytes) -> None:
    local(world, octets, "-i", "-f", SENDER, to)


def sendmail_reads_recipients(world: World, to: str, octets: bytes) -> None:
    local(world, octets, "-t", "-i", "-f", SENDER)


def local(world: World, octets: bytes, *arguments: str) -> None:
    command = [sys.executable, "-m", "relay.cli.sendmail", *arguments]
    run(command, octets.replace(b"\r\n", b"\n"), PYTHONPATH=str(ROOT), RELAY_DATA_DIR=str(world.relay.directory))


def postfix_client(world: World, to: str, octets: bytes) -> None:
    with postfix.client("localhost", world.relay.smtp, "app", world.key, world.authority) as client:
        with smtplib.SMTP(client.host, client.port, timeout=60) as line:
            line.sendmail(SENDER, [to], octets, ["BODY=8BITMIME"])
        client.wait_log("status=sent .*queued as em_")


CLIENTS = [
    swaks, msmtp, nodemailer, python, python_implicit_tls, curl, perl, django, phpmailer, sendmail, sendmail_reads_recipients, postfix_client,
]
ON_TOP = ["dkim-signature", "dkim-signature", "relay-trace", "received"]
PUT_ON_TOP = {
    django: [*ON_TOP, "content-transfer-encoding"],  # its 8-bit multiparts do not say that they are
    postfix_client: [*ON_TOP, "received"],
}
ROWS = [("one", client) for client in CLIENTS] + [("workers", client) for client in CLIENTS] + [("postgres", client) for client in (python, swaks, sendmail)]


@pytest.mark.limit(400)
@pytest.mark.parametrize(("world", "client"), ROWS, ids=[f"{kind}-{client.__name__}" for kind, client in ROWS], indirect=["world"])
def test_a_message_arrives_once_and_unchanged(world, client: Client):
    to = world.address(client.__name__)
    given = message(world, to)
    original = client(world, to, given) or given
    mail = world.arrived(to)
    assert mail.sender == SENDER
    assert mail.sent.endswith(original), mail.sent.decode(errors="replace")
    assert names(mail.sent[:-len(original)]) == PUT_ON_TOP.get(client, ON_TOP)
    assert "TLSv1" in mail.received
    assert dkim.dkimpy(mail.sent, world.records) == [True, True]
    peers.need_perl("Mail::DKIM::Verifier")
    assert dkim.mail_dkim(mail.sent, world.records)[0] == ("pass", "rsa-sha256")


def names(header: bytes) -> list[str]:
    """The names of header fields, in their order."""
    return [line.partition(b":")[0].decode().lower() for line in header.split(b"\r\n") if line[:1] not in (b"", b"\t", b" ")]


def test_php_mail_through_sendmail(world):
    to = world.address("mail")
    command = f"{sys.executable} -m relay.cli.sendmail -t -i"
    code = f"exit(mail('{to}', 'from mail()', \"Hello\\n.\\nthere\\n\", \"From: app@example.com\", '-fapp@example.com') ? 0 : 1);"
    run([peers.need("php"), "-d", f"sendmail_path={command}", "-r", code], PYTHONPATH=str(ROOT), RELAY_DATA_DIR=str(world.relay.directory))
    assert world.arrived(to).sent.endswith(b"\r\n\r\nHello\r\n.\r\nthere\r\n\r\n")  # PHP ends each message with a line end of its own


@pytest.mark.parametrize("world", ["one", "workers"], indirect=True)
def test_many_recipients_of_one_message_each_get_it_once(world):
    host, port, user, key, sender = world.words
    written = EmailMessage()
    written["From"], written["To"], written["Subject"] = sender, "all@example.net", "all"
    written.set_content("hi")
    people = [world.address(f"all{n}") for n in range(30)]
    with smtplib.SMTP(host, int(port), timeout=60) as line:
        line.starttls(context=ssl.create_default_context(cafile=str(world.authority)))
        line.login(user, key)
        assert line.send_message(written, sender, people) == {}
    for name in people:
        world.arrived(name)


def test_explain_tells_what_became_of_it(world):
    to = world.address("explain")
    python(world, to, message(world, to))
    world.arrived(to)
    told = world.relay.run("explain", to).stdout
    for words in ("127.0.0.2", "mx.example.net", "TLS", "250"):
        assert words in told


@pytest.mark.parametrize("world", ["one", "workers"], indirect=True)
def test_mail_that_sendmail_took_while_we_were_down_is_sent_after(world):
    world.relay.kill()
    to = world.address("down")
    sendmail(world, to, message(world, to))
    assert len(list((world.relay.directory / "maildrop").glob("*.mail"))) == 1
    world.relay.start()
    assert world.arrived(to).sent.endswith(message(world, to))
    assert list((world.relay.directory / "maildrop").iterdir()) == []
