"""Imports that go on after a crash, say why they failed, and can be undone with what they changed."""

from alembic import op
from sqlalchemy import Column, Integer, Text, inspect

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    from relay.store.audience.schema import import_changes
    from relay.store.schema import Json

    bind = op.get_bind()
    import_changes.create(bind, checkfirst=True)  # 0002 makes all tables of the audience as they are today
    if "reached" not in {each["name"] for each in inspect(bind).get_columns("imports")}:
        op.add_column("imports", Column("job", Json, nullable=False, server_default="{}"))
        op.add_column("imports", Column("reached", Integer, nullable=False, server_default="0"))
        op.add_column("imports", Column("reason", Text, nullable=False, server_default=""))
