"""Templates that know their sender and their stream, and acts on many contacts that go on after a crash."""

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    from relay.store.audience.schema import bulk_acts

    bulk_acts.create(op.get_bind(), checkfirst=True)  # 0002 makes all tables of the audience as they are today
    op.add_column("templates", Column("description", String(500), nullable=False, server_default=""))
    op.add_column("templates", Column("sender", Text, nullable=False, server_default=""))
    op.add_column("templates", Column("reply_to", Text, nullable=False, server_default=""))
    op.add_column("templates", Column("stream", String(13), nullable=False, server_default="transactional"))
