"""A site's turns, window, rate and reactions, without a clock or a socket."""

from __future__ import annotations

import pytest

from relay import shaping
from relay.mail.reply import Reply
from relay.queue.site import FAILS, PROBES, START, Site
from relay.queue.waiting import TOGETHER, Waiting
from relay.shaping import Limits, Rate

SHAPING = shaping.read()


def site(**limits):
    return Site("mx.test", Limits(**limits), "other")


def put(where, number, project=1, stream="transactional", key="k", message=None):
    return where.add(Waiting(number, message or number, project, "example.net", stream, 0.0), key, 0.0)


def taken(where, key=None):
    order = []
    while (found := where.take(key)) is not None:
        order.append(tuple(w.recipient_id for w in found[1].waiting))
    return order


def test_transactional_first_then_project_by_project():
    here = site()
    bulk, urgent = "marketing", "transactional"
    for number, project, stream in [(1, 1, bulk), (2, 1, bulk), (3, 1, urgent), (4, 2, bulk), (5, 2, urgent), (6, 1, bulk)]:
        put(here, number, project, stream)
    assert taken(here) == [(3,), (5,), (1,), (4,), (2,), (6,)]
    assert here.size == 0


def test_a_million_of_one_project_do_not_hold_anothers_mail():
    here = site()
    for number in range(1, 1001):
        put(here, number, 1)
    put(here, 2000, 2)
    order = taken(here)
    assert order.index((2000,)) == 1


def test_recipients_of_one_message_share_a_transaction_up_to_a_bound():
    here = site()
    for number in range(TOGETHER + 1):
        put(here, number + 1, message=77)
    assert [len(group) for group in taken(here)] == [TOGETHER, 1]


def test_a_connection_takes_turns_of_its_own_place_only():
    here = site()
    put(here, 1, key="a")
    put(here, 2, key="b")
    put(here, 3, key="a", project=2)
    assert taken(here, "a") == [(1,), (3,)]
    assert taken(here) == [(2,)]


def test_places_of_a_project_take_turns():
    here = site()
    for number, key in [(1, "a"), (2, "a"), (3, "b")]:
        put(here, number, key=key)
    assert taken(here) == [(1,), (3,), (2,)]


def test_those_who_are_gone_are_passed_over():
    here = site()
    put(here, 1).waiting[0].gone = True
    put(here, 2)
    assert taken(here) == [(2,)]


def test_a_turn_put_back_is_next():
    here = site()
    for number in (1, 2):
        put(here, number)
    key, first = here.take()
    here.put_back(key, first)
    assert taken(here) == [(1,), (2,)]


def test_the_window_grows_and_shrinks_gently():
    here = site(connections=10)
    assert here.allowed(0.0) == START
    here.open = 5
    for _ in range(5):
        here.delivered()
    assert here.allowed(0.0) == 5
    here.delivered()
    assert here.allowed(0.0) == 6
    here.refused(0.0)
    assert here.window == pytest.approx(6.0, abs=0.2)
    for _ in range(200):
        here.refused(0.0)
    assert here.window == 1.0


def test_a_window_that_is_not_full_does_not_grow():
    here = site(connections=10)
    here.open = 2
    for _ in range(100):
        here.delivered()
    assert here.window == START


def test_after_a_refusal_no_connection_is_added_for_a_while():
    here = site()
    here.open = 3
    here.refused(100.0)
    assert here.allowed(101.0) == 3
    assert here.allowed(106.0) > 3


def test_an_unreachable_site_gets_one_probe_at_a_time():
    here = site()
    assert [here.failed(0.0) for _ in range(FAILS)] == [False] * (FAILS - 1) + [True]
    assert here.blocked(0.0) == PROBES[0]
    assert here.allowed(0.0) == 0
    assert here.allowed(PROBES[0] + 1) == 1
    for step in PROBES[1:] + PROBES[-1:]:
        here.failed(0.0)
        assert here.probe_at == step
    here.connected()
    assert here.blocked(0.0) == 0.0


def test_a_rate_spaces_messages():
    here = site(rate=Rate(10, 60.0))
    assert here.grant(0.0) == 0.0
    assert here.grant(0.0) == pytest.approx(6.0)
    assert here.grant(6.0) == 0.0
    sent = sum(here.grant(float(t)) == 0.0 for t in range(7, 607))
    assert 99 <= sent <= 101


@pytest.mark.parametrize(
    ("name", "texts", "suspended", "rate", "connections"),
    [
        pytest.param("yahoo", ["[TSS04] deferred"], 7200.0, None, 10, id="yahoo-suspends-at-once"),
        pytest.param("google", ["unusual rate of mail"], 0.0, None, 5, id="google-once-is-noise"),
        pytest.param("google", ["unusual rate of mail"] * 2, 0.0, Rate(10, 60.0), 5, id="google-twice-is-a-rate"),
        pytest.param("outlook", ["IB007"], 0.0, None, 1, id="outlook-too-many-connections"),
        pytest.param("mx.test", ["Server busy"], 0.0, Rate(1, 60.0), 1, id="any-site-busy"),
        pytest.param("mx.test", ["no such user"] * 50, 0.0, None, 10, id="recipients-slow-nobody"),
    ],
)
def test_reactions(name, texts, suspended, rate, connections):
    here = Site(name, SHAPING.limits(name), "other")
    for text in texts:
        for reaction in SHAPING.reactions(name, Reply(421, "4.7.0", text), "soft"):
            here.react(reaction, 100.0)
    assert max(0.0, here.suspended - 100.0) == suspended
    assert here.rate(100.0) == (rate if not suspended else here.rate(100.0))
    assert here.connections(100.0) == (connections if not suspended else here.connections(100.0))


def test_what_a_reply_brought_on_ends():
    here = Site("mx.test", SHAPING.default, "other")
    for reaction in SHAPING.reactions("mx.test", Reply(421, "", "server busy"), "rate"):
        here.react(reaction, 0.0)
    assert here.rate(5399.0) is not None
    assert here.rate(5401.0) is None
    assert here.connections(5401.0) == 10


def test_replies_spread_over_a_day_bring_on_nothing():
    here = Site("google", SHAPING.limits("google"), "google")
    for hour in range(24):
        for reaction in SHAPING.reactions("google", Reply(421, "4.7.28", "unusual rate"), "rate"):
            here.react(reaction, hour * 7200.0)
    assert here.rate(24 * 7200.0) is None


def test_resume_forgets_every_slowness():
    here = site()
    here.suspend(1e9, "by hand")
    for _ in range(9):
        here.failed(0.0)
    here.resume()
    assert here.allowed(0.0) == START
    assert here.limit(0.0) == ("", None)


def test_it_says_what_holds_mail_back():
    here = site(connections=1)
    here.open = 1
    assert here.limit(0.0) == ("1 of 1 connections in use", None)
    here.suspend(50.0, "said 421 slow down")
    assert here.limit(0.0) == ("site suspended: said 421 slow down", 50.0)
