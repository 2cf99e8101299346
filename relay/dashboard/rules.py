"""The rules of a segment as a form: groups in groups, each with `and` or `or` between what is in it, and rows for conditions; from JSON, from a form, and back.

Fields of the form are named by the place of what they belong to: `g` is the whole, `g.0` the first thing in it, `g.0.2` the third within that. A group has
`g.0.match`, a row `g.0.2.field` and its other parts. Buttons say `do`: `rule:g.0` and `group:g.0` put one into the group, `less:g.0.2` takes that away.

Rules keep the grammar they came in (relay.audience.grammars): a list stays one as long as it can be one, then it is a tree; nested groups stay nested groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from relay.audience.grammars import DEPTH, FILTERS
from relay.dashboard.questions import GROUPS, TREE, Row, Vocabulary, readable
from relay.dashboard.visit import Visit
from relay.errors import Invalid

ROOT = "g"
LIST = "list"
VOCABULARIES: dict[str, Vocabulary] = {LIST: TREE, "tree": TREE, "groups": GROUPS}
DEEPEST = 2 * DEPTH  # of a form; what is too deep for its grammar is said when it is read
PARTS = ("field", "name", "operator", "value", "more", "raw")


@dataclass(frozen=True, slots=True)
class Group:
    """`match` is "and" or "or"."""

    match: str = "and"
    inside: tuple[Group | Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """Rules as they are edited."""

    grammar: str
    group: Group

    @property
    def vocabulary(self) -> Vocabulary:
        return VOCABULARIES[self.grammar]


BLANK = Form("tree", Group("and", (Row(),)))


# From JSON.


def shown(rules: Any) -> Form:
    """Rules that a grammar takes."""
    if isinstance(rules, list):
        return Form(LIST, Group("and", tuple(map(TREE.row, rules))))
    if "groups" in rules:
        return Form("groups", _nested(rules))
    return Form("tree", _tree(rules))


def _tree(given: Mapping[str, Any]) -> Group:
    inside = tuple(_tree(each) if "conditions" in each and "field" not in each else TREE.row(each) for each in given["conditions"])
    return Group(str(given.get("operator", "and")).lower(), inside)


def _nested(given: Mapping[str, Any]) -> Group:
    return Group(str(given.get("logic", "AND")).lower(), tuple(map(_filtered, given["groups"])))


def _filtered(given: Mapping[str, Any]) -> Group:
    inner = () if given.get("conditions") is None else (_nested(given["conditions"]),)
    filters = given.get("filters") or []
    return inner[0] if inner and not filters else Group("and", (*map(GROUPS.row, filters), *inner))


# From a form.


def typed(visit: Visit) -> Form:
    """What the form holds; raises Invalid."""
    grammar = visit.given("grammar") if visit.given("grammar") in VOCABULARIES else BLANK.grammar
    return Form(grammar, _typed(visit, ROOT, VOCABULARIES[grammar], 1))


def _typed(visit: Visit, place: str, vocabulary: Vocabulary, depth: int) -> Group:
    inside: list[Group | Row] = []
    for number in range(FILTERS):
        inner = f"{place}.{number}"
        if f"{inner}.match" in visit.form and depth < DEEPEST:
            inside.append(_typed(visit, inner, vocabulary, depth + 1))
        elif f"{inner}.field" in visit.form:
            row = Row(**{part: visit.given(f"{inner}.{part}") for part in PARTS})
            readable(vocabulary, row.raw)
            inside.append(row)
        else:
            break
    return Group("or" if visit.given(f"{place}.match") == "or" else "and", tuple(inside))


def pressed(form: Form, do: str) -> Form:
    """The form after a button; one that is no button of it changes nothing."""
    act, _, place = do.partition(":")
    way = place.split(".")[1:]
    if act not in ("rule", "group", "less") or not all(part.isascii() and part.isdigit() for part in way):
        return form
    group = _changed(form.group, [int(part) for part in way], act)
    return replace(form, group=group if group.inside else BLANK.group)


def _changed(group: Group, way: list[int], act: str) -> Group:
    if not way:
        more: tuple[Group | Row, ...] = {"rule": (Row(),), "group": (Group("or" if group.match == "and" else "and", (Row(),)),)}.get(act, ())
        return replace(group, inside=(*group.inside, *more)) if len(group.inside) < FILTERS else group
    number, inside = way[0], list(group.inside)
    if number < len(inside):
        if act == "less" and len(way) == 1:
            del inside[number]
        elif isinstance(inner := inside[number], Group):
            inside[number] = _changed(inner, way[1:], act)
    return replace(group, inside=tuple(inside))


# To JSON.


def made(form: Form) -> tuple[Any, dict[str, str]]:
    """The rules that the form means, without what is empty; and for each part of them, as errors name it, its place in the form."""
    if form.grammar == "groups":
        return _logic(form.group, ROOT, "rules")
    plain = form.grammar == LIST and form.group.match == "and" and all(isinstance(each, Row) for each, _ in _parts(form.group, ROOT))
    rules, places = _conditions(form.group, ROOT, "rules" if plain else "rules.conditions")
    return (rules if plain else {"operator": form.group.match, "conditions": rules}), places


def kept(form: Form, old: Any) -> tuple[Any, dict[str, str]]:
    """The same; rules that nobody touched stay to the letter."""
    rules, places = made(form)
    return (old if old is not None and _asked(shown(old).group) == _asked(form.group) else rules), places


def _asked(group: Group) -> Any:
    return group.match, [_asked(each) if isinstance(each, Group) else each.asked for each in group.inside]


def _parts(group: Group, place: str) -> Iterator[tuple[Group | Row, str]]:
    """What is in the group, with its place; empty rows and groups left out."""
    for number, each in enumerate(group.inside):
        inner = f"{place}.{number}"
        if isinstance(each, Row):
            if each.field:
                yield each, inner
        elif any(_parts(each, inner)):
            yield each, inner


def _conditions(group: Group, place: str, at: str) -> tuple[list[Any], dict[str, str]]:
    rules: list[Any] = []
    places: dict[str, str] = {}
    for each, inner in _parts(group, place):
        here = f"{at}[{len(rules)}]"
        places[here] = inner
        if isinstance(each, Row):
            rules.append(TREE.condition(each))
        else:
            some, below = _conditions(each, inner, f"{here}.conditions")
            rules.append({"operator": each.match, "conditions": some})
            places |= below
    return rules, places


def _logic(group: Group, place: str, at: str) -> tuple[Any, dict[str, str]]:
    groups: list[Any] = []
    places: dict[str, str] = {}
    for each, inner in _parts(group, place):
        here = f"{at}.groups[{len(groups)}]"
        places[here] = inner
        if isinstance(each, Row):
            groups.append({"filters": [GROUPS.condition(each)]})
            places[f"{here}.filters[0]"] = inner
            continue
        rows = [(row, where) for row, where in _parts(each, inner) if isinstance(row, Row)]
        branches = [(branch, where) for branch, where in _parts(each, inner) if isinstance(branch, Group)]
        if each.match == "and" and rows and len(branches) <= 1:
            made_, below = _filters(rows, branches, here)
        else:
            nested, below = _logic(each, inner, f"{here}.conditions")
            made_ = {"filters": [], "conditions": nested}
        groups.append(made_)
        places |= below
    return {"logic": group.match.upper(), "groups": groups}, places


def _filters(rows: list[tuple[Row, str]], branches: list[tuple[Group, str]], at: str) -> tuple[Any, dict[str, str]]:
    """Rows of which all must be true, and a group beside them, as one group of filters has them."""
    places = {f"{at}.filters[{number}]": where for number, (_, where) in enumerate(rows)}
    found: dict[str, Any] = {"filters": [GROUPS.condition(row) for row, _ in rows]}
    for branch, where in branches:
        places[f"{at}.conditions"] = where
        found["conditions"], below = _logic(branch, where, f"{at}.conditions")
        places |= below
    return found, places


def placed(error: Invalid, places: Mapping[str, str]) -> tuple[str, str]:
    """Where in the form the error is, "" for nowhere, and what it says there: "Rule 1.2: value is required"."""
    at = max((each for each in places if error.field == each or error.field.startswith(f"{each}.")), key=len, default="")
    if not at:
        return "", error.text
    return places[at], f"Rule {label(places[at])}: {error.text.replace(f'{at}.', '').replace(at, 'it')}"


def label(place: str) -> str:
    """g.0.1 as people count: 1.2."""
    return ".".join(str(int(part) + 1) for part in place.split(".")[1:])
