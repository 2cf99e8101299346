"""How many contacts an act on many came to, changed or not: how far it is."""

from alembic import op
from sqlalchemy import Column, Integer, inspect

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    conn = op.get_bind()
    if "seen" not in {column["name"] for column in inspect(conn).get_columns("bulk_acts")}:  # 0007 makes the table as it is today
        op.add_column("bulk_acts", Column("seen", Integer, nullable=False, server_default="0"))
