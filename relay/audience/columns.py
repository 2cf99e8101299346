"""What the columns of a file of contacts mean, by the names that they have in the usual exports: Relay, Google, Outlook, Mailchimp, HubSpot.

A column of another name is a property. Mailchimp writes people who left, and addresses that bounced, into files of their own; a file is taken for one of
those by its columns (UNSUB_TIME, CLEAN_TIME), or by its name where its columns are Mailchimp's: "contacts-cleaned.csv" of anybody else is just a tidy list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from relay.audience import values
from relay.errors import Invalid

EMAIL, FIRST, LAST, TAGS, UNSUBSCRIBED, SUBSCRIBED, PROPERTIES, IGNORED = (
    "email", "first_name", "last_name", "tags", "unsubscribed", "subscribed", "properties", "")
CREATED, UPDATED, ACTIVE = "created_at", "updated_at", "last_active_at"
LEFT_AT, CLEANED_AT, REASON = "unsubscribed_at", "cleaned_at", "reason"
OPTIN_AT, OPTIN_IP, CONFIRM_AT, CONFIRM_IP = "optin_at", "optin_ip", "confirm_at", "confirm_ip"
PROPERTY = "properties."

NAMES = {
    "email": EMAIL, "e mail": EMAIL, "email address": EMAIL, "e mail address": EMAIL, "e mail 1 value": EMAIL, "email 1 value": EMAIL, "mail": EMAIL,
    "subscriber email": EMAIL, "work email": EMAIL, "first name": FIRST, "firstname": FIRST, "given name": FIRST, "fname": FIRST, "last name": LAST,
    "lastname": LAST, "family name": LAST, "surname": LAST, "lname": LAST, "tags": TAGS, "labels": TAGS, "group membership": TAGS, "categories": TAGS,
    "unsubscribed": UNSUBSCRIBED, "unsubscribed from all email": UNSUBSCRIBED, "opted out of all email": UNSUBSCRIBED, "email opt out": UNSUBSCRIBED,
    "hs email optout": UNSUBSCRIBED, "subscribed": SUBSCRIBED, "properties": PROPERTIES, "id": IGNORED, "created at": CREATED, "updated at": UPDATED,
    "last active at": ACTIVE, "unsubscribed at": LEFT_AT,
    "optin time": OPTIN_AT, "optin ip": OPTIN_IP, "confirm time": CONFIRM_AT, "confirm ip": CONFIRM_IP, "unsub time": LEFT_AT, "clean time": CLEANED_AT,
    "unsub reason": REASON,
}
MAILCHIMP = frozenset({"member rating", "optin time", "confirm time", "leid", "euid", "unsub time", "clean time"})

FIELDS = (EMAIL, FIRST, LAST, TAGS, SUBSCRIBED, UNSUBSCRIBED, LEFT_AT, CREATED, UPDATED, ACTIVE, PROPERTIES, CLEANED_AT, REASON, OPTIN_AT, OPTIN_IP, CONFIRM_AT,
          CONFIRM_IP)

CLEANED, LEFT = "cleaned", "unsubscribed"
_LISTS = ((CLEANED, re.compile(r"(^|[^a-z])cleaned")), (LEFT, re.compile(r"(^|[^a-z])(unsubscribed|non-?subscribed)")))


def told(given: Any, field: str = "mapping") -> dict[str, str]:
    """What somebody says that columns mean: names of columns, and for each a field of contacts, "properties.NAME", or "" to leave it out. Raises Invalid."""
    if not isinstance(given, Mapping) or len(given) > 500:
        raise Invalid(field, f"{field} is an object with the name of a column and what it means for each")
    for name, wanted in given.items():
        if isinstance(wanted, str) and wanted.startswith(PROPERTY):
            values.properties({wanted[len(PROPERTY):]: None}, {}, field)
        elif wanted not in FIELDS and wanted != IGNORED:
            told = f"there is no {wanted[:80]!r}" if isinstance(wanted, str) else "it is a text"
            raise Invalid(field, f"{field} of {name[:80]!r}: {told}; there are {', '.join(FIELDS[:10])}, properties.NAME, and nothing to leave it out")
    return dict(given)


def meaning(name: str) -> str:
    """What a column of this name holds: a field of contacts, "" for one that is not taken over, else a property."""
    plain = _plain(name)
    if plain in NAMES:
        return NAMES[plain]
    kept = re.sub(r'[\x00-\x1f\x7f"\\]', " ", name)
    kept = (kept if kept.startswith(PROPERTY) else kept.strip()).removeprefix(PROPERTY)[:64]
    return PROPERTY + kept if kept else IGNORED


def named(name: str) -> str:
    """The column of a property in an export: its bare name where an import would take that for the property."""
    return name if meaning(name) == PROPERTY + name else PROPERTY + name


def kind(file: str, header: Sequence[str]) -> str:
    """Whose file it is: CLEANED, LEFT, or "" for people who are subscribed, or of whom each row tells."""
    found = {_plain(name) for name in header}
    told = [which for which, column in ((CLEANED, "clean time"), (LEFT, "unsub time")) if column in found]
    if len(told) == 1:
        return told[0]
    return listed(file) if found & MAILCHIMP and not told else ""


def listed(file: str) -> str:
    """What the name of a file of Mailchimp's says of the people in it."""
    return next((which for which, pattern in _LISTS if pattern.search(file.rpartition("/")[2].lower())), "")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().lower()).strip()
