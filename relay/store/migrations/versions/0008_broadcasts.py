"""Broadcasts, their variants, ledger, figures and links."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    from relay.store.broadcasts.schema import TABLES

    for table in TABLES:
        table.create(op.get_bind())
