"""How segments grow: counted by each coming and going, or once a day; and it outlives the people."""

from __future__ import annotations

from relay.audience import contacts as acts
from relay.audience import segments as segment_acts
from relay.audience import sizes
from relay.store.audience import growth, segments
from relay.store.audience.rules import DAY
from tests.audience.conftest import NOW
from tests.audience.town import PRO


def test_a_segment_that_is_not_tracked_is_counted_once_a_day(town):
    """Contract §6 has no figures for these; an uncounted day is left out, a second look on a day changes nothing, and a year later it is forgotten."""
    plain, _tracked, _static = town.segment(PRO, tracked=False), town.segment(PRO), town.segment(None, "static")
    assert town.stored.read(segments.daily, town.project, plain.id, 30, town.now) is None
    for days, names in ((-3, ("ann",)), (-1, ("bob", "cid")), (-1, ("dan",))):
        town.now = NOW + days * DAY
        for name in names:
            town.join(name, plan="pro")
        town.stored.call(sizes.count(town.stored.store, town.now))
    town.now = NOW
    today = NOW // DAY * DAY
    assert town.stored.read(segments.daily, town.project, plain.id, 30, town.now) == [(today - 3 * DAY, 1), (today - DAY, 3)]
    assert town.stored.read(segments.daily, town.project, plain.id, 2, town.now) == [(today - DAY, 3)]
    assert town.stored.read(growth.latest, [plain.id, 1]) == {plain.id: 3}
    town.stored.call(sizes.count(town.stored.store, NOW + 500 * DAY))
    assert town.stored.read(segments.daily, town.project, plain.id, 30, town.now) == [(NOW // DAY * DAY + 500 * DAY, 4)]


def test_growth_outlives_people(town):
    segment, static = town.segment(PRO), town.segment(None, "static")
    town.now = NOW - 2 * DAY
    ann, bob = town.join("ann", plan="pro"), town.join("bob", plan="pro")
    town.stored.write(segment_acts.put, town.project, static.id, [ann, bob], town.now)
    town.now = NOW - DAY
    town.change(ann, plan="free")
    town.stored.write(segment_acts.take, town.project, static.id, [ann], town.now)
    town.now = NOW
    town.change(ann, plan="pro")
    town.stored.write(acts.erase, [bob], town.by())
    for each, wanted in ((segment, [0, 2, 1, 1]), (static, [0, 2, 1, 0])):
        assert [members for _, members in town.stored.read(segments.daily, town.project, each.id, 4, NOW)] == wanted


def test_tracking_that_begins_and_ends_loses_no_day(town):
    """Untracked, tracked, untracked, and tracked again: each day has what it had, none of them less than nothing."""
    segment = town.segment(PRO, tracked=False)

    def on(day, tracked=None):
        town.now = NOW + day * DAY
        if tracked is not None:
            town.stored.write(segment_acts.change, town.project, segment.id, {"tracked": tracked, "updated_at": town.now})
        town.stored.call(sizes.count(town.stored.store, town.now))

    def grown(days):
        return [members for _, members in town.stored.read(segments.daily, town.project, segment.id, days, town.now)]

    on(-5)
    town.join("ann", plan="pro")
    on(-4)
    town.now += 60
    bob = town.join("bob", plan="pro")
    on(-3, tracked=True)
    town.join("cid", plan="pro")
    on(-2)
    town.change(bob, plan="free")
    assert grown(4) == [0, 1, 3, 2]
    on(-1, tracked=False)
    town.minute()
    assert grown(5) == [0, 1, 3, 2, 2]
    on(0, tracked=True)
    assert grown(7) == [0, 0, 1, 3, 2, 2, 2]
