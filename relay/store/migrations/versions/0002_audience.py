"""The audience: contacts, their types and history, audiences, segments, topics, activity and imports."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    from relay.store.audience.schema import TABLES

    for table in TABLES:
        table.create(op.get_bind())
    there = text("contact_id IS NOT NULL")
    op.create_index("events_by_contact", "events", ["contact_id", "id"], sqlite_where=there, postgresql_where=there)
