"""What Plunk's `data` means: which keys are the system's, what is kept on the contact and what is only passed on. Pure.

    {"plan": "pro"}                                      kept, and merged with what is there
    {"plan": null}                                       the key goes from the contact
    {"plan": ""}                                         changes nothing
    {"code": {"value": "1234", "persistent": false}}     for this mail or event alone
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.api.compat.plunk.errors import Bad
from relay.errors import Invalid

RESERVED = frozenset({"id", "plunk_id", "plunk_email", "email", "createdAt", "updatedAt", "subscribed", "unsubscribeUrl", "subscribeUrl", "manageUrl"})
LOCALE = "locale"  # of the contact's unsubscribe page and footer, as in ISO 639-1

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})?)?")


@dataclass(frozen=True, slots=True)
class Data:
    """`kept` goes on the contact, with null for what goes from it; `all` is what a mail or event knows."""

    kept: dict[str, Any]
    all: dict[str, Any]


def read(given: Mapping[str, Any] | None) -> Data:
    """Raises Invalid, or Bad for a locale that is no text."""
    if given is not None and not isinstance(given, Mapping):
        raise Invalid("data", "data is an object")
    kept, everything = {}, {}
    for name, value in (given or {}).items():
        if name in RESERVED:
            continue
        persistent = True
        if isinstance(value, Mapping) and set(value) == {"value", "persistent"}:
            persistent, value = value["persistent"] is not False, value["value"]
        if name == LOCALE and value is not None and not isinstance(value, str):
            raise Bad("data.locale", "data.locale is a text such as \"en\"")
        if value == "":
            continue
        if value is not None:
            everything[name] = value
        if persistent:
            kept[name] = value
    return Data(kept, everything)


def kind(value: Any) -> str:
    """The type that a value is taken to have: string, number, boolean or date."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "date" if isinstance(value, str) and _DATE.fullmatch(value) else "string"


def common(kinds: Iterable[str]) -> str:
    """The type of a key whose values have these types: mixed ones make it a string."""
    found = set(kinds)
    return found.pop() if len(found) == 1 else "string"
