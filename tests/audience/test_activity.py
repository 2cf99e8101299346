"""What contacts did is taken from the event log once, a bounded lot of it, and kept by the day."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event

from relay.store import events
from relay.store.audience import activity, contacts
from relay.store.audience.rules import DAY
from relay.store.events import Event
from relay.store.workflows import hearing
from tests.audience.conftest import NOW

KEPT = "SELECT sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE $1"
FILL = """INSERT INTO contacts (id, project_id, key, email, properties, tags, unsubscribed, search, created_at, updated_at)
    SELECT n, {project}, n || '@example.com', n || '@example.com', '{{}}', '[]', false, '', 0, 0 FROM generate_series(1, 9999) AS n"""


def test_each_event_counts_once(town):
    ann = town.join("ann")
    told = [Event(town.project, "signed up", NOW - DAY, contact_id=ann), Event(town.project, "signed up", NOW, contact_id=ann),
            Event(town.project, "signed up", NOW - 5, contact_id=ann)]
    town.stored.write(events.append, told)
    town.turn()
    town.turn()

    def rows(conn):
        found = conn.execute(activity.table.select().where(activity.table.c.contact_id == ann).order_by(activity.table.c.day)).all()
        return [(row.name, row.count, row.first_at, row.last_at) for row in found], contacts.get(conn, town.project, ann).last_active_at

    assert town.stored.read(rows) == ([("signed up", 1, NOW - DAY, NOW - DAY), ("signed up", 2, NOW - 5, NOW)], NOW)


def test_a_second_reader_of_the_log_adds_nothing(town):
    ann = town.join("ann")
    town.stored.write(events.append, [Event(town.project, "bought", NOW, contact_id=ann)])
    before = town.stored.read(activity.cursor)
    heard, after = town.stored.read(activity.heard, before or events.START, (), ())
    assert town.stored.write(activity.record, heard, before, after) is True
    assert town.stored.write(activity.record, heard, before, after) is False


def test_a_contact_holds_so_much(town, monkeypatch):
    monkeypatch.setattr(activity, "ROWS", 3)
    ann = town.join("ann")
    for turn in range(3):
        town.stored.write(events.append, [Event(town.project, f"name {turn} {number}", NOW, contact_id=ann) for number in range(2)])
        town.turn()
    count = town.stored.read(lambda conn: len(conn.execute(activity.table.select().where(activity.table.c.contact_id == ann)).all()))
    assert count == 4


@pytest.mark.parametrize("ask", [lambda conn: activity.heard(conn, events.START, ("email.opened",), ()),
                                 lambda conn: hearing.heard(conn, events.START, {"email.opened"}, True)], ids=["activity", "workflows"])
def test_readers_of_the_log_look_contacts_up_by_index_however_old_statistics_are(town, ask):
    """A plan that was made when there were few contacts read all of a million, at each look during an import."""
    if town.stored.store.dialect == "sqlite":
        pytest.skip("its plans do not follow statistics")
    town.stored.write(events.append, [Event(town.project, "bought", NOW, contact_id=town.join("ann"))])
    town.turn()

    def plans(conn):
        asked = []

        def hear(_conn, _cursor, sql, given, *_):
            asked.append((sql, given))

        event.listen(conn, "before_cursor_execute", hear)
        for _ in range(7):  # after five PostgreSQL keeps a plan
            ask(conn)
        event.remove(conn, "before_cursor_execute", hear)
        told = dict(each for each in asked if re.search("FROM contacts.*FROM events", each[0], re.DOTALL))
        kept = conn.exec_driver_sql(KEPT, ("%FROM contacts%FROM events%",)).scalar()
        conn.exec_driver_sql(FILL.format(project=town.project))
        explained = ["\n".join(conn.exec_driver_sql(f"EXPLAIN {sql}", given).scalars()) for sql, given in told.items()]
        conn.exec_driver_sql("DELETE FROM contacts WHERE id < 10000")
        return kept, explained

    kept, explained = town.stored.write(plans)
    assert kept == 0
    assert len(explained) >= 2
    assert not [plan for plan in explained if re.search(r"Seq Scan on (contacts|recipients)", plan)]
    assert re.search(r"contacts_project_id_key_key .*\n *Index Cond: \(\(project_id = events.project_id\) AND \(\(?key\b", "".join(explained))
