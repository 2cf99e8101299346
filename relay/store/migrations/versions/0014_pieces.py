"""Large bodies in pieces, on PostgreSQL."""

from alembic import op
from sqlalchemy import inspect

from relay.store.schema import body_pieces

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    conn = op.get_bind()
    if not inspect(conn).has_table(body_pieces.name):  # 0001 makes all the tables that there are today
        body_pieces.create(conn)
