"""Workflows, their graphs, runs, histories and figures."""

from alembic import op

revision = "0012"
down_revision = "0016"


def upgrade() -> None:
    from relay.store.workflows.schema import TABLES

    for table in TABLES:
        table.create(op.get_bind())
