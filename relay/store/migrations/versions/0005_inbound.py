"""Mail to domains of projects, and what receivers report about them."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    from relay.store.inbound.schema import TABLES

    for table in TABLES:
        table.create(op.get_bind(), checkfirst=True)
    op.create_index("domains_by_name", "domains", ["name"])
