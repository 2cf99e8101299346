"""A project with people in it whom its segments follow, for tests of who comes and goes."""

from __future__ import annotations

from relay.audience import contacts as acts
from relay.audience import segments as segment_acts
from relay.audience.contacts import By
from relay.audience.following import Following
from relay.clock import Clock
from relay.consent import Act
from relay.mail.ids import Maker
from relay.news import News
from relay.store import events, projects
from relay.store.audience import memberships
from relay.store.audience.segments import Segment
from tests.audience.conftest import NOW

MAKER = Maker(6)
PRO = [{"field": "plan", "operator": "equals", "value": "pro"}]
SECRETS = ("a secret of thirty-two characters",)


class Town:
    """A project of its own with its people; `said` are the entries and exits told so far, as ("entry", "ann")."""

    def __init__(self, stored):
        self.stored, self.now, self.names = stored, NOW, {}
        self.project = MAKER.next()
        stored.write(projects.add, projects.Project(self.project, f"town-{self.project}", {}, NOW))
        self.news = News(stored.store)
        self.following = Following(stored.store, self.news, Clock(now=lambda: self.now), lambda: None)

    def by(self):
        return By(self.project, Act("api", at=self.now), MAKER, SECRETS)

    def join(self, name, **properties):
        """A contact, by the API."""
        made = self.stored.write(acts.create, {"email": f"{name}@{self.project}.example", "properties": properties}, self.by()).contact
        self.names[made.id] = name
        return made.id

    def change(self, number, **properties):
        self.stored.write(acts.change, number, {"properties": properties}, self.by())

    def segment(self, rules, name="Trial Users", audience=None, tracked=True):
        made = Segment(MAKER.next(), self.project, name, "", rules, audience, tracked, self.now, self.now)
        return self.stored.write(segment_acts.create, made)

    def turn(self):
        """What the task does at its next look."""
        self.stored.call(self.following.turn(), 60)

    def minute(self, seconds=60.0):
        self.now += seconds
        self.stored.call(self.following.membership.pass_time(), 60)

    def happened(self):
        found, cursor = [], events.START
        while True:
            some, cursor = self.stored.read(lambda conn, after: events.since(conn, after, project=self.project), cursor)
            found += some
            if not some:
                return [event for event in found if event.type.startswith("segment.")]

    @property
    def said(self):
        return [(event.type.rpartition(".")[2], self.names[event.contact_id]) for event in self.happened()]

    def held(self, segment):
        def names(conn):
            return {self.names[each] for each in conn.scalars(
                memberships.memberships.select().with_only_columns(memberships.memberships.c.contact_id)
                .where(memberships.memberships.c.segment_id == segment.id))}

        return self.stored.read(names)
