"""The spam score of mail to domains."""

from alembic import op
from sqlalchemy import Column, Float, inspect

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    conn = op.get_bind()
    if "spam_score" not in {column["name"] for column in inspect(conn).get_columns("inbound")}:  # 0005 makes the table as it is today
        op.add_column("inbound", Column("spam_score", Float))
