"""The small nouns on real databases: projects, keys, domains, suppressions, sites, leases, counters, idempotency."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.errors import Conflict, Invalid, NotFound
from relay.mail.ids import Maker
from relay.store import counters, domains, idempotency, keys, leases, projects, sites, suppressions
from relay.store.engine import Store

NOW = 1_700_000_000.0
IDS = Maker()
Run = Callable[..., Any]


@pytest.fixture
async def run(store_url: str, tmp_path: Path) -> AsyncIterator[Run]:
    """`await run(fn, *args)`: the noun's function in a transaction of its own, on each database."""
    store = await Store.open(store_url, tmp_path / "data", accept_old_sqlite=True)
    yield store.write
    await store.close()


@pytest.fixture
async def one(run) -> projects.Project:
    return await run(projects.ensure, projects.Project(IDS.next(), "default", {}, NOW))


@pytest.fixture
async def two(run) -> projects.Project:
    return await run(projects.add, projects.Project(IDS.next(), "shop", {}, NOW))


async def test_a_project_is_made_once(run, one):
    assert await run(projects.ensure, projects.Project(IDS.next(), "default", {}, NOW + 1)) == one
    with pytest.raises(Conflict):
        await run(projects.add, projects.Project(IDS.next(), "default", {}, NOW))
    assert await run(projects.every) == [one]
    with pytest.raises(NotFound, match="relay project create nope"):
        await run(projects.by_name, "nope")


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 65, "a/b", "ä"])
def test_a_project_name_is_plain(name):
    with pytest.raises(Invalid):
        projects.checked(name)


async def test_a_key_is_found_by_its_text_until_it_is_revoked(run, one):
    key, text = keys.mint(IDS.next(), one.id, "app", "sending_access", "test", "Bücher.example", NOW)
    assert text.startswith("sk_test_")
    assert len(text) >= 8 + 32
    assert key.domain == "xn--bcher-kva.example"
    await run(keys.add, key, keys.fingerprint(text))
    assert await run(keys.find, text) == key
    assert await run(keys.find, text[:-1]) is None
    await run(keys.used, [key.id], NOW + 5)
    assert (await run(keys.find, text)).last_used_at == NOW + 5
    await run(keys.revoke, one.id, "app", NOW + 6)
    assert await run(keys.find, text) is None
    assert await run(keys.by_project, one.id) == []


@pytest.mark.parametrize("called", ["id", "name", "prefix", "text"])
async def test_a_key_answers_to(run, one, two, called):
    key, text = keys.mint(IDS.next(), one.id, "app", "full_access", "live", "", NOW)
    await run(keys.add, key, keys.fingerprint(text))
    name = {"id": key.public_id, "name": "app", "prefix": key.prefix, "text": text}[called]
    assert await run(keys.get, one.id, name) == key
    with pytest.raises(NotFound):
        await run(keys.get, two.id, name)


async def test_a_name_that_two_keys_share_revokes_neither(run, one):
    for _ in range(2):
        key, text = keys.mint(IDS.next(), one.id, "app", "full_access", "live", "", NOW)
        await run(keys.add, key, keys.fingerprint(text))
    with pytest.raises(Invalid, match="several keys"):
        await run(keys.revoke, one.id, "app", NOW)
    assert len(await run(keys.by_project, one.id)) == 2


async def test_a_rotated_key_keeps_what_it_may_do(run, one):
    old, text = keys.mint(IDS.next(), one.id, "app", "sending_access", "live", "a.example", NOW)
    await run(keys.add, old, keys.fingerprint(text))
    new, fresh = keys.renewed(old, IDS.next(), NOW + 1)
    await run(keys.rotate, old, new, keys.fingerprint(fresh))
    assert await run(keys.find, text) is None
    found = await run(keys.find, fresh)
    assert (found.name, found.permission, found.mode, found.domain) == ("app", "sending_access", "live", "a.example")


def _domain(project: projects.Project, name: str, **changes: Any) -> domains.Domain:
    number = IDS.next()
    pair = tuple(domains.DkimKey(IDS.next(), number, f"s{n}", algorithm, "enc:x", "p", "active", NOW)
                 for n, algorithm in enumerate(("ed25519-sha256", "rsa-sha256")))
    return replace(domains.Domain(number, project.id, name, "pending", {}, {}, NOW, keys=pair), **changes)


async def test_a_domain_signs_from_the_start_rsa_first(run, one, two):
    added = await run(domains.add, _domain(one, "a.example"))
    assert [key.algorithm for key in await run(domains.signing, one.id, "a.example")] == ["rsa-sha256", "ed25519-sha256"]
    assert await run(domains.signing, two.id, "a.example") == []
    assert await run(domains.by_project, two.id) == []
    found = await run(domains.get, one.id, "a.example")
    assert await run(domains.get, one.id, added.public_id) == found
    assert await run(domains.every) == [found]


async def test_a_domain_is_added_once_to_a_project(run, one, two):
    await run(domains.add, _domain(one, "a.example"))
    with pytest.raises(Conflict):
        await run(domains.add, _domain(one, "a.example"))
    await run(domains.add, _domain(two, "a.example"))


async def test_only_one_project_may_have_a_domain_verified(run, one, two):
    first, second = await run(domains.add, _domain(one, "a.example")), await run(domains.add, _domain(two, "a.example"))
    await run(domains.checked, replace(first, status="verified", verified_at=NOW), NOW)
    with pytest.raises(Conflict, match="verified by another project"):
        await run(domains.checked, replace(second, status="verified"), NOW)
    await run(domains.remove, two.id, "a.example")
    with pytest.raises(Conflict):
        await run(domains.add, _domain(two, "a.example"))


async def test_a_rotation_signs_with_the_old_keys_until_it_is_activated(run, one):
    domain = await run(domains.add, _domain(one, "a.example"))
    with pytest.raises(Conflict):
        await run(domains.activate, one.id, "a.example")
    fresh = domains.DkimKey(IDS.next(), domain.id, "next", "rsa-sha256", "enc:y", "q", "pending", NOW + 1)
    await run(domains.add_keys, [fresh])
    assert {key.selector for key in await run(domains.signing, one.id, "a.example")} == {"s0", "s1"}
    await run(domains.activate, one.id, "a.example")
    assert [key.selector for key in await run(domains.signing, one.id, "a.example")] == ["next"]
    assert {key.selector: key.state for key in (await run(domains.get, one.id, "a.example")).keys} == {"s0": "retired", "s1": "retired", "next": "active"}


@pytest.mark.parametrize(("settings", "checks", "tracking", "return_path"), [
    pytest.param({}, {}, "", "", id="nothing-set"),
    pytest.param({"tracking_domain": "t.a.example", "return_path": "b.a.example"}, {}, "", "", id="not-yet-in-dns"),
    pytest.param({"tracking_domain": "t.a.example", "return_path": "b.a.example"}, {"CNAME t.a.example": True, "MX b.a.example": True},
                 "t.a.example", "b.a.example", id="shown-by-dns"),
])
def test_own_hosts_count_once_dns_shows_them(settings, checks, tracking, return_path):
    domain = domains.Domain(1, 1, "a.example", "verified", checks, settings, NOW)
    assert (domain.tracking_host, domain.return_path) == (tracking, return_path)


SCOPES = [  # scope of the entry, stream, topic, whether it stops
    ("all", "transactional", "", True), ("all", "marketing", "news", True),
    ("marketing", "transactional", "", False), ("marketing", "transactional", "news", False), ("marketing", "marketing", "", True),
    ("topic:news", "marketing", "news", True), ("topic:news", "transactional", "news", True), ("topic:news", "marketing", "offers", False),
    ("topic:news", "marketing", "", False),
]


async def test_what_a_suppression_stops(run, one, two):
    for number, (scope, stream, topic, stops) in enumerate(SCOPES):
        entry = suppressions.make(IDS.next(), one.id, f"Ann{number}@Example.com", "unsubscribe", scope, {}, NOW)
        assert await run(suppressions.add, entry)
        found = await run(suppressions.find, one.id, f"ann{number}@example.com", stream, topic)
        assert (found == entry) is stops, (scope, stream, topic)
        assert await run(suppressions.find, two.id, f"ann{number}@example.com", stream, topic) is None
        several = [f"ann{number}@example.com", "bob@example.com", "Zoë@example.com"]
        assert await run(suppressions.stopping, one.id, several, stream, topic) == ({several[0]: found} if found else {})
        assert await run(suppressions.stopping, two.id, several, stream, topic) == {}


REASONS = ["unsubscribe", "manual", "hard_bounce", "complaint"]


async def test_the_graver_reason_stays(run, one):
    for first, second in itertools.product(REASONS, REASONS):
        graver, name = REASONS.index(second) > REASONS.index(first), f"{first}.{second}@b.example"
        await run(suppressions.add, suppressions.make(IDS.next(), one.id, name, first, "all", {}, NOW))
        assert await run(suppressions.add, suppressions.make(IDS.next(), one.id, name.upper(), second, "all", {}, NOW + 1)) is graver, name
        assert (await run(suppressions.find, one.id, name, "transactional", "")).reason == (second if graver else first)


async def test_an_import_can_be_undone_alone(run, one, two):
    await run(suppressions.add, suppressions.make(IDS.next(), one.id, "kept@b.example", "manual", "all", {}, NOW))
    batch = [suppressions.make(IDS.next(), p.id, f"u{n}@b.example", "manual", "all", {"batch": "imp_1"}, NOW) for n in range(5) for p in (one, two)]
    assert await run(suppressions.add_many, batch) == 10
    assert await run(suppressions.add_many, batch) == 0
    assert len(await run(suppressions.undo, one.id, suppressions.Filter(batch="imp_1"), 3)) == 3
    assert len(await run(suppressions.undo, one.id, suppressions.Filter(batch="imp_1"), 30)) == 2
    assert [e.key for e in await run(suppressions.page, one.id, suppressions.Filter(), 10)] == ["kept@b.example"]
    assert await run(suppressions.counts, two.id) == {"manual": 5}
    first = await run(suppressions.page, two.id, suppressions.Filter(), 2)
    assert len(await run(suppressions.page, two.id, suppressions.Filter(after=first[-1].id), 10)) == 3


async def test_only_what_is_over_lapses(run, one, two):
    for project, name, ends in ((one, "over", NOW), (two, "over", NOW - 1), (one, "later", NOW + 1), (one, "stays", None)):
        await run(suppressions.add, suppressions.make(IDS.next(), project.id, f"{name}@b.example", "manual", "all", {}, NOW - 60, ends))
    assert {(e.project_id, e.key) for e in await run(suppressions.lapsed, NOW, 10)} == {(one.id, "over@b.example"), (two.id, "over@b.example")}
    assert await run(suppressions.lapsed, NOW, 10) == []
    assert [e.key for e in await run(suppressions.page, one.id, suppressions.Filter(), 10)] == ["later@b.example", "stays@b.example"]


async def test_removing_names_what_went(run, one):
    for scope in ("all", "topic:news"):
        await run(suppressions.add, suppressions.make(IDS.next(), one.id, "a@b.example", "unsubscribe", scope, {}, NOW))
    assert [e.scope for e in await run(suppressions.remove, one.id, "a@b.example", "topic:news")] == ["topic:news"]
    assert [e.scope for e in await run(suppressions.remove, one.id, "a@b.example")] == ["all"]
    assert await run(suppressions.remove, one.id, "a@b.example") == []


async def test_a_site_suspended_by_hand_stays_so(run):
    await run(sites.suspend, "google", NOW + 60, "421 slow down", False, NOW)
    assert (await run(sites.get, "google")).suspended(NOW + 59)
    assert not (await run(sites.get, "google")).suspended(NOW + 61)
    await run(sites.suspend, "google", None, "moving house", True, NOW)
    await run(sites.suspend, "google", NOW + 60, "421 slow down", False, NOW)
    assert (await run(sites.get, "google")).suspended(NOW + 1e9)
    assert await run(sites.prune, NOW + 1e9) == 0
    assert await run(sites.resume, "google", NOW)
    assert not await run(sites.resume, "google", NOW)
    assert await run(sites.remembered, NOW) == []


async def test_broken_tls_is_remembered_beside_a_suspension(run):
    await run(sites.suspend, "old.example", NOW + 60, "busy", False, NOW)
    await run(sites.broken_tls, "old.example", NOW + 100, NOW)
    assert await run(sites.remembered, NOW + 50) == [sites.Site("old.example", NOW + 60, "busy", False, NOW + 100)]
    assert await run(sites.prune, NOW + 99) == 0
    assert await run(sites.prune, NOW + 101) == 1


async def test_the_pace_of_a_site_counts_until_its_end(run):
    await run(sites.learn, {"busy.example": "slow", "well.example": ""}, NOW + 60, NOW)
    assert await run(sites.remembered, NOW + 59) == [sites.Site("busy.example", pace="slow", pace_until=NOW + 60)]
    assert not (await run(sites.get, "busy.example")).suspended(NOW)
    await run(sites.suspend, "busy.example", None, "moving house", True, NOW)
    assert await run(sites.resume, "busy.example", NOW)
    assert await run(sites.remembered, NOW) == []
    assert await run(sites.prune, NOW) == 2


async def test_a_lease_has_one_holder(run):
    assert await run(leases.take, "delivery", "a")
    assert await run(leases.take, "delivery", "a")
    assert not await run(leases.take, "delivery", "b")
    assert await run(leases.holder, "delivery") == "a"
    [(name, node, left)] = await run(leases.held)
    assert (name, node) == ("delivery", "a")
    assert 55 < left <= 60
    await run(leases.release, "delivery", "b")
    assert await run(leases.holder, "delivery") == "a"
    await run(leases.release_all, "a")
    assert await run(leases.take, "delivery", "b", -1.0)
    assert await run(leases.holder, "delivery") is None
    assert await run(leases.take, "delivery", "a")


async def test_a_counter_never_lets_more_through_in_any_period(run):
    taken = []
    for step in range(400):
        now = NOW + step
        if await run(counters.take, "key:1:hour", 7, 100.0, 1, now) == 0.0:
            taken.append(now)
    assert all(sum(1 for t in taken if start <= t < start + 100) <= 7 for start in taken)
    assert len(taken) >= 4 * 6


async def test_a_full_counter_says_when_there_is_room(run):
    assert await run(counters.take, "k", 10, 60.0, 10, NOW) == 0.0
    wait = await run(counters.take, "k", 10, 60.0, 1, NOW + 1)
    assert 55 < wait <= 64
    assert await run(counters.take, "k", 10, 60.0, 1, NOW + 1 + wait) == 0.0
    assert await run(counters.take, "other", 10, 60.0, 1, NOW + 1) == 0.0


async def test_what_is_given_back_can_be_taken_again(run):
    assert await run(counters.take, "k", 2, 60.0, 2, NOW) == 0.0
    await run(counters.give_back, "k", 1)
    assert await run(counters.take, "k", 2, 60.0, 1, NOW) == 0.0
    assert await run(counters.take, "k", 2, 60.0, 1, NOW) > 0
    await run(counters.give_back, "never-taken", 5)
    assert await run(counters.take, "k", 5, 60.0, 6, NOW + 1000) > 0
    assert await run(counters.prune, NOW + counters.KEPT + 100) > 0


async def test_an_idempotency_key_is_claimed_once_until_it_expires(run, one, two):
    entry = idempotency.Entry(one.id, "http", "order-1", "h1", {"id": "em_1"}, NOW, NOW + 86_400)
    assert await run(idempotency.claim, entry) is None
    assert await run(idempotency.claim, replace(entry, hash="h2", answer={}, created_at=NOW + 1)) == entry
    assert await run(idempotency.claim, replace(entry, project_id=two.id)) is None
    assert await run(idempotency.claim, replace(entry, dialect="smtp")) is None
    late = replace(entry, hash="h3", created_at=NOW + 86_400, expires_at=NOW + 2 * 86_400)
    assert await run(idempotency.claim, late) is None
    assert await run(idempotency.get, one.id, "http", "order-1", NOW + 86_401) == late
    assert await run(idempotency.prune, NOW + 86_400, 100) == 2
    assert await run(idempotency.prune, NOW + 9e9, 100) == 1
