"""What a sender asks for by X-Relay-* header fields: read, checked, and taken out before the message goes on.

The X-PostStack-* spellings are aliases. Only mail of an authenticated principal is obeyed; from anybody else the fields are removed unread, so that
inbound or forwarded mail cannot give orders.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from relay.errors import Invalid
from relay.mail.header import Header
from relay.mail.message import MARKETING, Wishes, replace
from relay.mail.reply import Reply

TAGS = 10  # tags of a message
TAG = 64  # characters of a tag
KEY = 64  # characters of an idempotency key
AHEAD = 366 * 86_400.0  # seconds that a message may be scheduled ahead
TRUE, FALSE = frozenset({"yes", "true", "1", "on"}), frozenset({"no", "false", "0", "off"})


def tags(value: str) -> dict[str, Any]:
    """`welcome, onboarding`: at most 10 of 64 characters."""
    found = tuple(dict.fromkeys(tag for part in value.split(",") if (tag := part.strip())))
    if len(found) > TAGS or any(len(tag) > TAG for tag in found):
        raise ValueError(f"at most {TAGS} tags of {TAG} characters, separated by commas")
    return {"tags": found}


def switch(value: str) -> bool:
    word = value.strip().lower()
    if word not in TRUE | FALSE:
        raise ValueError("yes or no")
    return word in TRUE


def track(value: str) -> dict[str, Any]:
    """`opens=no, clicks=no`, or one word for both."""
    if "=" not in value:
        both = switch(value)
        return {"opens": both, "clicks": both}
    wanted: dict[str, Any] = {}
    for part in value.split(","):
        name, _, word = part.partition("=")
        if name.strip().lower() not in ("opens", "clicks"):
            raise ValueError("opens=yes|no, clicks=yes|no")
        wanted[name.strip().lower()] = switch(word)
    return wanted


def variables(value: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"a JSON object ({error})") from None
    if not isinstance(found, dict):
        raise ValueError("a JSON object")
    return {"variables": found}


def key(value: str) -> dict[str, Any]:
    if not 0 < len(value) <= KEY:
        raise ValueError(f"1 to {KEY} characters")
    return {"idempotency_key": value}


def send_at(value: str) -> dict[str, Any]:
    """ISO 8601 with a zone, `2026-03-25T09:00:00Z`."""
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("a time such as 2026-03-25T09:00:00Z") from None
    if when.tzinfo is None:
        raise ValueError("a time with its zone, such as 2026-03-25T09:00:00Z")
    return {"send_at": when.timestamp()}


def retry(value: str) -> dict[str, Any]:
    """`otp` for mail that is worthless after an hour, such as a login code; `standard`."""
    word = value.strip().lower()
    if word not in ("standard", "otp"):
        raise ValueError("standard or otp")
    return {"retry": word}


READERS: dict[bytes, Callable[[str], dict[str, Any]]] = {
    b"tags": tags,
    b"topic": lambda value: {"topic": value.strip()},
    b"unsubscribe": lambda value: {"unsubscribe": switch(value)},
    b"track": track,
    b"track-opens": lambda value: {"opens": switch(value)},
    b"track-clicks": lambda value: {"clicks": switch(value)},
    b"template-id": lambda value: {"template": value.strip()},
    b"variables": variables,
    b"idempotency-key": key,
    b"send-at": send_at,
    b"retry": retry,
}
PREFIXES = (b"x-relay-", b"x-poststack-")
NAMES = {prefix + name: reader for prefix in PREFIXES for name, reader in READERS.items()}


def take(header: Header, obey: bool, now: float) -> tuple[Header, Wishes]:
    """The header without its X-Relay-* fields, and what they asked for (nothing unless `obey`); raises Invalid naming the field."""
    asked = [field for field in header.fields if field.name.startswith(PREFIXES)]
    if not asked:
        return header, Wishes()
    wishes = Wishes()
    for field in asked if obey else ():
        reader = NAMES.get(field.name)
        if reader is None:
            raise _refused(field.raw, "is not a field that Relay knows")
        try:
            wishes = replace(wishes, **reader(field.value))
        except ValueError as error:
            raise _refused(field.raw, f"takes {error}") from None
    if wishes.unsubscribe or wishes.topic:
        wishes = replace(wishes, stream=MARKETING)  # list-style mail, as over the API
    if wishes.send_at is not None and wishes.send_at > now + AHEAD:
        raise Invalid("X-Relay-Send-At", "the time is over a year ahead", Reply(550, "5.6.0", "X-Relay-Send-At is over a year ahead"))
    return Header(tuple(field for field in header.fields if not field.name.startswith(PREFIXES))), wishes


def _refused(raw: bytes, text: str) -> Invalid:
    name = raw.partition(b":")[0].decode("ascii", "replace")
    return Invalid(name, f"{name} {text}", Reply(550, "5.6.0", f"{name} {text}"))
