"""Reports that receivers send about a domain's mail: found in the message that brings them, opened, read, and kept for that domain alone.

The address says which domain the report is for (`reports+TOKEN@`), so one project's reports never count for another. A report that cannot be read, is about
another domain, or comes from somebody whom the reporter's own domain disowns (DMARC) is kept as an error with the reason, and counts nowhere.
"""

from __future__ import annotations

import hashlib
from typing import Any

from relay.errors import Invalid, Refuse
from relay.inbound import aggregate, tlsrpt, unpack
from relay.inbound.aggregate import Aggregate
from relay.inbound.authentication import Authentication
from relay.inbound.tlsrpt import TlsReport
from relay.mail import address, entities, mailbox
from relay.mail.header import Header
from relay.mail.ids import Maker
from relay.store.inbound import reports
from relay.store.inbound.reports import Kept

FILES = 5  # of one message that may be the report
_STARTS = (b"\x1f\x8b", b"PK\x03\x04", b"<", b"{", b"\xef\xbb\xbf<", b"\xef\xbb\xbf{")

Found = Aggregate | TlsReport | Invalid


def read(content: bytes) -> Found:
    """The report in a message, or why there is none. Takes a second for the largest; runs in a thread."""
    try:
        files = [octets for each in entities.leaves(content) if (octets := each.content().strip()).startswith(_STARTS)][:FILES]
    except (Invalid, Refuse) as error:
        return Invalid("report", error.text)
    why = Invalid("report", "the message holds no report")
    for octets in files:
        try:
            text = unpack.opened(octets).strip().removeprefix(b"\xef\xbb\xbf")
            return tlsrpt.read(text) if text.startswith(b"{") else aggregate.read(text)
        except Invalid as error:
            why = error
    return why


def keep(conn: Any, domain_id: int, found: Found, fields: Header, content: bytes, authentication: Authentication, maker: Maker, at: float) -> str:
    """What came of a report in one transaction: "dmarc" | "tls" | "known" | "error". Raises NotFound for a domain that is gone, Defer for too many."""
    project, name = reports.owner(conn, domain_id)
    kind = "tls" if isinstance(found, TlsReport) else "dmarc"
    error = found.text if isinstance(found, Invalid) else _doubt(found, name, authentication)
    row: dict[str, Any] = {"kind": kind, "id": maker.next(), "project_id": project, "domain_id": domain_id, "created_at": at, "error": error,
                           "status": "error" if error else "processed"}
    if isinstance(found, Invalid):
        author = _author(fields)
        kept = Kept(report_id=_digest(content), organisation=author.rpartition("@")[2], contact=author, domain=name, begins=None, ends=None, policy=None, **row)
        return "error" if reports.add(conn, kept) else "known"
    # A doubtful report is kept under a name of its own, or a forged one could keep out the true one.
    row["report_id"] = _digest(content) if error else found.report_id or _digest(content)
    row |= {"organisation": found.organisation, "contact": found.contact, "domain": found.domain, "begins": found.begins, "ends": found.ends}
    if isinstance(found, TlsReport):
        counts = {} if error else {"successes": found.successes, "failures": found.failures}
        new = reports.add(conn, Kept(policy=found.policies, **counts, **row))
    else:
        new = reports.add(conn, Kept(policy=found.policy, **row), () if error else found.sources)
    return "known" if not new else "error" if error else kind


def _doubt(found: Aggregate | TlsReport, name: str, authentication: Authentication) -> str:
    """Why the report does not count, "" when it does."""
    try:
        about = address.a_label(found.domain)
    except Invalid:
        about = ""
    if not about or not (address.within(about, name) or address.within(name, about)):
        return f"the report is about {found.domain[:100]!a}"
    if authentication.dmarc.result == "fail":
        return f"{authentication.dmarc.author} does not stand behind the message (DMARC)"
    return ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _author(fields: Header) -> str:
    try:
        return next(iter(mailbox.mailboxes(fields.value(b"from")[:2_000]))).address
    except (Invalid, StopIteration):
        return ""
