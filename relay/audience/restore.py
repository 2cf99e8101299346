"""What an export of a project is made into again: a few rows of one kind at a time, each a plain function of a Connection.

Contacts come in as an import. Everything else is found again by its name or address; ids of the old project in rules, scopes and evidence are put into those
of the new one, which `put` gives for audiences, segments and topics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from relay.audience import segments as acts
from relay.errors import Invalid
from relay.mail import address, ids
from relay.mail.ids import Maker
from relay.store import suppressions
from relay.store.audience import audiences, contacts, exports, history, properties, segments, topics
from relay.store.audience.audiences import Audience
from relay.store.audience.history import Entry
from relay.store.audience.properties import Property
from relay.store.audience.segments import Segment
from relay.store.audience.topics import Topic

ROWS = 200  # of one transaction
KINDS = ("topics", "properties", "audiences", "segments", "members", "subscriptions", "history", "suppressions")
ORDER = (KINDS[0], "contacts", *KINDS[1:])  # definitions after contacts, who may have values from before a property was defined

Row = Mapping[str, Any]


def put(conn: Any, project: int, kind: str, rows: Sequence[Row], known: Mapping[str, str], maker: Maker, now: float) -> dict[str, str]:
    """Old ids of segments, audiences and topics among the rows, and what they are now. Raises Invalid for rows that no export has.

    known  what was given so far
    """
    if kind not in KINDS:
        raise Invalid("kind", f"kind is one of {', '.join(KINDS)}")
    try:
        return _ACTS[kind](conn, project, rows, known, maker, now) or {}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid("rows", f"a row of {kind} is not as an export writes it: {error}") from None


def _properties(conn: Any, project: int, rows: Sequence[Row], _: Mapping[str, str], maker: Maker, now: float) -> None:
    there = properties.of(conn, project)
    for row in rows:
        if row["name"] not in there:
            options, required = _json(row["options"]) or [], _true(row["required"])
            properties.add(conn, Property(maker.next(), project, row["name"], row["label"] or "", row["type"], options, required, now))


def _topics(conn: Any, project: int, rows: Sequence[Row], _: Mapping[str, str], maker: Maker, now: float) -> dict[str, str]:
    there = {name: number for number, name, _ in exports.of_topics(conn, project, 0)}
    found = {}
    for row in rows:
        number = there.get(row["name"])
        if number is None:
            number = topics.add(conn, Topic(maker.next(), project, row["name"], row["description"] or "", now)).id
        found[row["id"]] = topics.public(number)
    return found


def _audiences(conn: Any, project: int, rows: Sequence[Row], _: Mapping[str, str], maker: Maker, now: float) -> dict[str, str]:
    there: dict[str, int] = {}
    for name, description in dict.fromkeys((row["audience"], row["description"] or "") for row in rows):
        there[name] = _audience(conn, project, name) or audiences.add(conn, Audience(maker.next(), project, name, description, now, now)).id
    people = _people(conn, project, [row["email"] for row in rows if row["email"]])
    for name, number in there.items():
        audiences.put(conn, number, [people[key] for row in rows if row["audience"] == name and row["email"]
                                     and (key := address.key(row["email"])) in people], now)
    return {row["id"]: ids.public("aud", there[row["audience"]]) for row in rows if row.get("id")}


def _segments(conn: Any, project: int, rows: Sequence[Row], known: Mapping[str, str], maker: Maker, now: float) -> dict[str, str]:
    """Every segment is new: two of one name may differ. One comes after those that it asks about in any export we write, but for a
    deleted one, which has no members here either."""
    found: dict[str, str] = {}
    for row in rows:
        rules = _json(_translated(row["rules"], {**known, **found}))
        made = acts.restore(conn, Segment(maker.next(), project, row["name"], row["description"] or "", rules, _audience(conn, project, row["audience"] or ""),
                                         _true(row["tracked"]), now, now))
        found[row["id"]] = made.public_id
    return found


def _members(conn: Any, project: int, rows: Sequence[Row], known: Mapping[str, str], _: Maker, now: float) -> None:
    people = _people(conn, project, [row["email"] for row in rows])
    for old in dict.fromkeys(row["segment"] for row in rows):
        number = segments.get(conn, project, _number(known.get(old, old)))
        wanted = [people[key] for row in rows if row["segment"] == old and (key := address.key(row["email"])) in people]
        acts.put(conn, project, number.id, wanted, now)


def _number(public: str) -> int:
    """The number of a segment's public id."""
    number = ids.internal(public, "seg")
    if number is None:
        raise ValueError(f"{public} is no segment")
    return number


def _subscriptions(conn: Any, project: int, rows: Sequence[Row], _: Mapping[str, str], __: Maker, now: float) -> None:
    there = {name: number for number, name, _ in exports.of_topics(conn, project, 0)}
    people = contacts.by_keys(conn, project, [address.key(row["email"]) for row in rows])
    for row in rows:
        contact = people.get(address.key(row["email"]))
        if contact is not None and row["topic"] in there:
            topics.set_state(conn, contact, there[row["topic"]], _true(row["subscribed"]), _time(row["updated_at"], now))


def _history(conn: Any, project: int, rows: Sequence[Row], known: Mapping[str, str], _: Maker, now: float) -> None:
    """The evidence of consent, as it was: it changes nobody's consent, which came with contacts, topics and suppressions."""
    people = _people(conn, project, [row["email"] for row in rows])
    found = [Entry(people[key], _time(row["at"], now), row["act"][:32], row["source"][:32], _json(_translated(row["evidence"], known)) or {})
             for row in rows if (key := address.key(row["email"])) in people]
    history.restore(conn, found)


def _suppressions(conn: Any, project: int, rows: Sequence[Row], known: Mapping[str, str], maker: Maker, now: float) -> None:
    for row in rows:
        entry = suppressions.make(maker.next(), project, row["email"], row["reason"], _translated(row["scope"], known), _json(row["evidence"]) or {},
                                  _time(row["created_at"], now))
        if not suppressions.add(conn, entry):
            standing = next((each for each in suppressions.of(conn, project, entry.key) if each.scope == entry.scope), None)
            if standing is not None and "import_id" in standing.evidence and standing.reason == entry.reason:  # written by the contacts of this export
                suppressions.remove(conn, project, entry.key, entry.scope)
                suppressions.add(conn, entry)


_ACTS = {"properties": _properties, "topics": _topics, "audiences": _audiences, "segments": _segments, "members": _members,
         "subscriptions": _subscriptions, "history": _history, "suppressions": _suppressions}


def _audience(conn: Any, project: int, name: str) -> int | None:
    after = 0
    while name and (some := exports.of_audiences(conn, project, after)):
        for number, each, _ in some:
            if each == name:
                return number
        after = some[-1][0]
    return None


def _people(conn: Any, project: int, emails: Sequence[str]) -> dict[str, int]:
    return {key: contact.id for key, contact in contacts.by_keys(conn, project, [address.key(each) for each in emails]).items()}


def _translated(given: Any, known: Mapping[str, str]) -> Any:
    """A text or JSON with the ids of the old project put into those of the new one."""
    text = given if isinstance(given, str) else orjson.dumps(given).decode() if given is not None else ""
    for old, new in known.items():
        text = text.replace(old, new)
    return text


def _json(cell: Any) -> Any:
    return orjson.loads(cell) if isinstance(cell, str) and cell else None if cell == "" else cell


def _true(cell: Any) -> bool:
    return cell is True or cell == "true"


def _time(cell: Any, now: float) -> float:
    return datetime.fromisoformat(cell).timestamp() if cell else now

