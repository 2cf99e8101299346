"""Whatever contacts hold goes out as CSV or JSON and comes in elsewhere as it was; and nothing of it is seen or touched by the project beside."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.audience import contacts as acts
from relay.audience import exporter
from relay.audience.contacts import By
from relay.audience.exports import Export
from relay.audience.imports import Imports, Order
from relay.audience.reading import FILE, JSON
from relay.clock import Clock
from relay.consent import Act
from relay.delivery.dns import Resolver
from relay.errors import Invalid
from relay.mail.ids import Maker
from relay.store import projects
from relay.store.audience import contacts
from relay.store.audience.contacts import Filter
from relay.store.audience.taking import Plan
from tests.audience.conftest import NOW

BESIDE = 3
MAKER = Maker(77)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters='"\\'), min_size=1, max_size=12)
tags = st.text(min_size=1, max_size=10).filter(lambda tag: tag.isprintable()) | st.sampled_from(["a,b", "[x]", "* x", " x", 'a"b', "a ::: b"])
numbers = st.integers(-2**53, 2**53) | st.floats(allow_nan=False, allow_infinity=False, width=32)
scalars = st.one_of(texts, numbers, st.booleans(), st.sampled_from(["5", "=1", " x"]))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=4)
people = st.fixed_dictionaries({"email": st.from_regex(r"[a-z'=+]{1,8}@example\.com", fullmatch=True)}, optional={
    "first_name": texts, "last_name": texts, "tags": st.lists(tags, max_size=3, unique=True), "unsubscribed": st.booleans(),
    "properties": st.dictionaries(names | st.sampled_from(["email", "Tags", "properties", "properties.x", "created_at", "id"]), values, max_size=4)})


@pytest.fixture(scope="module")
def both(stored):
    mine = stored.call(_imports(stored))
    if not stored.read(lambda conn: conn.exec_driver_sql(f"SELECT 1 FROM projects WHERE id = {BESIDE}").all()):
        stored.write(projects.add, projects.Project(BESIDE, "beside", {}, NOW))
    yield stored, mine
    stored.call(mine.close())


async def _imports(stored):
    return Imports(stored.store, Resolver(["127.0.0.1:9"]), Clock(), MAKER, ["secret"])


def project(stored):
    """A new project."""
    number = MAKER.next()
    stored.write(projects.add, projects.Project(number, f"p{number}", {}, NOW))
    return number


def by(number):
    return By(number, Act("api", at=NOW), MAKER, ("secret",))


async def exported(stored, number, form):
    return b"".join([octets async for octets in exporter.every(stored.store, Export(number, form=form))])


async def taken(mine, number, octets, form):
    file = mine.place() / secrets.token_hex(16)
    file.write_bytes(octets)
    work = await mine.start(Order(number, file.name, f"contacts.{form}", JSON if form == "json" else FILE, look=False))
    await work.task
    return work.job.figures


@pytest.mark.parametrize("form", ["csv", "json"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(given_=st.lists(people, min_size=1, max_size=5, unique_by=lambda each: each["email"]))
def test_an_export_comes_back_as_it_was(both, form, given_):
    stored, mine = both
    one, other = project(stored), project(stored)
    for each in given_:
        with suppress(Invalid):
            stored.write(acts.create, each, by(one))
    before = {exact: stored.call(exported(stored, one, exact)) for exact in ("csv", "json")}
    if len(before["json"]) > len("[\n]\n"):
        figures = stored.call(taken(mine, other, before[form], form))
        assert figures["imported"] == figures["total"], figures
    for exact in ("csv", "json"):
        assert without_ids(stored.call(exported(stored, other, exact))) == without_ids(before[exact])
    assert not stored.read(contacts.after, BESIDE, 0, Filter(), 1)


def without_ids(octets):
    return re.sub(rb'"id":"ct_\w+"', b'"id":""', octets)


def test_a_second_import_changes_only_what_is_new_and_undo_brings_it_back(both):
    stored, mine = both
    other, beside = project(stored), project(stored)
    stored.write(acts.create, {"email": "a@example.com", "first_name": "Ann", "tags": ["x"], "properties": {"a": {"b": 1, "c": 2}, "d": 1}}, by(other))
    stored.write(acts.create, {"email": "b@example.com"}, by(other))
    stored.write(acts.create, {"email": "a@example.com", "first_name": "Beside"}, by(beside))
    before = stored.call(exported(stored, other, "json"))
    given_ = b'[{"email": "A@example.com", "last_name": "Berg", "tags": ["y", "x"], "properties": {"a": {"b": 3}, "d": null}}, {"email": "b@example.com"}]'

    async def run():
        file = mine.place() / secrets.token_hex(16)
        file.write_bytes(given_)
        work = await mine.start(Order(other, file.name, "x.json", JSON, Plan(), ("z",), look=False))
        await work.task
        return work.job

    job = stored.call(run())
    assert job.figures["updated"] == 2
    ann, bob = (stored.read(contacts.by_key, other, f"{name}@example.com") for name in "ab")
    assert (ann.first_name, ann.last_name, ann.tags, ann.properties) == ("Ann", "Berg", ["x", "y", "z"], {"a": {"b": 3}})
    assert bob.tags == ["z"]
    assert [each.id for each in stored.read(contacts.after, other, 0, Filter(search="berg"), 5)] == [ann.id]
    assert stored.read(contacts.by_key, beside, "a@example.com").first_name == "Beside"
    assert stored.call(mine.undo(other, job.id, by(other))) == {"deleted": 0, "restored": 2}
    ours = stored.call(exported(stored, other, "json"))
    assert [each | {"updated_at": ""} for each in loaded(ours)] == [each | {"updated_at": ""} for each in loaded(before)]


def loaded(octets):
    return orjson.loads(octets)
