"""What an end-to-end test stands in: a relay process, and a far side that it finds by MX lookup in a DNS server of the tests.

    example.net, example.com   a real Postfix with STARTTLS on 127.0.0.2; nobody@ is unknown there
    plain.test                 a scriptable server on 127.0.0.3 that knows no DSN and no TLS
    null.test                  takes no mail (RFC 7505); absent.test does not exist

The relay owns example.com and signs for it; a report that it owes arrives in Postfix at example.com.
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support import postfix
from tests.support.dns import DnsServer
from tests.support.ports import free_port
from tests.support.running import Running
from tests.support.sink import Script, Sink
from tests.support.until import until

SENDER = "app@example.com"


@dataclass(frozen=True, slots=True)
class Far:
    """The servers that mail goes to, and the certificates: ca.pem, localhost.pem and mx.example.net.pem in `pems`."""

    mx: postfix.Postfix
    sink: Sink
    dns: DnsServer
    port: int
    pems: Path


@dataclass(frozen=True, slots=True)
class World:
    """A relay, its far side, and what a client must know. `name` goes into addresses, since all worlds share the far side."""

    name: str
    relay: Running
    far: Far
    key: str
    records: dict[str, str]  # TXT by name, as a verifier of signatures looks them up

    @property
    def mx(self) -> postfix.Postfix:
        return self.far.mx

    @property
    def authority(self) -> Path:
        return self.far.pems / "ca.pem"

    @property
    def words(self) -> list[str]:
        """HOST PORT USER KEY FROM, as the scripts of clients/ take them."""
        return ["localhost", str(self.relay.smtp), "app", self.key, SENDER]

    def address(self, local: str, domain: str = "example.net") -> str:
        return f"{local}.{self.name}@{domain}"

    @contextlib.contextmanager
    def session(self, key: str = "") -> Iterator[smtplib.SMTP]:
        """A session of Python's client, after STARTTLS and AUTH."""
        with smtplib.SMTP("localhost", self.relay.smtp, timeout=60) as line:
            line.starttls(context=ssl.create_default_context(cafile=str(self.authority)))
            line.login("app", key or self.key)
            yield line

    def send(self, to: str, sender: str = SENDER, mail: Sequence[str] = (), rcpt: Sequence[str] = (), key: str = "") -> bytes:
        """Submit a small message with these ESMTP parameters; gives its octets."""
        octets = f"From: App <app@example.com>\r\nTo: {to}\r\nSubject: to {to}\r\nMIME-Version: 1.0\r\n\r\nhello\r\n".encode()
        with self.session(key) as line:
            line.sendmail(sender, [to], octets, mail, rcpt)
        return octets

    def told(self, to: str, words: str) -> str:
        """What `relay explain` says of an address once it contains these words; raises TimeoutError."""
        def look() -> str:
            said = self.relay.run("explain", to).stdout
            return said if words in said else ""

        return until(look)

    def arrived(self, to: str) -> postfix.Mail:
        """The one message for this address at Postfix; raises ValueError when there are two."""
        self.mx.wait_log(rf"to=<{to}>.*status=sent")
        (mail,) = [mail for mail in self.mx.mails() if mail.recipient == to]
        return mail


@contextlib.contextmanager
def far(top: Path) -> Iterator[Far]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(top / "ca.pem"))
    for name in ("localhost", "mx.example.net"):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(top / f"{name}.pem"))
    port = free_port("127.0.0.2")
    exchange = {"MX": "10 mx.example.net."}
    zones = {
        "example.net": exchange, "example.com": exchange, "mx.example.net": {"A": "127.0.0.2"}, "null.test": {"MX": "0 ."},
        "plain.test": {"MX": "10 mx.plain.test."}, "mx.plain.test": {"A": "127.0.0.3"},
    }
    with (
        DnsServer(zones) as dns,
        Sink(Script(dsn=False), "127.0.0.3", port) as sink,
        postfix.mx(["example.net", "example.com"], "127.0.0.2", port, top / "mx.example.net.pem") as mx,
    ):
        yield Far(mx, sink, dns, port, top)


@contextlib.contextmanager
def world(name: str, directory: Path, far: Far, workers: int = 0, store_url: str = "") -> Iterator[World]:
    pem = str(far.pems / "localhost.pem")
    settings = {
        "RELAY_SMTP__TLS_CERT": pem, "RELAY_SMTP__TLS_KEY": pem, "RELAY_SMTP__SUBMISSIONS": f"127.0.0.1:{free_port()}",
        "RELAY_DNS__NAMESERVERS": far.dns.address, "RELAY_DELIVERY__PORT": str(far.port), "RELAY_DELIVERY__ALLOW_PRIVATE": "true",
        "RELAY_DSN__DELAY_AFTER": "1s",
    }
    if store_url:
        settings |= {"RELAY_STORE__URL": store_url, "RELAY_SECRET_KEY": "end to end " * 4}
    with Running(directory, settings, workers) as relay:
        relay.command("domain", "add", "example.com")
        (domain,) = relay.command("domain", "list")
        records = {record["name"].rstrip("."): record["value"] for record in domain["dns_records"] if record["type"] == "TXT"}
        for host, value in records.items():
            far.dns.zones.setdefault(host, {})["TXT"] = _quoted(value)
        relay.command("domain", "verify", "example.com")
        yield World(name, relay, far, relay.key(), records)


def _quoted(value: str) -> str:
    return " ".join(f'"{value[start:start + 255]}"' for start in range(0, len(value), 255))
