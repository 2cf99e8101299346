"""A real Postfix of the test's own: its own configuration, queue and ports, started and stopped by pid; as the far MX, or as a client that relays through us.

    with mx(["example.net"], "127.0.0.2", 25) as postfix:
        ...deliver...
        (mail,) = postfix.wait(1)
        mail.recipient, mail.content

    with client("127.0.0.1", relay_port, "app", key) as postfix:
        smtplib.SMTP("127.0.0.1", postfix.port)...

Postfix's master must be root; elsewhere the test counts as one that misses its peer.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.peers import absent, need
from tests.support.ports import free_port
from tests.support.until import PATIENCE

START = 60.0  # seconds until it accepts; about 1 on a quiet machine

MAIN = """\
compatibility_level = 3.6
queue_directory = {top}/queue
data_directory = {top}/data
maillog_file = {top}/log
maillog_file_prefixes = {top}
myhostname = {hostname}
mydestination =
alias_maps =
inet_interfaces = all
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtputf8_enable = yes
append_dot_mydomain = no
local_header_rewrite_clients =
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtpd_tls_security_level = {level}
smtpd_tls_chain_files = {chain}
smtpd_tls_received_header = yes
"""
MX = """\
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {top}/mail
virtual_mailbox_maps = regexp:{top}/etc/mailboxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
message_size_limit = 60000000
smtpd_relay_restrictions = reject_unauth_destination
"""
CLIENT = """\
relayhost = [{relay_host}]:{relay_port}
disable_dns_lookups = yes
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:{user}:{password}
smtp_sasl_security_options =
smtp_tls_security_level = {client_level}
smtp_tls_CAfile = {authority}
smtpd_relay_restrictions = permit_mynetworks, reject
"""
MASTER = """\
{host}:{port} inet n - n - - smtpd
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
virtual   unix  - n n -     - virtual
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Mail:
    """A message as Postfix delivered it: line ends are LF; Return-Path, Delivered-To and its own Received stand on top."""

    content: bytes

    @property
    def recipient(self) -> str:
        return re.search(rb"^Delivered-To: (.*)$", self.content, re.MULTILINE)[1].decode()

    @property
    def sender(self) -> str:
        """The reverse-path, "" for the null one."""
        return re.search(rb"^Return-Path: <(.*)>$", self.content, re.MULTILINE)[1].decode()

    @property
    def sent(self) -> bytes:
        """What the last client sent: without the three fields that Postfix put on top, lines ending in CRLF."""
        fields = re.match(rb"(?:(?:Return-Path|Delivered-To|X-Original-To):[^\n]*\n)*Received:[^\n]*\n(?:[ \t][^\n]*\n)*", self.content)
        return self.content[fields.end() if fields else 0:].replace(b"\n", b"\r\n")

    @property
    def received(self) -> str:
        """Postfix's own Received field, unfolded: who came, by which protocol, with which TLS."""
        return re.sub(r"\s+", " ", re.search(r"^Received:(.*\n(?:[ \t].*\n)*)", self.content.decode("utf-8", "replace"), re.MULTILINE)[1])


class Postfix:
    """A running instance; `host` and `port` are where its smtpd listens."""

    def __init__(self, top: Path, host: str, port: int):
        self.top = top
        self.host = host
        self.port = port

    @property
    def log(self) -> str:
        path = self.top / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def mails(self) -> list[Mail]:
        """What has arrived, oldest first."""
        paths = sorted((self.top / "mail/inbox/new").glob("*"), key=lambda path: path.stat().st_mtime_ns)
        return [Mail(content) for content in (path.read_bytes() for path in paths)]

    def wait(self, count: int, seconds: float = PATIENCE) -> list[Mail]:
        """The messages once there are `count`; raises TimeoutError with the end of Postfix's log."""
        deadline = time.monotonic() + seconds
        while len(found := self.mails()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} messages arrived; Postfix says:\n{self.log[-3000:]}")
            threading.Event().wait(0.02)
        return found

    def wait_log(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """The first match in Postfix's log, such as `status=sent`; raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.log)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {pattern!r} in Postfix's log:\n{self.log[-3000:]}")
            threading.Event().wait(0.02)
        return found


@contextmanager
def mx(
    domains: Sequence[str], host: str = "127.0.0.1", port: int = 0, chain: Path | None = None, unknown: Sequence[str] = ("nobody",),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Postfix]:
    """A Postfix that takes mail for any address of `domains` but the local parts in `unknown`, alone or before a dot (nobody.1@), and keeps it.

    chain     PEM file with key and certificates: it offers STARTTLS
    settings  more of main.cf
    """
    with _place() as top:
        owner = pwd.getpwnam("postfix")
        (top / "mail").mkdir()
        os.chown(top / "mail", owner.pw_uid, owner.pw_gid)
        names = "|".join(map(re.escape, unknown))
        (top / "etc" / "mailboxes").write_text(f"if !/^({names})(\\.[^@]*)?@/\n/^/ inbox/\nendif\n")
        main = MX.format(domains=", ".join(domains), top=top, uid=owner.pw_uid, gid=owner.pw_gid)
        with _run(top, host, port, "mx.postfix.test", main, chain, settings) as running:
            yield running


@contextmanager
def client(
    relay_host: str, relay_port: int, user: str, password: str, authority: Path | None = None, settings: Mapping[str, str] | None = None,
) -> Iterator[Postfix]:
    """A Postfix whose mail all goes to `relay_host`, authenticated; with `authority` (a PEM file) over verified STARTTLS."""
    with _place() as top:
        level = "verify" if authority else "none"
        given = {"relay_host": relay_host, "relay_port": relay_port, "user": user, "password": password}
        main = CLIENT.format(**given, client_level=level, authority=authority or "")
        with _run(top, "127.0.0.1", 0, "client.postfix.test", main, None, settings) as running:
            yield running


@contextmanager
def _place() -> Iterator[Path]:
    """A directory whose parents Postfix's own user may pass, unlike pytest's."""
    need("postfix")
    if os.geteuid():
        absent("postfix as root")
    top = Path(tempfile.mkdtemp(prefix="relay-postfix-"))
    try:
        top.chmod(0o755)
        for name in ("etc", "queue", "data"):
            (top / name).mkdir()
        shutil.chown(top / "data", "postfix")
        yield top
    finally:
        shutil.rmtree(top, ignore_errors=True)


@contextmanager
def _run(top: Path, host: str, port: int, hostname: str, main: str, chain: Path | None, settings: Mapping[str, str] | None) -> Iterator[Postfix]:
    port = port or free_port(host)
    head = MAIN.format(top=top, hostname=hostname, level="may" if chain else "none", chain=chain or "")
    more = "".join(f"{name} = {value}\n" for name, value in (settings or {}).items())
    (top / "etc" / "main.cf").write_text(head + main + more)
    (top / "etc" / "master.cf").write_text(MASTER.format(host=host, port=port))
    with (top / "start").open("wb") as says:
        process = subprocess.Popen([need("postfix"), "-c", str(top / "etc"), "start-fg"], stdout=says, stderr=says, stdin=subprocess.DEVNULL)
    running = Postfix(top, host, port)
    try:
        _ready(running, process)
        yield running
    finally:
        _stop(top, process)


def _stop(top: Path, process: subprocess.Popen) -> None:
    """End the master that start-fg runs below itself, by the pid that it wrote; its own death ends start-fg."""
    with suppress(OSError, ValueError):
        os.kill(int((top / "queue/pid/master.pid").read_text()), signal.SIGTERM)
    try:
        process.wait(START)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _ready(running: Postfix, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection((running.host, running.port), 1) as line:
                line.settimeout(START)
                if line.recv(4) == b"220 ":
                    return
        except OSError:
            threading.Event().wait(0.02)
    raise RuntimeError(f"Postfix does not answer: {(running.top / 'start').read_text()}{running.log}")
