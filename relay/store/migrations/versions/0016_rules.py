"""Rules on recipients, the size of segments by day, and broadcasts that are not all marketing."""

from alembic import op
from sqlalchemy import Column, String, inspect

revision = "0016"
down_revision = "0011"


def upgrade() -> None:
    from relay.store.audience.schema import segment_sizes
    from relay.store.schema import suppression_rules

    there = {column["name"] for column in inspect(op.get_bind()).get_columns("broadcasts")}
    if "kind" not in there:  # 0008 makes the tables of broadcasts as they are today
        op.add_column("broadcasts", Column("description", String(500), nullable=False, server_default=""))
        op.add_column("broadcasts", Column("kind", String(16), nullable=False, server_default="marketing"))
    suppression_rules.create(op.get_bind(), checkfirst=True)
    segment_sizes.create(op.get_bind(), checkfirst=True)
