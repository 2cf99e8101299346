"""Contacts that two make at once."""

from __future__ import annotations

from relay.audience import contacts as acts
from relay.store.audience import contacts
from tests.audience.race import meet
from tests.audience.town import Town


def test_who_keeps_contacts_in_step_meets_an_import_that_makes_the_same(stored):
    """An upsert is no conflict, whoever is first."""
    town = Town(stored)
    made, changed = meet(stored, lambda conn: acts.create(conn, {"email": "ann@example.com", "first_name": "Ann"}, town.by()),
                         lambda conn: acts.upsert(conn, {"email": "Ann@example.com", "last_name": "Berg"}, town.by()))
    assert (made.new, changed.new, changed.contact.id) == (True, False, made.contact.id)
    ann = stored.read(contacts.by_key, town.project, "ann@example.com")
    assert (ann.first_name, ann.last_name) == ("Ann", "Berg")
