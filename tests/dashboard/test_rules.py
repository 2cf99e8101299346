"""Rules as forms: whatever a grammar takes is shown by rows whose operators the table has, and comes back as it was; what is changed means what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.audience.grammars import GROUPED, WORDS, read
from relay.dashboard import rules
from relay.dashboard.questions import EVENT, GROUPS, PROPERTY, TREE, Row
from relay.dashboard.rules import Form, Group
from relay.errors import Invalid
from relay.mail import ids
from relay.store.audience.operators import OPERATORS
from relay.store.audience.rules import conditions
from relay.store.audience.subjects import SHAPES

SEGMENT = ids.public("seg", 7)
FIELDS = ("email", "firstName", "plan", "properties.a.b", "data.größe", "tags", "subscribed", "unsubscribed", "suppressed", "createdAt", "last_active",
          "emails_opened", "email.click", "event.signed up", "engagement_segment", "segment", f"segment.{SEGMENT}", "topic")
VALUES = ("pro", "3", 3, 2.5, True, False, "true", "2026-01-01", "2026-01-01T10:00:00Z", "  two\nlines ", "active", SEGMENT, ids.public("top", 1), None)
GROUP_FIELDS = ("email", "subscribed", "createdAt", "updatedAt", "data.plan", "data.a.b", "event.x", "email.open", f"segment.{SEGMENT}")


def readable(rules_):
    try:
        return read(rules_)
    except Invalid:
        return None


def _tree():
    for field in FIELDS:
        for operator in (*WORDS, "notEquals"):
            for value in VALUES:
                yield {"field": field, "comparator" if field == "plan" else "operator": operator, "value": value, "windowDays": 7}


def _groups():
    for field in GROUP_FIELDS:
        for operator in GROUPED:
            for value in VALUES:
                yield {"field": field, "operator": operator, "value": value, "unit": "hours"}


def test_every_condition_that_the_list_takes_is_shown_by_the_table_and_comes_back_to_the_letter():
    taken = [each for each in _tree() if readable([each])]
    assert len(taken) > 500
    for each in taken:
        row = TREE.row(each)
        assert row.operator in {name for name, _, _ in TREE.operators[TREE.kind(row.field)]}, each
        assert TREE.settled(row).asked == row.asked, each
        assert TREE.condition(row) == each


def test_every_condition_that_groups_take_is_shown_by_the_table_and_comes_back_to_the_letter():
    taken = [each for each in _groups() if readable({"logic": "AND", "groups": [{"filters": [each]}]})]
    assert len(taken) > 100
    for each in taken:
        row = GROUPS.row(each)
        assert row.operator in {name for name, _, _ in GROUPS.operators[GROUPS.kind(row.field)]}, each
        assert GROUPS.settled(row).asked == row.asked, each
        assert GROUPS.condition(row) == each


def test_written_anew_a_condition_means_what_it_meant():
    for each in _tree():
        if meant := readable([each]):
            row = TREE.row(each)
            assert read([TREE.condition(replace(row, raw=""))]) == meant or "\n" in str(each["value"]), each
    for each in _groups():
        if meant := readable({"logic": "AND", "groups": [{"filters": [each]}]}):
            row = GROUPS.row(each)
            again = {"logic": "AND", "groups": [{"filters": [GROUPS.condition(replace(row, raw=""))]}]}
            assert read(again) == meant or "\n" in str(each["value"]), each


def test_the_form_offers_every_field_and_operator_that_there_is():
    """The OPERATORS table of SQL: whatever shape and operator it has, some row asks it; `same` and `contains_exactly` only in groups."""
    asked = set()
    for vocabulary in (TREE, GROUPS):
        fields = [name for _, some in vocabulary.fields for name, _ in some] + [f"{PROPERTY}x", f"{EVENT}x"]
        for field in fields:
            for operator, _, needed in vocabulary.operators[vocabulary.kind(field)]:
                value = _sample(field, needed)
                row = vocabulary.settled(Row(field, "", operator, value))
                made = [vocabulary.condition(row)] if vocabulary is TREE else {"logic": "AND", "groups": [{"filters": [vocabulary.condition(row)]}]}
                asked |= {(each.operator, SHAPES[each.subject.kind]) for each in conditions(read(made))}
    wanted = {(each.name, shape) for each in OPERATORS for shape in each.shapes}
    assert wanted - asked == {("older", "text")}  # an address is no time; no grammar asks it


def _sample(field, needed):
    if needed == "choice":
        return "active" if field == "engagement_segment" else ids.public({"segment": "seg", "audience": "aud"}.get(field, "top"), 3)
    return {"flag": "true", "date": "2026-01-01", "": ""}.get(needed, "3")


GROUPS_RULES = {"logic": "OR", "groups": [
    {"filters": [{"field": "data.plan", "operator": "equals", "value": 3}], "conditions": {"logic": "OR", "groups": [
        {"filters": [{"field": "email", "operator": "contains", "value": "a"}]}, {"filters": [{"field": "subscribed", "operator": "equals", "value": True}]}]}},
    {"filters": [], "conditions": {"logic": "AND", "groups": [{"filters": [{"field": "event.x", "operator": "triggered"}]}]}},
]}


@pytest.mark.parametrize("given_", [
    [{"field": "plan", "operator": "equals", "value": "pro"}], {"operator": "OR", "conditions": [{"field": "tags", "operator": "is_set", "x": [1]}]},
    {"conditions": [{"conditions": [{"field": "a", "operator": "is_set"}]}, {"field": "b", "operator": "is_set"}]}, GROUPS_RULES,
], ids=["list", "tree", "nested tree", "groups"])
def test_rules_come_back_as_they_were(given_):
    form = rules.shown(given_)
    assert rules.kept(form, given_)[0] == given_
    assert read(rules.made(form)[0]) == read(given_)


def test_a_list_becomes_a_tree_when_it_has_to():
    form = rules.shown([{"field": "a", "operator": "is_set"}])
    assert rules.made(form)[0] == [{"field": "a", "operator": "is_set"}]
    nested = rules.pressed(form, "group:g")
    assert isinstance(rules.made(nested)[0], list)  # an empty group is none
    inner = nested.group.inside[1]
    filled = replace(nested, group=replace(nested.group, inside=(nested.group.inside[0], replace(inner, inside=(Row("email", "", "is_set"),)))))
    made, places = rules.made(filled)
    branch = {"operator": "or", "conditions": [{"field": "email", "operator": "is_set"}]}
    assert made == {"operator": "and", "conditions": [{"field": "a", "operator": "is_set"}, branch]}
    assert places["rules.conditions[1].conditions[0]"] == "g.1.0"


def test_errors_find_their_place_past_what_is_empty():
    group = Group("and", (Row(), Group("or", (Row(), Row("created_at", "", "after", "soon")))))
    made, places = rules.made(Form("tree", group))
    with pytest.raises(Invalid) as error:
        read(made)
    assert rules.placed(error.value, places) == ("g.1.1", "Rule 2.2: value is a date such as 2026-03-23")


rows = st.builds(Row, st.sampled_from(["", "email", "tags", "properties.plan", "event.x", "segment", "nowhere", "<b>"]), st.text(max_size=3),
                 st.sampled_from(["", "equals", "is_set", "in_last_days", "within", "x"]), st.text(max_size=4), st.text(max_size=2))
groups = st.recursive(st.builds(Group, st.sampled_from(["and", "or"]), st.lists(rows, max_size=3).map(tuple)),
                      lambda inner: st.builds(Group, st.just("or"), st.lists(st.one_of(rows, inner), max_size=3).map(tuple)), max_leaves=6)


@given(groups, st.sampled_from(["list", "tree", "groups"]), st.from_regex(r"(rule|group|less|x)?:?g?(\.\d{1,2})*", fullmatch=True))
def test_whatever_is_typed_becomes_rules_or_is_refused(group, grammar, do):
    form = rules.pressed(Form(grammar, group), do)
    made, _ = rules.made(form)
    again = readable(made)
    if again is not None:
        assert read(rules.made(rules.shown(made))[0]) == again
