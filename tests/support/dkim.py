"""Two verifiers that are not ours, against TXT records given as a dict: dkimpy, and Perl's Mail::DKIM where Debian's package is installed."""

import subprocess
from pathlib import Path

import dkim

from relay.mail.dkim import dns_value, generate, key
from tests.support.peers import need_perl

SCRIPT = Path(__file__).with_name("dkim.pl")
DOMAIN = "example.com"
_MADE: dict[str, tuple[bytes, str]] = {}


def pair(algorithm, domain=DOMAIN):
    """A key of this algorithm (one per test run: RSA takes its time) and its TXT record as {name: value}."""
    if algorithm not in _MADE:
        _MADE[algorithm] = generate(algorithm)
    pem, p = _MADE[algorithm]
    selector = algorithm.partition("-")[0]
    return key(domain, selector, pem), {f"{selector}._domainkey.{domain}": dns_value(algorithm, p)}


def pem(algorithm):
    pair(algorithm)
    return _MADE[algorithm][0]


def dkimpy(message, records):
    """Whether each signature holds, topmost first."""
    def find(name, timeout=5):
        return records.get(name.decode().rstrip("."), "").encode()

    count = sum(1 for name, _ in dkim.rfc822_parse(message)[0] if name.lower() == b"dkim-signature")
    return [_holds(message, number, find) for number in range(count)]


def _holds(message, number, find):
    try:
        return dkim.DKIM(message).verify(idx=number, dnsfunc=find)
    except dkim.ValidationError:
        return False


def mail_dkim(message, records):
    """[(result, algorithm), ...] topmost first; Mail::DKIM of Debian 12 knows RSA only and calls Ed25519 invalid."""
    words = [word for name, value in records.items() for word in (name, value)]
    done = subprocess.run([need_perl("Mail::DKIM::Verifier"), str(SCRIPT), *words], input=message, capture_output=True, check=True, timeout=150)
    return [tuple(line.split()) for line in done.stdout.decode().splitlines()]
