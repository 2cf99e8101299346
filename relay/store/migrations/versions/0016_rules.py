"""Rules on recipients, the size of segments by day, forms that count, and broadcasts that are not all marketing."""

from alembic import op
from sqlalchemy import Column, Integer, String, inspect

revision = "0016"
down_revision = "0011"


def upgrade() -> None:
    from relay.store.audience.schema import segment_sizes
    from relay.store.schema import suppression_rules

    there = inspect(op.get_bind())
    if not any(column["name"] == "submissions" for column in there.get_columns("signup_forms")):  # 0011 makes the table as it is today
        op.add_column("signup_forms", Column("submissions", Integer, nullable=False, server_default="0"))
    if not any(column["name"] == "kind" for column in there.get_columns("broadcasts")):  # as 0008 makes those of broadcasts
        op.add_column("broadcasts", Column("description", String(500), nullable=False, server_default=""))
        op.add_column("broadcasts", Column("kind", String(16), nullable=False, server_default="marketing"))
    suppression_rules.create(op.get_bind(), checkfirst=True)
    segment_sizes.create(op.get_bind(), checkfirst=True)
