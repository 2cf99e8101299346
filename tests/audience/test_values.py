"""What a property that a project has defined takes, and what is said of anything else, in JSON and in the cell of a file."""

from __future__ import annotations

import pytest

from relay.audience import values
from relay.errors import Invalid
from relay.store.audience.properties import Property


def defined(kind):
    return Property(1, 1, "x", "X", kind, ["a", "b"] if kind == "select" else [], False, 0.0)


@pytest.mark.parametrize(("kind", "value", "error"), [
    ("text", 5, "properties.x is a text, which 5 is not"), ("number", "5", "properties.x is a number, which '5' is not"),
    ("number", True, "properties.x is a number, which True is not"), ("boolean", "no", "properties.x is true or false, which 'no' is not"),
    ("date", "yesterday", "properties.x is a date such as 2026-03-23 or 2026-03-23T10:00:00Z, which 'yesterday' is not"),
    ("select", "c", "properties.x is one of a, b, which 'c' is not"), ("select", ["a"], "properties.x is one of a, b, which ['a'] is not"),
    ("number", "9" * 100, f"properties.x is a number, which '{'9' * 60}' is not"),
])
def test_a_value_of_another_type_is_told_with_what_it_is(kind, value, error):
    with pytest.raises(Invalid) as found:
        values.typed(value, defined(kind), "properties.x")
    assert (found.value.text, found.value.field) == (error, "properties.x")


@pytest.mark.parametrize(("kind", "cell", "value"), [
    ("text", " 5 ", " 5 "), ("number", " 5 ", 5), ("number", "1.5", 1.5), ("number", "", None), ("number", "1e400", Invalid), ("number", "1,5", Invalid),
    ("boolean", "Yes", True), ("boolean", "0", False), ("boolean", "perhaps", Invalid), ("select", " a ", "a"),
])
def test_a_cell_means_what_its_property_is(kind, cell, value):
    if value is not Invalid:
        assert values.cell(cell, defined(kind), "properties.x") == value
        return
    with pytest.raises(Invalid, match=f"which {cell!r} is not" if cell != "1e400" else "which inf is not"):
        values.cell(cell, defined(kind), "properties.x")
