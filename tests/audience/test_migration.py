"""The step to membership tracking: lists lose those who left, growth is taken over from when people came."""

from __future__ import annotations

import importlib.util

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import inspect

from relay.mail.ids import Maker
from relay.store import migrations
from relay.store.audience import segments
from relay.store.audience.contacts import Contact
from relay.store.audience.rules import DAY
from tests.audience.conftest import NOW, PROJECT
from tests.audience.oracle import Person
from tests.audience.test_rules import LISTED, fill

MAKER = Maker(8)


def upgrade(conn):
    spec = importlib.util.spec_from_file_location("membership", migrations.VERSIONS / "0004_membership.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with Operations.context(MigrationContext.configure(conn)):
        module.upgrade()


def before(conn):
    """As the release before had it."""
    for name in ("memberships", "segment_days", "changes", "followers"):
        conn.exec_driver_sql(f"DROP TABLE {name}")
    conn.exec_driver_sql("DROP INDEX segments_tracked")
    conn.exec_driver_sql("ALTER TABLE segments DROP COLUMN settled")
    conn.exec_driver_sql("ALTER TABLE segment_members ADD COLUMN left_at FLOAT")


def test_who_left_is_gone_and_growth_stays(stored):
    people = [Contact(MAKER.next(), PROJECT, f"m{n}@example.com", f"m{n}@example.com", None, None, {}, [], False, None, None, NOW, NOW) for n in range(3)]

    def act(conn):
        fill(conn, [Person(each) for each in people])
        before(conn)
        rows = zip(people, (NOW - 3 * DAY, NOW - 2 * DAY, NOW - DAY), ("NULL", "NULL", str(NOW)), strict=True)
        for each, came, left in rows:
            conn.exec_driver_sql(f"INSERT INTO segment_members (segment_id, contact_id, added_at, left_at) VALUES ({LISTED}, {each.id}, {came}, {left})")
        upgrade(conn)
        upgrade(conn)  # an older store came here by 0002, which makes today's tables
        columns = {each["name"] for each in inspect(conn).get_columns("segment_members")}
        return columns, [members for _, members in segments.daily(conn, PROJECT, LISTED, 4, NOW)]

    assert stored.write(act) == ({"segment_id", "contact_id", "added_at"}, [1, 2, 2, 2])
