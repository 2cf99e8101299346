"""How long it will take: the slowest of sites, speed, limits and machine, named; before and while it runs."""

from __future__ import annotations

import pytest

from relay.broadcasts.forecast import MACHINE, estimate, limits, running

PACES = {"google": (20.0, 0.0), "slow": (1.0, 0.0), "suspended": (10.0, 600.0)}


@pytest.mark.parametrize(("sites", "per_minute", "limit", "seconds", "by"), [
    pytest.param({}, None, {}, 0.0, "", id="nobody"),
    pytest.param({"": 4_000}, None, {}, 4_000 / MACHINE, "machine", id="many small sites"),
    pytest.param({"google": 2_000, "": 10}, None, {}, 100.0, "site google", id="one large site"),
    pytest.param({"google": 200, "slow": 60}, None, {}, 60.0, "site slow", id="the slowest of two"),
    pytest.param({"google": 100, "suspended": 10}, None, {}, 601.0, "site suspended", id="a suspension counts"),
    pytest.param({"google": 61}, 1, {}, 3_600.0, "speed", id="its own speed"),
    pytest.param({"google": 3_000}, None, {"project_per_hour": 1_000}, 7_200.0, "project limit an hour", id="the project's limit"),
    pytest.param({"google": 500}, None, {"project_per_hour": 1_000}, 25.0, "site google", id="a limit that is not reached"),
])
def test_the_longest_is_the_answer(sites, per_minute, limit, seconds, by):
    found = estimate(sites, PACES.__getitem__, per_minute, limits(limit))
    assert (found.seconds, found.limited_by) == (pytest.approx(seconds), by)


@pytest.mark.parametrize(("done", "elapsed", "seconds"), [
    pytest.param(100, 10.0, 100.0, id="too early to tell"),
    pytest.param(100, 100.0, 2_000.0, id="slower than thought"),
    pytest.param(10_000, 100.0, 100.0, id="faster: the sites still limit"),
])
def test_a_running_one_is_as_fast_as_so_far(done, elapsed, seconds):
    model = estimate({"google": 2_000}, PACES.__getitem__, None, {})
    assert running(model, done, elapsed).seconds == pytest.approx(seconds)


def test_a_forecast_before_and_while_it_is_sent(tenant, other):
    people = tenant.people(7)
    tenant.post(f"/contacts/{people[0].public_id}/unsubscribe")
    number = tenant.draft(per_minute=1)
    before = tenant.get(f"/broadcasts/{number}/forecast")
    assert (before["recipients"], before["seconds"], before["limited_by"]) == (6, 300.0, "speed")
    assert before["skipped_by_reason"] == {"unsubscribed": 1}
    assert [site["recipients"] for site in before["sites"]] == [6]
    assert tenant.get(f"/broadcasts/{number}")["status"] == "draft"
    tenant.post(f"/broadcasts/{number}/send")
    tenant.until(f"/broadcasts/{number}", lambda b: b["delivered"] == 1)
    left = tenant.get(f"/broadcasts/{number}/forecast")
    assert (left["recipients"], left["seconds"]) == (5, 240.0)
    tenant.post(f"/broadcasts/{number}/cancel")
    assert other.http.get(f"/broadcasts/{number}/forecast").status_code == 404
