"""Suppressions that end by themselves, and a way to the recipients that bounced."""

from alembic import op
from sqlalchemy import Column, Float, text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("suppressions", Column("expires_at", Float))
    ends = text("expires_at IS NOT NULL")
    op.create_index("suppressions_by_end", "suppressions", ["expires_at"], sqlite_where=ends, postgresql_where=ends)
    bounced = text("state = 'bounced'")
    op.create_index("recipients_by_bounce", "recipients", ["project_id", "id"], sqlite_where=bounced, postgresql_where=bounced)
