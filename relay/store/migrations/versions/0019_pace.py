"""How fast a destination may be served, learned from its answers, over a restart."""

from alembic import op
from sqlalchemy import Column, Float, Text

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("sites", Column("pace", Text))
    op.add_column("sites", Column("pace_until", Float))
