"""What became of a broadcast's copies, written on the ledger from the events: one page of them and the cursor after it in one transaction, so each counts once.

    email.delivered bounced failed suppressed cancelled    the row's outcome; a bounce that comes back later replaces a delivery, nothing else is replaced
    email.opened clicked                                   the first by a person is a time on the row, clicks are counted by link too
    email.unsubscribed complained                          a time on the row

The recipient of an event is the row of the ledger, they have one id. Events about other mail are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, select, update

from relay.store import bulk
from relay.store.broadcasts import counts
from relay.store.broadcasts.counts import Key
from relay.store.broadcasts.schema import clicks, ledger, links
from relay.store.events import Event
from relay.store.schema import meta
from relay.store.upsert import insert

CURSOR = "broadcasts.cursor"
OUTCOMES = {f"email.{state}": state for state in ("delivered", "bounced", "failed", "suppressed", "cancelled")}
TIMES = {"email.opened": "opened_at", "email.clicked": "clicked_at", "email.unsubscribed": "unsubscribed_at", "email.complained": "complained_at"}
LINKS = 500  # links of a broadcast that are shown
REPLACED = {("delivered", "bounced")}

_WANTED = (ledger.c.id, ledger.c.broadcast_id, ledger.c.variant, ledger.c.state, ledger.c.waiting, *(ledger.c[name] for name in TIMES.values()))


def cursor(conn: Connection) -> str | None:
    """How far events have been read; None = never."""
    return conn.scalar(select(meta.c.value).where(meta.c.key == CURSOR))


def begin(conn: Connection, at: str) -> None:
    """Read from this cursor on."""
    conn.execute(insert(conn, meta).values(key=CURSOR, value=at).on_conflict_do_update(index_elements=["key"], set_={"value": at}))


def write(conn: Connection, page: Sequence[Event], before: str, after: str) -> bool:
    """Write what a page of events says on the ledger; False, and nothing changed, when another has read on from there."""
    if conn.execute(update(meta).where(meta.c.key == CURSOR, meta.c.value == before).values(value=after)).rowcount == 0:
        return False
    about = [event for event in page if event.recipient_id is not None and (event.type in OUTCOMES or event.type in TIMES)]
    rows = _rows(conn, {event.recipient_id for event in about})
    figures: Counter[Key] = Counter()
    clicked: list[tuple[int, int, str]] = []
    for event in about:
        row = rows.get(event.recipient_id)
        if row is not None and not event.data.get("machine"):
            _apply(event, row, figures, clicked)
    changed = [row for row in rows.values() if row["changed"]]
    columns = ("state", "waiting", "at", *TIMES.values())
    bulk.update(conn, ledger, "id", columns, [(row["id"], *(row[name] for name in columns)) for row in changed])
    _links(conn, clicked)
    counts.add(conn, figures)
    return True


def _rows(conn: Connection, numbers: set[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    listed = sorted(numbers)
    for start in range(0, len(listed), bulk.KEYS):
        query = select(*_WANTED, ledger.c.at).where(ledger.c.id.in_(listed[start:start + bulk.KEYS]))
        found |= {row.id: {**row._mapping, "changed": False} for row in conn.execute(query)}
    return found


def _apply(event: Event, row: dict[str, Any], figures: Counter[Key], clicked: list[tuple[int, int, str]]) -> None:
    """One event on its row."""
    number, variant = row["broadcast_id"], row["variant"]
    state = OUTCOMES.get(event.type)
    if state is not None:
        if row["state"] == "queued" or (row["state"], state) in REPLACED:
            figures[number, variant, row["state"]] -= 1
            figures[number, variant, state] += 1
            row.update(state=state, waiting=None, at=event.at, changed=True)
        return
    name = TIMES[event.type]
    new = row[name] is None
    if event.type == "email.clicked":
        clicked.append((number, row["id"], str(event.data.get("url", ""))))
        if row["opened_at"] is None:  # whoever clicks has opened, though the picture was not loaded
            figures[number, variant, "opened"] += 1
            row.update(opened_at=event.at, changed=True)
    if new:
        figures[number, variant, name.removesuffix("_at")] += 1
        row[name], row["changed"] = event.at, True


def _links(conn: Connection, clicked: Sequence[tuple[int, int, str]]) -> None:
    """Count clicks by link, and the people who made them."""
    sums: dict[tuple[int, str], list[int]] = {}
    for number, recipient, url in clicked:
        if url:
            entry = sums.setdefault((number, url), [0, 0])
            entry[0] += 1
            once = insert(conn, clicks).values(recipient_id=recipient, hash=_hash(url)).on_conflict_do_nothing()
            entry[1] += conn.execute(once).rowcount
    for (number, url), (count, people) in sorted(sums.items()):
        row = insert(conn, links).values(broadcast_id=number, hash=_hash(url), url=bulk.clean(url, 4_000), clicks=count, people=people)
        conn.execute(row.on_conflict_do_update(
            index_elements=["broadcast_id", "hash"], set_={"clicks": links.c.clicks + count, "people": links.c.people + people}))


def _hash(url: str) -> str:
    return sha256(url.encode("utf-8", "replace")).hexdigest()[:32]


def clicked_links(conn: Connection, number: int) -> list[Any]:
    """(url, clicks, people) of a broadcast, the most clicked first."""
    query = select(links.c.url, links.c.clicks, links.c.people).where(links.c.broadcast_id == number)
    return list(conn.execute(query.order_by(links.c.clicks.desc(), links.c.url).limit(LINKS)))
