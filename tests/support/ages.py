"""Stores as older releases left them."""

from __future__ import annotations

from sqlalchemy import Connection

from relay.store.audience import schema as audience
from relay.store.broadcasts import schema as broadcasts
from relay.store.inbound import schema as inbound
from relay.store.schema import email_counts, email_tags, users
from relay.store.workflows import schema as workflows

LATER = (users, *audience.TABLES, *inbound.TABLES, *broadcasts.TABLES, *workflows.TABLES, email_tags, email_counts)
INDEXES = ("events_by_contact", "suppressions_by_end", "recipients_by_bounce", "domains_by_name", "recipients_by_state", "messages_by_domain")


def first_release(conn: Connection) -> None:
    """Take the schema back to what it was: no audience, no mail to domains, and no suppression that ends by itself; mail and its queue stay."""
    for table in reversed(LATER):
        table.drop(conn)
    for index in INDEXES:
        conn.exec_driver_sql(f"DROP INDEX {index}")
    conn.exec_driver_sql("ALTER TABLE suppressions DROP COLUMN expires_at")
    for column in ("pace", "pace_until"):
        conn.exec_driver_sql(f"ALTER TABLE sites DROP COLUMN {column}")
    for column in ("description", "sender", "reply_to", "stream"):
        conn.exec_driver_sql(f"ALTER TABLE templates DROP COLUMN {column}")
    conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
