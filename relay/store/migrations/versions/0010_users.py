"""People who sign in to the dashboard."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    from relay.store.schema import users

    users.create(op.get_bind())
