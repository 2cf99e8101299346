"""Membership: who is in a tracked segment as far as that has been told, how segments grew day by day, and how far readers of the event log are."""

from alembic import op
from sqlalchemy import Boolean, Column, Integer, cast, column, delete, false, func, inspect, select, table, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    from relay.store.audience.schema import changes, followers, memberships, segment_days

    bind = op.get_bind()
    for each in (memberships, segment_days, changes, followers):
        each.create(bind, checkfirst=True)  # 0002 makes all tables of the audience as they are today
    found = inspect(bind)
    if "settled" not in {each["name"] for each in found.get_columns("segments")}:
        op.add_column("segments", Column("settled", Boolean, nullable=False, server_default=false()))
        op.create_index("segments_tracked", "segments", ["project_id"], sqlite_where=text("tracked = 1"), postgresql_where=text("tracked"))
    if "left_at" in {each["name"] for each in found.get_columns("segment_members")}:
        members = table("segment_members", column("segment_id"), column("added_at"), column("left_at"))
        bind.execute(delete(members).where(members.c.left_at.is_not(None)))
        days = members.c.added_at / 86_400.0
        day = cast(func.floor(days) if bind.dialect.name == "postgresql" else days, Integer)
        came = select(members.c.segment_id, day, func.count(), 0).group_by(members.c.segment_id, day)
        bind.execute(segment_days.insert().from_select(["segment_id", "day", "came", "went"], came))
        op.drop_column("segment_members", "left_at")
