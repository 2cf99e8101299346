"""DMARC: whether the author's domain stands behind a message, and what it asks to be done with one that it does not stand behind (RFC 9989).

Policy and organisational domain are found by walking up the DNS tree (RFC 9989 §4.10), at most eight names for a domain; no list of public suffixes is needed.
Records of RFC 7489 read the same; `pct` and what else RFC 9989 dropped is not looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from relay.delivery.dns import Answer

WALK = 8  # names looked up for one domain (RFC 9989 §4.10)
RECORD = 4_000  # characters of a record that are read
_POLICIES = ("none", "quarantine", "reject")

Lookup = Callable[[str, str], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Record:
    """A DMARC record: `name` the domain that has it, the policies for itself, for sub-domains and for those that do not exist."""

    name: str
    p: str
    sp: str
    np: str
    adkim: str = "r"
    aspf: str = "r"
    psd: str = "u"
    testing: bool = False


@dataclass(frozen=True, slots=True)
class Dmarc:
    """`result` pass | fail | none | temperror | permerror (RFC 8601 §2.7) about the `author` domain; `policy` what it asks for when it fails."""

    result: str
    author: str = ""
    policy: str = ""
    reason: str = ""


class Unknown(Exception):
    """DNS does not answer."""


async def evaluate(lookup: Lookup, author: str, spf: str, dkim: Iterable[str]) -> Dmarc:
    """Never raises.

    author  domain of the From field as A-label, "" when it has none or several
    spf     the domain of the reverse-path that passed SPF, "" when none did
    dkim    the domains whose signatures passed
    """
    if not author:
        return Dmarc("permerror", reason="no one author")
    try:
        walked = await _walk(lookup, author)
        record = _policy(walked, author)
        if record is None:
            return Dmarc("none", author)
        passed = await _aligned(lookup, walked, author, record, spf, tuple(dict.fromkeys(dkim)))
        return Dmarc("pass" if passed else "fail", author, await _asked(lookup, record, author))
    except Unknown:
        return Dmarc("temperror", author, reason="DNS does not answer")


async def _walk(lookup: Lookup, domain: str) -> dict[str, Record]:
    """The records met on the way up from a domain, in that order (RFC 9989 §4.10)."""
    labels = domain.split(".")
    names = [domain] + [".".join(labels[at:]) for at in range(max(1, len(labels) - WALK + 1), len(labels))]
    found: dict[str, Record] = {}
    for name in names:
        answer = await lookup(f"_dmarc.{name}", "TXT")
        if answer.failed:
            raise Unknown
        record = read(name, answer.records)
        if record is not None:
            found[name] = record
            if record.psd in "yn":
                break
    return found


def read(name: str, texts: Iterable[str]) -> Record | None:
    """The record among the TXT records of a name; None where there is none or several (RFC 9989 §4.7)."""
    records = [text for text in texts if text[:8].replace(" ", "").startswith("v=DMARC1")]
    if len(records) != 1:
        return None
    pairs = (part.partition("=") for part in records[0][:RECORD].split(";"))
    tags = {key.strip().lower(): value.strip().lower() for key, _, value in pairs}
    p = tags.get("p", "none")
    if p not in _POLICIES:
        if not tags.get("rua"):
            return None
        p = "none"  # RFC 9989 §4.7: a record that only wants reports
    sp = tags["sp"] if tags.get("sp") in _POLICIES else p
    np = tags["np"] if tags.get("np") in _POLICIES else sp
    psd = tags.get("psd", "u")
    return Record(name, p, sp, np, tags.get("adkim", "r"), tags.get("aspf", "r"), psd if psd in ("y", "n") else "u", tags.get("t") == "y")


def _organisation(walked: dict[str, Record], domain: str) -> str:
    """The organisational domain (RFC 9989 §4.10.2)."""
    for name, record in walked.items():
        if record.psd == "n":
            return name
        if record.psd == "y" and name != domain:
            return ".".join(domain.split(".")[-name.count(".") - 2:])
    return list(walked)[-1] if walked else domain


def _policy(walked: dict[str, Record], author: str) -> Record | None:
    """The record that speaks for the author: its own, else that of its organisation, else that of the suffix above (RFC 9989 §4.10.1)."""
    return walked.get(author) or walked.get(_organisation(walked, author)) or next(reversed(walked.values()), None)


async def _aligned(lookup: Lookup, walked: dict[str, Record], author: str, record: Record, spf: str, dkim: tuple[str, ...]) -> bool:
    """Whether something that passed belongs to the author's domain (RFC 9989 §4.4)."""
    organisation = _organisation(walked, author)
    for domain, strict in ((spf, record.aspf == "s"), *((each, record.adkim == "s") for each in dkim)):
        if not domain:
            continue
        if domain == author:
            return True
        if not strict and _related(domain, organisation) and _organisation(await _walk(lookup, domain), domain) == organisation:
            return True
    return False


def _related(domain: str, organisation: str) -> bool:
    """Whether it can have this organisation at all, which saves the walk for strangers."""
    return domain == organisation or domain.endswith(f".{organisation}")


async def _asked(lookup: Lookup, record: Record, author: str) -> str:
    """What the record asks for a failing message of this author; a record that is being tested asks for one step less (RFC 9989 §4.7, t=)."""
    policy = record.p
    if record.name != author:
        policy = record.np if record.np != record.sp and (await lookup(author, "A")).status == "nxdomain" else record.sp
    step = _POLICIES.index(policy) - record.testing
    return _POLICIES[max(0, step)]
