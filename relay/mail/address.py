"""Mail addresses: the syntax of the envelope, and the one normal form in which two spellings are the same (RFC 5321 §4.1.2, RFC 6531 §3.3).

A strict compiled pattern takes the addresses that nearly everybody has; quoted local parts, address literals and anything outside ASCII go the slow
way. What was given stays on the wire; `key` is only for comparing, so the store, the segments and the policies fold case in this one place.
Domains become A-labels (IDNA 2008 with the UTS 46 mapping, RFC 5891), lower case.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from relay.errors import Invalid
from relay.mail.reply import Reply

LOCAL = 64  # octets of a local part (RFC 5321 §4.5.3.1.1)
DOMAIN = 255  # octets of a domain (§4.5.3.1.2)
ADDRESS = 254  # octets of an address: a path has 256 with its brackets (§4.5.3.1.3, erratum 1690)

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
# "_" is no host name letter, but machines that name themselves with one send the mail of their cron jobs, and DNS has the last word.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_SIMPLE = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@({_LABEL}(?:\.{_LABEL})*)")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_UTEXT = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\x00-\x9f])"
_ATOM = re.compile(rf"{_UTEXT}+(?:\.{_UTEXT}+)*")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|[^\x00-\x9f]|\\[ -~])*)"')
_PAIR = re.compile(r"\\(.)")
_BREAKS = frozenset(("Cc", "Cs", "Zl", "Zp"))  # controls, lone surrogates, line and paragraph separators


def parse(text: str, utf8: bool = False) -> tuple[str, str]:
    """Local part as given, and domain as lower-case A-label or canonical literal ("[192.0.2.1]", "[IPv6:2001:db8::1]").

    text  an address without brackets
    utf8  the transaction has SMTPUTF8 (RFC 6531): octets outside ASCII are allowed

    Raises Invalid("address") whose reply is 501 5.1.3, or 553 5.6.7 for an address that needs SMTPUTF8.
    """
    return simple(text) or _odd(text, utf8)


def simple(text: str) -> tuple[str, str] | None:
    """What `parse` gives for an address as nearly all are, None for any other text."""
    found = _SIMPLE.fullmatch(text)
    if found is not None and len(text) <= ADDRESS:
        local, domain = found[1], found[2].lower()
        if len(local) <= LOCAL and not domain.rpartition(".")[2].isdigit():
            return local, domain
    return None


def key(text: str) -> str:
    """The normal form: NFC and lower-case local part without needless quotes, A-label domain; raises Invalid as `parse` does."""
    local, domain = parse(text, True)
    if local[0] == '"':
        local = _unquoted(local)
    folded = local.lower()
    if not folded.isascii():
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).lower())
    return f"{folded}@{domain}"


def domain_of(text: str) -> str:
    """The domain of an address as lower-case A-label; raises Invalid as `parse` does."""
    return parse(text, True)[1]


def valid(text: str, utf8: bool = True) -> bool:
    """Whether `parse` takes it."""
    try:
        parse(text, utf8)
    except Invalid:
        return False
    return True


def a_label(domain: str) -> str:
    """A domain name in lower-case A-labels ("Bücher.example" gives "xn--bcher-kva.example"); raises Invalid("domain")."""
    if len(domain) > DOMAIN:
        raise _invalid(f"a domain has at most {DOMAIN} octets", "domain")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except UnicodeError as error:
            raise _invalid(f"{_shown(domain)} is not a domain name: {error}", "domain") from None
    domain = domain.lower()
    if not _DOMAIN.fullmatch(domain) or len(domain) > DOMAIN or domain.rpartition(".")[2].isdigit():
        raise _invalid(f"{_shown(domain)} is not a domain name", "domain")
    return domain


def within(domain: str, parent: str) -> bool:
    """Whether `domain` is `parent` or a sub-domain of it; both as lower-case A-labels."""
    return domain == parent or (domain.endswith(parent) and domain[-len(parent) - 1] == ".")


def _odd(text: str, utf8: bool) -> tuple[str, str]:
    """What the simple pattern does not take: a quoted local part, a literal, letters outside ASCII, or an error in words."""
    if len(text) > 2 * ADDRESS:
        raise _invalid(f"an address has at most {ADDRESS} octets")
    if not text.isascii():
        if any(unicodedata.category(c) in _BREAKS for c in text):
            raise _invalid("the address contains a character that no address may have")
        if not utf8:
            raise Invalid("address", "the address needs SMTPUTF8", Reply(553, "5.6.7", "address outside ASCII needs the SMTPUTF8 parameter"))
    local, at, domain = text.rpartition("@")
    if not at:
        raise _invalid(f"{_shown(text)} has no @")
    if not (_ATOM.fullmatch(local) or _QUOTED.fullmatch(local)):
        raise _invalid(f"the local part of {_shown(text)} is not valid")
    if len(local.encode()) > LOCAL:
        raise _invalid(f"the local part has more than {LOCAL} octets")
    try:
        domain = _literal(domain) if domain.startswith("[") else a_label(domain)
    except Invalid as error:
        raise _invalid(error.text) from None
    if len(local.encode()) + 1 + len(domain) > ADDRESS:
        raise _invalid(f"an address has at most {ADDRESS} octets")
    return local, domain


def _literal(text: str) -> str:
    """An address literal in its shortest form (RFC 5321 §4.1.3); general literals are nobody's."""
    inner = text[1:-1] if text.endswith("]") else ""
    try:
        if inner[:5].lower() == "ipv6:" and "%" not in inner:
            return f"[IPv6:{IPv6Address(inner[5:])}]"
        return f"[{IPv4Address(inner)}]"
    except AddressValueError:
        raise _invalid(f"{_shown(text)} is not an address literal") from None


def _unquoted(local: str) -> str:
    """The local part without its quotes where a dot-atom says the same ("\\"a.b\\"" is a.b), else quoted with no needless backslash."""
    plain = _PAIR.sub(r"\1", local[1:-1])
    if _ATOM.fullmatch(plain):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _shown(text: str) -> str:
    return ascii(text[:80])


def _invalid(text: str, field: str = "address") -> Invalid:
    return Invalid(field, text, Reply(501, "5.1.3", text))
