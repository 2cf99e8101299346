"""The tables, for SQLite and PostgreSQL alike; Alembic's migrations make them, the store's nouns read and write them.

Conventions: ids are 63-bit integers of relay.mail.ids; times are UTC seconds as float; JSON is text on SQLite and jsonb on PostgreSQL; `key` of an address
is its normal form, so SQL never folds case. The queue is apart from the ledger: `queue` holds one small row for each *waiting* recipient and loses it when the
recipient ends, while messages, recipients, attempts and events are written once and at the end and are never polled.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()
Json = JSON().with_variant(JSONB(), "postgresql")
Id = BigInteger().with_variant(Integer(), "sqlite")


class Xid(FunctionElement):
    """The number of the transaction that writes the row; 0 on SQLite, whose one writer makes event ids in the order of commits."""

    name = "xid"
    inherit_cache = True


@compiles(Xid, "postgresql")
def _xid_postgresql(_element: Xid, _compiler: Any, **_: Any) -> str:
    return "((pg_current_xact_id()::text)::bigint)"


@compiles(Xid, "sqlite")
def _xid_sqlite(_element: Xid, _compiler: Any, **_: Any) -> str:
    return "0"


def _where(condition: str, sqlite: str | None = None) -> dict[str, Any]:
    """A partial index; on SQLite only a query with the very same words finds it, and SQLAlchemy writes `NOT held` as `held = 0` there."""
    return {"sqlite_where": text(sqlite or condition), "postgresql_where": text(condition)}


def _id() -> Column:
    return Column("id", Id, primary_key=True, autoincrement=False)


def _project(index: bool = False) -> Column:
    return Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=index)


meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

projects = Table(
    "projects", metadata, _id(),
    Column("name", String(64), nullable=False, unique=True),
    Column("settings", Json, nullable=False),  # title, language, postal_address
    Column("created_at", Float, nullable=False),
)

keys = Table(
    "keys", metadata, _id(), _project(index=True),
    Column("name", String(128), nullable=False),
    Column("prefix", String(16), nullable=False),  # the first letters, shown to tell keys apart
    Column("hash", String(64), nullable=False, unique=True),  # sha256 of the whole key, hex
    Column("permission", String(16), nullable=False),
    Column("mode", String(8), nullable=False),
    Column("domain", String(255), nullable=False),  # "" = any of the project
    Column("created_at", Float, nullable=False),
    Column("last_used_at", Float),
    Column("revoked_at", Float),
)

users = Table(
    "users", metadata, _id(), _project(index=True),
    Column("name", String(128), nullable=False),
    Column("key", String(128), nullable=False, unique=True),  # the name without regard to letter case
    Column("permission", String(16), nullable=False),
    Column("password", String(256), nullable=False),  # Argon2id, in its own text form
    Column("created_at", Float, nullable=False),
    Column("signed_in_at", Float),
)

domains = Table(
    "domains", metadata, _id(), _project(index=True),
    Column("name", String(255), nullable=False),
    Column("status", String(16), nullable=False),  # pending | verified | failed
    Column("checks", Json, nullable=False),  # result of the last look at each DNS record
    Column("settings", Json, nullable=False),  # open_tracking, click_tracking, tracking_domain, return_path
    Column("created_at", Float, nullable=False),
    Column("verified_at", Float),
    Column("checked_at", Float),
    UniqueConstraint("project_id", "name"),
    Index("domains_by_name", "name"),
)

dkim_keys = Table(
    "dkim_keys", metadata, _id(),
    Column("domain_id", Id, ForeignKey("domains.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("selector", String(63), nullable=False),
    Column("algorithm", String(16), nullable=False),  # rsa-sha256 | ed25519-sha256
    Column("private_key", Text, nullable=False),  # PEM, or "enc:" and what secret_key sealed
    Column("public_key", Text, nullable=False),  # the p= value
    Column("state", String(8), nullable=False),  # active | pending | retired
    Column("created_at", Float, nullable=False),
    UniqueConstraint("domain_id", "selector"),
)

suppressions = Table(
    "suppressions", metadata, _id(), _project(),
    Column("key", String(320), nullable=False),
    Column("address", String(320), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("scope", String(64), nullable=False),  # all | marketing | topic:<id>
    Column("evidence", Json, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),  # None = until somebody lifts it
    UniqueConstraint("project_id", "key", "scope"),
    Index("suppressions_by_end", "expires_at", **_where("expires_at IS NOT NULL")),
)

suppression_rules = Table(
    "suppression_rules", metadata, _id(), _project(index=True),
    Column("name", String(100), nullable=False),
    Column("kind", String(8), nullable=False),  # address | domain | prefix | suffix | wildcard
    Column("pattern", String(254), nullable=False),
    Column("likeness", Text, nullable=False),  # the same for LIKE, with \\ as escape
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

bodies = Table(
    "bodies", metadata, _id(),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary),  # header and body as admitted, when small; else in a segment file or in pieces
    Column("segment", Integer),
    Column("offset", BigInteger),
    Column("crc", BigInteger),
    Column("created_at", Float, nullable=False),
    Index("bodies_by_segment", "segment", **_where("segment IS NOT NULL")),
)

body_pieces = Table(  # what relay.store.pieces keeps of large bodies on PostgreSQL
    "body_pieces", metadata,
    Column("body_id", Id, ForeignKey("bodies.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

messages = Table(
    "messages", metadata, _id(), _project(),
    Column("key_id", Id),
    Column("body_id", Id, nullable=False),  # the message's own id, or that of the body it shares with others
    Column("protocol", String(12), nullable=False),  # smtp | sendmail | http | broadcast | workflow | dsn
    Column("sender", String(320), nullable=False),  # reverse-path, "" = null
    Column("header_from", Text, nullable=False),
    Column("domain", String(255), nullable=False),  # of the From field
    Column("subject", Text, nullable=False),
    Column("message_id", String(998), nullable=False),  # the Message-ID field without brackets
    Column("size", Integer, nullable=False),
    Column("stream", String(16), nullable=False),
    Column("topic", String(64), nullable=False),
    Column("tags", Json, nullable=False),
    Column("envelope", Json, nullable=False),  # ret, envid, body, smtputf8
    Column("origin", Json, nullable=False),  # client, helo, with, tls; kind, name, permission, mode, domain of the principal
    Column("wishes", Json, nullable=False),  # tracking, unsubscribe, test mode ...
    Column("facts", Json, nullable=False),  # spam_score and what else policies learnt
    Column("trace", Json, nullable=False),  # [[policy, action, detail], ...]
    Column("created_at", Float, nullable=False),
    Column("send_at", Float),
    Index("messages_by_project", "project_id", "created_at", "id"),
    Index("messages_by_domain", "project_id", "domain", "created_at"),
    Index("messages_by_message_id", "message_id"),
    Index("messages_by_shared_body", "body_id", **_where("body_id <> id")),
)

recipients = Table(
    "recipients", metadata, _id(),
    Column("message_id", Id, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False, index=True),
    _project(),
    Column("address", String(320), nullable=False),
    Column("key", String(320), nullable=False),
    Column("domain", String(255), nullable=False),
    Column("notify", String(32), nullable=False),
    Column("orcpt", String(512), nullable=False),
    Column("state", String(12), nullable=False),  # scheduled | queued | deferred | then one of delivered bounced failed suppressed cancelled
    Column("code", Integer),
    Column("enhanced", String(12)),
    Column("text", Text),  # the remote's words, or ours
    Column("ended_at", Float),
    Index("recipients_by_key", "project_id", "key", "id"),
    Index("recipients_by_state", "project_id", "state", "message_id", **_where("state NOT IN ('queued', 'delivered')")),
    Index("recipients_by_bounce", "project_id", "id", **_where("state = 'bounced'")),  # to classify them anew
)

email_tags = Table(
    "email_tags", metadata,
    Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("tag", String(64), primary_key=True),
    Column("message_id", Id, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

email_counts = Table(
    "email_counts", metadata,
    Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("kind", String(8), primary_key=True),  # all | domain | tag
    Column("name", String(255), primary_key=True),
    Column("number", BigInteger, nullable=False),  # of messages in the ledger
)

queue = Table(
    "queue", metadata,
    Column("recipient_id", Id, primary_key=True, autoincrement=False),
    Column("message_id", Id, nullable=False),
    Column("project_id", Id, nullable=False),
    Column("domain", String(255), nullable=False),
    Column("stream", String(16), nullable=False),
    Column("topic", String(64), nullable=False),
    Column("key", String(320), nullable=False),
    Column("due", Float, nullable=False),
    Column("first_due", Float, nullable=False),
    Column("attempts", Integer, nullable=False),  # that count against the retry table
    Column("retry", String(12), nullable=False),  # standard | otp | greylist | full | rate
    Column("held", Boolean, nullable=False),
    Column("warned", Boolean, nullable=False),  # a delay DSN was sent
    Index("queue_by_due", "due", "recipient_id", **_where("NOT held", "held = 0")),
    Index("queue_by_domain", "domain", "stream", "due", **_where("NOT held", "held = 0")),
)

attempts = Table(
    "attempts", metadata, _id(),
    Column("recipient_id", Id, nullable=False),
    Column("message_id", Id, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("site", String(255), nullable=False),
    Column("mx", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("source", String(64), nullable=False),
    Column("tls", String(64), nullable=False),
    Column("phase", String(12), nullable=False),  # dns connect banner ehlo tls auth mail rcpt data dot
    Column("result", String(12), nullable=False),  # delivered | tempfail | permfail | ambiguous | conn_error
    Column("code", Integer, nullable=False),
    Column("enhanced", String(12), nullable=False),
    Column("text", Text, nullable=False),
    Column("steps", Json, nullable=False),  # [[policy, action, detail], ...] of the copy and depart chains
)

events = Table(
    "events", metadata, _id(), _project(),
    Column("message_id", Id, index=True),
    Column("recipient_id", Id),
    Column("contact_id", Id),
    Column("type", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("data", Json, nullable=False),
    Column("xid", BigInteger, nullable=False, server_default=Xid()),
    Index("events_by_project", "project_id", "id"),
    Index("events_by_contact", "contact_id", "id", **_where("contact_id IS NOT NULL")),
    Index("events_by_xid", "xid", "id").ddl_if(dialect="postgresql"),
)

reports = Table(
    "reports", metadata, _id(),
    Column("message_id", Id, nullable=False),
    Column("recipient_ids", Json, nullable=False),
    Column("kind", String(12), nullable=False),  # failed | delayed | delivered | relayed
    Column("created_at", Float, nullable=False),
    Column("due", Float, nullable=False),
    Index("reports_by_due", "due"),
)

idempotency = Table(
    "idempotency", metadata,
    Column("project_id", Id, primary_key=True, autoincrement=False),
    Column("dialect", String(12), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("answer", Json, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
)

sites = Table(
    "sites", metadata,
    Column("name", String(255), primary_key=True),
    Column("suspended_until", Float),
    Column("reason", Text, nullable=False),
    Column("by_hand", Boolean, nullable=False),
    Column("broken_tls_until", Float),
    Column("pace", Text),
    Column("pace_until", Float),
    Column("updated_at", Float, nullable=False),
)

leases = Table(
    "leases", metadata,
    Column("name", String(255), primary_key=True),
    Column("node", String(64), nullable=False),
    Column("until", Float, nullable=False),
)

counters = Table(
    "counters", metadata,
    Column("name", String(255), primary_key=True),
    Column("window", Float, nullable=False),
    Column("used", BigInteger, nullable=False),
)

usage = Table(
    "usage", metadata,
    Column("project_id", Id, primary_key=True, autoincrement=False),
    Column("month", String(7), primary_key=True),  # "2026-03", UTC
    Column("domain", String(255), primary_key=True),  # of the From field
    Column("sent", BigInteger, nullable=False),  # recipients accepted, without suppressed ones and test keys
)

templates = Table(
    "templates", metadata, _id(), _project(),
    Column("name", String(128), nullable=False),
    Column("subject", Text, nullable=False),
    Column("html", Text),
    Column("text", Text),
    Column("version", Integer, nullable=False),  # of the texts above; grows with each change after a publication
    Column("published", Integer),  # the version that is sent with, None = a draft
    Column("published_at", Float),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("description", String(500), nullable=False, server_default=""),
    Column("sender", Text, nullable=False, server_default=""),  # From of mail that names none, "Name <a@b>"
    Column("reply_to", Text, nullable=False, server_default=""),
    Column("stream", String(13), nullable=False, server_default="transactional"),  # transactional | marketing
    Index("templates_by_project", "project_id", "id"),
)

template_versions = Table(
    "template_versions", metadata,
    Column("template_id", Id, ForeignKey("templates.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("subject", Text, nullable=False),
    Column("html", Text),
    Column("text", Text),
    Column("created_at", Float, nullable=False),
)

webhooks = Table(
    "webhooks", metadata, _id(), _project(index=True),
    Column("url", Text, nullable=False),
    Column("events", Json, nullable=False),  # names or patterns, ["*"] = all
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("secret", Text, nullable=False),  # sealed
    Column("previous_secret", Text, nullable=False),  # sealed, "" without one
    Column("previous_until", Float),  # the previous secret signs too until then
    Column("rotated_at", Float),
    Column("cursor", String(48), nullable=False),  # of the event log: what comes before is delivered, or has a row in webhook_deliveries
    Column("failures", Integer, nullable=False),  # since the last success
    Column("failing_since", Float),
    Column("disabled_at", Float),
    Column("disabled_reason", Text),
    Column("delivered_at", Float),
    Column("delivered_status", Integer),
    Column("created_at", Float, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries", metadata, _id(),
    Column("webhook_id", Id, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", Id, nullable=False),
    Column("message_id", Id),  # later events of the same email wait for this one
    Column("type", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("status", Integer),  # of the last answer, None without one
    Column("answer", Text, nullable=False),  # its first characters, or why there was none
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float),  # None once delivered or given up
    Column("delivered_at", Float),
    Column("created_at", Float, nullable=False),
    Index("webhook_deliveries_by_webhook", "webhook_id", "id"),
    Index("webhook_deliveries_by_next", "next_at"),
    Index("webhook_deliveries_by_message", "webhook_id", "message_id"),
)
