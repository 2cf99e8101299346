"""A DMARC aggregate report as it comes (RFC 9990, and RFC 7489 appendix C before it): octets of XML in, counts by source address out.

Namespaces are not looked at, unknown elements are passed over, what is missing is empty: reporters differ. The parser knows no DTD, no entity and no external
file (defusedxml), and stops at ELEMENTS and DEPTH.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from relay.errors import Invalid
from relay.store.inbound.reports import Source

ELEMENTS = 120_000  # of one report: eight thousand records as they usually are; a second of CPU
DEPTH = 20  # elements within each other; the schema has five
SOURCES = 10_000  # addresses of one report that are told apart, the others count as OTHER
OTHER = "other"
MOST = 10**12  # messages of one record that are believed
TEXT = 500  # characters of a value


@dataclass(slots=True)
class Aggregate:
    """A report. `begins`, `ends` UTC seconds; `policy` what the reporter saw published."""

    report_id: str = ""
    organisation: str = ""
    contact: str = ""
    domain: str = ""
    begins: float | None = None
    ends: float | None = None
    policy: dict[str, str] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)


def read(xml: bytes) -> Aggregate:
    """The report; raises Invalid("report") for what is none."""
    found, counts = Aggregate(), dict[str, list[int]]()
    try:
        for name, element in _sections(xml):
            if name == "report_metadata":
                _metadata(element, found)
            elif name == "policy_published":
                found.policy = {each.tag: text for each in element if (text := _text(element, each.tag))}
                found.domain = found.policy.get("domain", "").lower().rstrip(".")
            elif name == "record":
                _record(element, counts)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise Invalid("report", "the XML cannot be read") from None
    if not found.domain:
        raise Invalid("report", "the XML is no DMARC report")
    found.sources = [Source(address, *each) for address, each in counts.items()]
    return found


def _sections(xml: bytes) -> Any:
    """The children of the root as they are complete, without namespaces; each is emptied when the next is asked for."""
    depth = seen = 0
    for event, element in iterparse(io.BytesIO(xml), events=("start", "end"), forbid_dtd=True):
        if event == "start":
            depth, seen = depth + 1, seen + 1
            if depth > DEPTH or seen > ELEMENTS:
                raise Invalid("report", "the report has too many elements")
            element.tag = element.tag.rpartition("}")[2][:50]
            continue
        depth -= 1
        if depth == 1:
            yield element.tag, element
            element.clear()


def _text(element: Element, path: str) -> str:
    return " ".join((element.findtext(path) or "")[:TEXT * 2].split())[:TEXT]


def _number(text: str) -> int:
    return min(int(text), MOST) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _metadata(element: Element, found: Aggregate) -> None:
    found.organisation, found.contact, found.report_id = (_text(element, name) for name in ("org_name", "email", "report_id"))
    found.begins, found.ends = (float(at) if (at := _number(_text(element, f"date_range/{name}"))) else None for name in ("begin", "end"))


def _record(element: Element, counts: dict[str, list[int]]) -> None:
    """Add what a record says of its source: messages, passed, SPF aligned, DKIM aligned."""
    try:
        source = str(ip_address(_text(element, "row/source_ip")))
    except ValueError:
        source = OTHER
    if source not in counts and len(counts) >= SOURCES:
        source = OTHER
    total = _number(_text(element, "row/count"))
    spf, dkim = (_text(element, f"row/policy_evaluated/{method}").lower() == "pass" for method in ("spf", "dkim"))
    row = counts.setdefault(source, [0, 0, 0, 0])
    for at, counted in enumerate((True, spf or dkim, spf, dkim)):
        row[at] = min(row[at] + total * counted, MOST)
