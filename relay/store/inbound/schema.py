"""The tables of mail to us: messages that people write to a project's domains, and the reports that receivers send about a domain's mail.

Conventions as in relay.store.schema. All of it goes with its domain. The octets of a message are in `bodies` under the id that it has here.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from relay.store.schema import Id, Json, _id, _project, metadata


def _domain() -> Column:
    return Column("domain_id", Id, ForeignKey("domains.id", ondelete="CASCADE"), nullable=False)


inbound = Table(
    "inbound", metadata, _id(), _project(), _domain(),
    Column("domain", String(255), nullable=False),
    Column("digest", String(64), nullable=False),  # of the octets and to whom: a message that comes twice is one
    Column("client", String(64), nullable=False),
    Column("sender", String(320), nullable=False),  # reverse-path
    Column("recipients", Json, nullable=False),  # addresses of the envelope, those at this domain only
    Column("from_address", String(320), nullable=False),
    Column("from_name", Text, nullable=False),
    Column("to_addresses", Json, nullable=False),
    Column("cc_addresses", Json, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message_id", String(998), nullable=False),  # without brackets
    Column("in_reply_to", String(998), nullable=False),
    Column("answers", Id),  # the message of ours that it answers
    Column("mailbox_hash", String(64), nullable=False),  # what follows the plus in the local part
    Column("size", Integer, nullable=False),
    Column("spam_score", Float),  # rspamd's; NULL where nobody was asked or nobody answered
    Column("spam_verdict", String(8), nullable=False),  # "spam" | "clean" | "" = nobody said
    Column("authentication", Json, nullable=False),
    Column("attachments", Json, nullable=False),  # [{filename, content_type, content_id, size}, ...]
    Column("created_at", Float, nullable=False),
    UniqueConstraint("domain_id", "digest"),
    Index("inbound_by_project", "project_id", "id"),
)


def _report(name: str, *columns: Column) -> Table:
    return Table(
        name, metadata, _id(), _project(), _domain(),
        Column("report_id", String(255), nullable=False),
        Column("organisation", String(255), nullable=False),
        Column("contact", String(320), nullable=False),
        Column("domain", String(255), nullable=False),  # that the report is about: the domain or one below it
        Column("begins", Float),
        Column("ends", Float),
        Column("policy", Json, nullable=False),
        *columns,
        Column("status", String(12), nullable=False),  # processed | error
        Column("error", Text, nullable=False),
        Column("created_at", Float, nullable=False),
        UniqueConstraint("domain_id", "organisation", "report_id"),
        Index(f"{name}_by_domain", "domain_id", "id"),
    )


dmarc_reports = _report("dmarc_reports")

dmarc_sources = Table(
    "dmarc_sources", metadata, _id(),
    Column("report", Id, ForeignKey("dmarc_reports.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("domain_id", Id, nullable=False),
    Column("day", Float, nullable=False),  # UTC midnight on which the report begins
    Column("source", String(64), nullable=False),  # IP address
    Column("total", BigInteger, nullable=False),
    Column("passed", BigInteger, nullable=False),  # SPF or DKIM aligned
    Column("spf", BigInteger, nullable=False),
    Column("dkim", BigInteger, nullable=False),
    Index("dmarc_sources_by_day", "domain_id", "day"),
)

tls_reports = _report(
    "tls_reports",
    Column("successes", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
)

TABLES = (inbound, dmarc_reports, dmarc_sources, tls_reports)
