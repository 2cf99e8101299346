"""What a person has said outlives the contact and follows it to another address; and it is no word to the project beside."""

from __future__ import annotations

import pytest

from relay import consent
from relay.audience import contacts as acts
from relay.audience.contacts import By
from relay.consent import Act
from relay.mail.ids import Maker
from relay.store import projects, suppressions
from relay.store.audience import contacts, topics
from relay.store.audience.topics import Topic
from tests.audience.conftest import NOW

MAKER = Maker(8)
ANN, NEW = "ann@example.com", "new@example.com"


class Club:
    """A project of its own with a topic."""

    def __init__(self, stored, secrets=("a secret of thirty-two characters",)):
        self.stored, self.secrets, self.project = stored, secrets, MAKER.next()
        stored.write(projects.add, projects.Project(self.project, f"club-{self.project}", {}, NOW))
        self.topic = stored.write(topics.add, Topic(MAKER.next(), self.project, "news", "", NOW)).id

    def act(self, fn, *args):
        return self.stored.write(fn, *args, By(self.project, Act("api", at=NOW), MAKER, self.secrets))

    def create(self, email=ANN):
        return self.act(acts.create, {"email": email}).contact

    def stops(self, email=ANN, topic=False):
        """Whether marketing mail, of the topic or of none, is kept from the address."""
        return self.stored.read(suppressions.find, self.project, email, "marketing", topics.public(self.topic) if topic else "") is not None

    def said(self, contact):
        """Whether the contact is unsubscribed, and whether it has left the topic."""
        def read(conn):
            found = contacts.get(conn, self.project, contact.id)
            return found.unsubscribed, not topics.of_contact(conn, found)[0].subscribed

        return self.stored.read(read)

    def forget_suppressions(self, email=ANN):
        self.stored.write(suppressions.remove, self.project, email)


@pytest.fixture
def club(stored):
    return Club(stored)


def leave_topic(club, contact, wanted=False):
    club.act(acts.subscribe, contact.id, club.topic, wanted)


@pytest.mark.parametrize("left", ["everything", "a topic"])
def test_who_is_deleted_and_comes_again_is_known_by_a_hash(club, left):
    ann, beside = club.create(), Club(club.stored)
    if left == "everything":
        club.act(acts.leave, ann.id)
    else:
        leave_topic(club, ann)
    club.act(acts.erase, [ann.id])
    club.forget_suppressions()
    again = club.create("ANN@example.com")
    assert club.said(again) == (left == "everything", left == "a topic")
    assert club.stops(topic=left == "a topic")
    assert beside.said(beside.create()) == (False, False)


def test_a_hash_is_known_by_an_older_secret_too(club):
    ann = club.create()
    club.act(acts.leave, ann.id)
    club.act(acts.erase, [ann.id])
    club.forget_suppressions()
    club.secrets = ("another secret of thirty-two chars", *club.secrets)
    assert club.said(club.create()) == (True, False)


def test_who_came_back_before_being_deleted_is_not_held_to_what_was_said_before(club):
    ann = club.create()
    club.act(acts.leave, ann.id)
    leave_topic(club, ann)
    club.act(acts.erase, [ann.id])
    again = club.create()
    person = club.stored.read(contacts.get, club.project, again.id)
    club.stored.write(consent.join, person, Act("preferences", at=NOW))  # by the page, which knows no hashes
    club.stored.write(consent.join_topic, person, club.topic, Act("preferences", at=NOW))
    club.act(acts.erase, [again.id])
    assert club.said(club.create()) == (False, False)
    assert not club.stops()
    assert not club.stops(topic=True)


def test_another_address_keeps_what_the_contact_has_left(club):
    ann = club.create()
    club.act(acts.leave, ann.id)
    leave_topic(club, ann)
    club.act(acts.change, ann.id, {"email": NEW})
    assert club.said(ann) == (True, True)
    assert club.stops(NEW)
    assert club.stops(NEW, topic=True)
    assert club.stops(ANN), "the old address has said it too"


def test_another_address_with_an_opt_in_is_free(club):
    ann = club.create()
    club.act(acts.leave, ann.id)
    club.act(acts.change, ann.id, {"email": NEW, "unsubscribed": False})
    assert club.said(ann) == (False, False)
    assert not club.stops(NEW)
    assert club.stops(ANN)


def test_another_address_that_had_left_makes_the_contact_leave(club):
    ann, gone = club.create(), club.create(NEW)
    club.act(acts.leave, gone.id)
    club.act(acts.erase, [gone.id])
    club.act(acts.change, ann.id, {"email": NEW})
    assert club.said(ann) == (True, False)
