"""What a contact may hold: names, tags and properties, checked and in the form in which they are stored. Errors name the field as it was written.

A property is any JSON value under a name of up to 64 characters; a name that the project has defined takes values of its type only. Texts are kept as they
come, but for NUL, which no database takes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from relay.errors import Invalid
from relay.mail import address
from relay.store import bulk
from relay.store.audience.properties import Property

TAGS = 100  # of a contact
TAG = 64  # characters
NAME = 255  # characters of a first or last name
PROPERTY = 64  # characters of a property's name
SIZE = 65_536  # octets of all properties as JSON
DEPTH = 8  # of objects and lists in a property
SHOWN = 60  # characters of a value that an error repeats
WHOLE = 2**63  # whole numbers beyond do not fit what both databases count with

_NAME = re.compile(r'[^\x00-\x1f\x7f"\\]{1,64}')  # what a JSON path of either database spells alike
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def key(email: Any, field: str = "email") -> str:
    """The normal form of an address; raises Invalid."""
    if not isinstance(email, str):
        raise Invalid(field, f"{field} is an address")
    try:
        return address.key(email.strip())
    except Invalid as error:
        raise Invalid(field, error.text) from None


def text(value: Any, field: str) -> str | None:
    """A name as it is stored: None for an empty one."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > NAME:
        raise Invalid(field, f"{field} is a text of up to {NAME} characters")
    return bulk.clean(value, NAME) or None


def tags(given: Any, field: str = "tags") -> list[str]:
    """Tags without repetitions, case kept."""
    if type(given) is not list and (not isinstance(given, Sequence) or isinstance(given, str)):
        raise Invalid(field, f"{field} is a list of texts")
    for tag in given:
        if not isinstance(tag, str) or not 0 < len(tag) <= TAG or not tag.isprintable():
            raise Invalid(field, f"a tag is a text of 1 to {TAG} characters")
    found = list(dict.fromkeys(given))
    if len(found) > TAGS:
        raise Invalid(field, f"a contact has at most {TAGS} tags")
    return found


def properties(given: Any, definitions: Mapping[str, Property], field: str = "properties") -> dict[str, Any]:
    """Properties whose names and values may be stored; null stays, and says that the property goes."""
    if type(given) is not dict and not isinstance(given, Mapping):
        raise Invalid(field, f"{field} is an object")
    found = {}
    for name, value in given.items():
        if type(name) is not str or not _named(name):
            raise Invalid(field, f"a property's name has 1 to {PROPERTY} characters, no quotation mark, backslash or control character")
        if type(value) is str:
            value = bulk.clean(value, len(value))
        else:
            _checked(value, f"{field}.{name}", DEPTH)
            if isinstance(value, (Mapping, list)):
                value = bulk.plain(value)
        if value is not None and name in definitions:
            value = typed(value, definitions[name], f"{field}.{name}")
        found[name] = value
    return found


@lru_cache(1_024)
def _named(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def merged(old: Mapping[str, Any], new: Mapping[str, Any], field: str = "properties") -> dict[str, Any]:
    """The old properties with the new ones put in, and those gone that are null."""
    found = {name: value for name, value in {**old, **new}.items() if value is not None}
    if len(bulk.json(found)) > SIZE:
        raise Invalid(field, f"the properties of a contact have at most {SIZE} octets")
    return found


def complete(found: Mapping[str, Any], definitions: Mapping[str, Property]) -> None:
    """Raises Invalid when a required property is missing."""
    for name, each in definitions.items():
        if each.required and name not in found:
            raise Invalid(f"properties.{name}", f"properties.{name} is required")


def _checked(value: Any, field: str, depth: int) -> None:
    if isinstance(value, (Mapping, list)):
        if not depth:
            raise Invalid(field, f"{field} is nested more than {DEPTH} deep")
        for each in value.values() if isinstance(value, Mapping) else value:
            _checked(each, field, depth - 1)
    elif isinstance(value, int) and not -WHOLE <= value < WHOLE:
        raise Invalid(field, f"{field}: a whole number has at most 18 digits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise Invalid(field, f"{field} is not a number")


# Types.


def typed(value: Any, definition: Property, field: str) -> Any:
    """The value, if it is of the type."""
    return _TYPES[definition.type](value, definition, field)


def _other(field: str, wanted: str, value: Any) -> Invalid:
    """The error for a value that is not what is wanted."""
    shown = repr(value[:SHOWN]) if isinstance(value, str) else repr(value)[:SHOWN]
    return Invalid(field, f"{field} is {wanted}, which {shown} is not")


def _text(value: Any, _definition: Property, field: str) -> str:
    if not isinstance(value, str):
        raise _other(field, "a text", value)
    return value


def _number(value: Any, _definition: Property, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _other(field, "a number", value)
    return value


def _boolean(value: Any, _definition: Property, field: str) -> bool:
    if not isinstance(value, bool):
        raise _other(field, "true or false", value)
    return value


def _date(value: Any, _definition: Property, field: str) -> str:
    try:
        if isinstance(value, str) and (date if _DAY.fullmatch(value) else datetime).fromisoformat(value).year > 999:
            return value
    except ValueError:
        pass
    raise _other(field, "a date such as 2026-03-23 or 2026-03-23T10:00:00Z", value)


def _select(value: Any, definition: Property, field: str) -> str:
    if value not in definition.options:
        raise _other(field, f"one of {', '.join(definition.options)}", value)
    return value


_TYPES: dict[str, Callable[[Any, Property, str], Any]] = {"text": _text, "number": _number, "boolean": _boolean, "date": _date, "select": _select}


# Cells of a CSV file, which are texts whatever they mean.


def cell(given: str, definition: Property | None, field: str) -> Any:
    """The value that a cell means: of the defined type, else its text; None for an empty cell."""
    if definition is None:
        return given or None
    if definition.type != "text" and not (given := given.strip()):
        return None
    if definition.type == "number":
        try:
            number = float(given)
        except ValueError:
            raise _other(field, "a number", given) from None
        return int(number) if number.is_integer() and abs(number) < 2**53 else _finite(number, field)
    if definition.type == "boolean":
        if given.lower() not in _BOOLEANS:
            raise _other(field, "true or false", given)
        return _BOOLEANS[given.lower()]
    return given


def _finite(number: float, field: str) -> float:
    if not math.isfinite(number):
        raise _other(field, "a number", number)
    return number


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
