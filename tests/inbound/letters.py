"""Domains and letters for the tests of mail to domains: a home that takes mail, and a stranger's domain with SPF, DKIM and DMARC in the tests' DNS."""

import secrets
from dataclasses import dataclass, field

import dkim

from relay.mail.dkim import RSA, dns_value, generate

PEM, PUBLIC = generate()
OTHER_PEM, _ = generate()


def home(tenant, **settings):
    """A domain of the tenant that takes mail: its name and its id."""
    name = f"home-{secrets.token_hex(4)}.test"
    made = tenant.post("/domains", {"name": name, "inbound_enabled": True, **settings}, status=201)
    return name, made["id"]


@dataclass
class Stranger:
    """A domain in the tests' DNS; `records` may replace its TXT records by name, relative to it."""

    served: object
    spf: str = "v=spf1 ip4:127.0.0.1 -all"
    policy: str = "v=DMARC1; p=reject"
    name: str = field(default_factory=lambda: f"far-{secrets.token_hex(4)}.test")

    def __post_init__(self):
        zones = self.served.dns.zones
        zones[self.name] = {"TXT": f'"{self.spf}"'} if self.spf else {"A": "192.0.2.7"}
        value = dns_value(RSA, PUBLIC)
        zones[f"s1._domainkey.{self.name}"] = {"TXT": f'"{value[:200]}" "{value[200:]}"'}
        if self.policy:
            zones[f"_dmarc.{self.name}"] = {"TXT": f'"{self.policy}"'}

    def letter(self, to, *more, subject="hello", body="Hi there\r\n", author=None):
        """Octets of a letter from joe@ this domain."""
        fields = (f"From: Joe <{author or f'joe@{self.name}'}>", f"To: <{to}>", f"Subject: {subject}", f"Message-ID: <{secrets.token_hex(8)}@{self.name}>",
                  "Date: Mon, 3 Mar 2025 10:00:00 +0000", *more)
        return "".join(f"{each}\r\n" for each in fields).encode() + b"\r\n" + (body if isinstance(body, bytes) else body.encode())

    def signed(self, letter, pem=PEM, domain=None, **options):
        return dkim.sign(letter, b"s1", (domain or self.name).encode(), pem, include_headers=[b"from", b"to", b"subject", b"message-id"], **options) + letter
