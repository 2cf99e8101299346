"""Whose mail a report is about: our own marks in it first, then what it names beside a Message-ID of ours; never what it says in free text.

    a mark made for a recipient                        that recipient
    a mark made for a message several share            those of its recipients whom the report names, or its only one
    no mark: a Message-ID of exactly one message       those of its recipients whom the report names

A mark is signed, so it proves itself whoever brings it. A Message-ID is no secret to who has the message, and beside the recipient's address it is as good as
the report itself; where the report came to a project's own address, only that project's messages count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from relay.errors import Expired, Invalid, NotFound
from relay.mail import address
from relay.mail.tokens import ID, unpack
from relay.mail.traces import SHARED
from relay.policy import Tokens
from relay.store import recipients

Mark = tuple[int, bytes]  # an id, and SHARED where it is that of a message


def believed(tokens: Tokens, marks: Iterable[tuple[str, str]]) -> list[Mark]:
    """What those of the marks were made for that we made ourselves and whose time is not over."""
    found: list[Mark] = []
    for kind, token in marks:
        try:
            data = tokens.read(kind, token)
        except (NotFound, Expired):
            continue
        if len(data) >= ID:
            found.append(unpack(data))
    return found


def find(conn: Any, marks: Sequence[Mark], named: Iterable[str], message_id: str = "", project: int | None = None) -> list[int]:
    """Ids of the recipients that a report is about, of one project if it is known whose report it is; none when it may be anybody's."""
    keys = [key for key in map(key_of, named) if key]
    for number, rest in marks:
        found = recipients.of_message(conn, number, keys) if rest == SHARED else [number]
        if kept := [each for each in found if _known(conn, each, project)]:
            return kept
    return recipients.by_message_id(conn, message_id, keys, project) if message_id else []


def _known(conn: Any, number: int, project: int | None) -> bool:
    try:
        return recipients.get(conn, number).project_id == project or project is None
    except NotFound:
        return False


def key_of(text: str) -> str:
    """The normal form of an address in a report, "" for what is none."""
    try:
        return address.key(text)
    except Invalid:
        return ""
