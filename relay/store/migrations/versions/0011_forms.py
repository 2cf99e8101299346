"""Signup forms."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    from relay.store.audience.schema import signup_forms

    signup_forms.create(op.get_bind(), checkfirst=True)  # 0002 makes all tables of the audience as they are today
