"""The rows of an import, checked and in the form in which the store takes them: what is done apart from the relay's event loop, slice by slice.

    reading = Reading(path, name, form, mapping)   what the columns mean, or Invalid; nothing is taken yet
    reading.begin(ground)                 what counts for all rows
    reading.pieces(1_000)                 the next slices are read, as many as have so many rows; none at the end
    reading.part(piece, wrong)            a slice without the rows whose domain is wrong, and what was wrong with others

The first row of an address counts, later ones are duplicates; an empty cell changes nothing. Addresses that were seen are remembered by hash, in a database
of SQLite's that spills to disk, so a file of any length takes the same memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import orjson

from relay.audience import columns as c
from relay.audience import values
from relay.audience.cells import shown
from relay.audience.table import NOTHING, Line, lines
from relay.errors import Invalid, Malformed
from relay.store import bulk
from relay.store.audience import history, merging
from relay.store.audience.imports import Fault
from relay.store.audience.properties import Property
from relay.store.audience.taking import Part, searched

SLICE = 100  # rows of one transaction: three milliseconds, so that commits of mail come between
ROWS = 10_000  # of a JSON request
LONGEST = 1_000_000  # octets of a line of a JSON export
SHOWN = 20  # rows of a preview
CACHE = 16_000  # kB of memory for the addresses seen
FILE, JSON = "file", "json"
ALIASES = {"firstName": "first_name", "lastName": "last_name", "customFields": "properties", "custom_fields": "properties", "data": "properties"}

_NAMES = ("first_name", "last_name")
_TIMES = (c.CREATED, c.UPDATED, c.ACTIVE)
_CONSENT = {c.UNSUBSCRIBED, c.SUBSCRIBED, c.LEFT_AT, c.CLEANED_AT, c.OPTIN_AT, c.CONFIRM_AT}  # columns that say whether mail may be sent
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


class Ground(msgspec.Struct, frozen=True):
    """What counts for all rows: definitions by name, tags for everybody, the row to go on after, secrets of the hashes, the time of it, rows a slice, whether
    these are handed over as lines for PostgreSQL, and whether their domains are looked up."""

    definitions: dict[str, Property] = {}
    tags: list[str] = []
    skip: int = 0
    secrets: list[bytes] = []
    now: float = 0.0
    slice: int = SLICE
    lines: bool = False
    look: bool = True


class Row(msgspec.Struct):
    """A row that may become a contact."""

    number: int
    email: str
    key: str
    first_name: str | None = None
    last_name: str | None = None
    properties: dict[str, Any] = {}
    tags: list[str] = []
    left_at: float | None = None
    cleaned_at: float | None = None
    created_at: float | None = None
    updated_at: float | None = None
    last_active_at: float | None = None
    evidence: dict[str, Any] | None = None

    @property
    def domain(self) -> str:
        return self.key.rpartition("@")[2]


class Piece(msgspec.Struct):
    """A slice that was read: `through` is the row it ends with."""

    rows: list[Row | Fault]
    through: int
    figures: dict[str, int]

    @property
    def domains(self) -> set[str]:
        """Those of its addresses that shall have mail."""
        return {row.domain for row in self.rows if isinstance(row, Row) and row.cleaned_at is None}


class Reading:
    """One import's rows; see the module. `mapping` columns by their names, `given` the other fields of a JSON request."""

    def __init__(self, path: str, name: str, form: str, mapping: Mapping[str, str] = NOTHING):
        self.mapping: dict[str, str] = {}
        self.given: dict[str, Any] = {}
        self._ground = Ground()
        if form == JSON:
            self.given, self._people = _request(Path(path))
            self._rows = self._of_objects
        else:
            self.mapping, self._lines = lines(open(path, "rb"), name, mapping)  # noqa: SIM115  open until the process or the object ends
            there = set(self.mapping.values())
            self._times, self._asks = [name for name in _TIMES if name in there], bool(there & _CONSENT)
            self._rows = self._of_lines
        self._seen = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._seen.execute(f"PRAGMA cache_size=-{CACHE}")
        self._seen.execute("PRAGMA synchronous=OFF")
        self._seen.execute("PRAGMA journal_mode=OFF")
        self._seen.execute("CREATE TABLE seen (hash INTEGER PRIMARY KEY)")
        self._shown = 0

    def begin(self, ground: Ground) -> None:
        """Rows up to `ground.skip` count as taken."""
        self._ground = ground
        self._iterator = self._rows()

    def pieces(self, rows: int) -> list[Piece]:
        """The next ones, of about so many rows together; none at the end."""
        wanted = max(1, rows // self._ground.slice)
        return list(islice(self._pieces(), wanted))

    def _pieces(self) -> Iterator[Piece]:
        while some := list(islice(self._iterator, self._ground.slice)):
            through = some[-1].number if isinstance(some[-1], Row) else some[-1].row
            new = self._first(some)
            if through > self._ground.skip:
                repeated = len(some) - len(new)
                yield Piece(new, through, {"total": len(some), "duplicates": repeated, "skipped": repeated, "invalid": 0, "no_mx": 0})

    def part(self, piece: Piece, wrong: Mapping[str, str]) -> tuple[Part, list[dict[str, Any]]]:
        """The slice as the store takes it, and those of its rows that a preview shows."""
        faults = [each for each in piece.rows if isinstance(each, Fault)]
        invalid, rows = len(faults), []
        for row in piece.rows:
            if isinstance(row, Row):
                if row.cleaned_at is None and row.domain in wrong:
                    faults.append(Fault(row.number, row.email, wrong[row.domain]))
                else:
                    rows.append(row)
        figures = {**piece.figures, "invalid": invalid, "no_mx": len(faults) - invalid}
        some = [_shown(row) for row in rows[:SHOWN - self._shown]]
        self._shown += len(some)
        cleaned = sum(row.cleaned_at is not None for row in rows)
        told = any(row.left_at is not None or row.evidence for row in rows)
        given: list[Any] = [self._told(row) for row in rows]
        if self._ground.lines:
            return Part(piece.through, [], len(rows), faults, figures, cleaned, told, merging.lines(given)), some
        return Part(piece.through, given, len(rows), faults, figures, cleaned, told), some

    def _first(self, some: list[Row | Fault]) -> list[Row | Fault]:
        """The rows without those whose address came before."""
        hashed = [hash(row.key) for row in some if isinstance(row, Row)]
        found = self._seen.execute("INSERT OR IGNORE INTO seen SELECT value FROM json_each(?) RETURNING hash", (orjson.dumps(hashed).decode(),))
        new, kept = {each for each, in found}, []
        for row in some:
            if isinstance(row, Row):
                if (hashed_ := hash(row.key)) not in new:
                    continue
                new.discard(hashed_)
            kept.append(row)
        return kept

    def _told(self, row: Row) -> tuple[Any, ...]:
        """The row as merging.COLUMNS."""
        given = row.properties
        wiped = {name: None for name, value in given.items() if value is None or type(value) is dict}
        kept = {name: value for name, value in given.items() if value is not None} if wiped else given
        hashes = [history.hashed(row.key, each) for each in self._ground.secrets]
        return (row.number, row.email, row.key, row.first_name, row.last_name, searched(row.key, row.first_name, row.last_name),
                bulk.json(kept) if kept else None, bulk.json(wiped) if wiped else None, _together(tuple(row.tags), tuple(self._ground.tags)),
                row.left_at, row.cleaned_at, row.created_at, row.updated_at, row.last_active_at, bulk.json(row.evidence) if row.evidence else None,
                bulk.json(hashes) if hashes else None)

    # Rows of a file.

    def _of_lines(self) -> Iterator[Row | Fault]:
        for line in self._lines:
            email = _address(line.cells.get(c.EMAIL, ""))
            try:
                if line.error:
                    raise Invalid("row", line.error)
                if not email:
                    raise Invalid(c.EMAIL, "Email is required")
                yield self._of_line(line, email)
            except Invalid as error:
                yield Fault(line.number, email, error.text if line.place.startswith("line") else f"{line.place}: {error.text}")

    def _of_line(self, line: Line, email: str) -> Row:
        cells = line.cells
        row = Row(line.number, email, values.key(email))
        for name in _NAMES:
            if name in cells:
                setattr(row, name, values.text(cells[name], name))
        row.properties = _properties(cells, self._ground.definitions)
        if c.TAGS in cells:
            row.tags = list(_tagged(cells[c.TAGS]))
        for name in self._times:
            if name in cells:
                setattr(row, name, _time(cells[name], self._ground.now))
        if line.kind or self._asks:
            self._consent(row, line)
        self._fits(row)
        return row

    def _consent(self, row: Row, line: Line) -> None:
        """Whether the person left or the address bounced, when, and what shows that they had opted in."""
        cells, now = line.cells, self._ground.now
        if c.CLEANED_AT in cells or line.kind == c.CLEANED:
            row.cleaned_at = _time(cells.get(c.CLEANED_AT, ""), now) or now
        elif _left(cells) or line.kind == c.LEFT:
            row.left_at = _time(cells.get(c.LEFT_AT, ""), now) or now
        if row.left_at is not None or row.cleaned_at is not None:
            told = {"reason": cells.get(c.REASON, "")[:200], "list": line.kind}
            row.evidence = {name: value for name, value in told.items() if value} or None
            return
        proofs = {name: cells[name][:64] for name in (c.OPTIN_AT, c.OPTIN_IP, c.CONFIRM_AT, c.CONFIRM_IP) if name in cells}
        when = _time(proofs.get(c.CONFIRM_AT, ""), now) or _time(proofs.get(c.OPTIN_AT, ""), now)
        if when is not None:
            row.evidence = {"at": when, **proofs}

    # Rows of a request.

    def _of_objects(self) -> Iterator[Row | Fault]:
        for number, each in enumerate(self._people, 1):
            if not isinstance(each, dict):
                yield Fault(number, "", "the row is no JSON object")
                continue
            given = {ALIASES.get(name, name): value for name, value in each.items()}
            email = given.get("email") if isinstance(given.get("email"), str) else ""
            try:
                yield self._of_object(number, email, given)
            except Invalid as error:
                yield Fault(number, email, error.text)

    def _of_object(self, number: int, email: str, given: Mapping[str, Any]) -> Row:
        row = Row(number, email.strip(), values.key(email))
        for name in _NAMES:
            if given.get(name):
                setattr(row, name, values.text(given[name], name))
        if given.get("properties"):
            row.properties = values.properties(given["properties"], self._ground.definitions)
            values.merged({}, row.properties)
        if given.get("tags"):
            row.tags = values.tags(given["tags"])
        for name in _TIMES:
            if isinstance(given.get(name), str):
                setattr(row, name, _time(given[name], self._ground.now))
        if given.get("unsubscribed") is True:
            when = given.get("unsubscribed_at")
            row.left_at = (_time(when, self._ground.now) if isinstance(when, str) else None) or self._ground.now
        self._fits(row)
        return row

    def _fits(self, row: Row) -> None:
        """Raises Invalid when the row's tags with those for everybody are too many; an address that bounced becomes no contact, so has none."""
        if len(row.tags) + len(self._ground.tags) > values.TAGS and row.cleaned_at is None:
            found = len({*row.tags, *self._ground.tags})
            if found > values.TAGS:
                raise Invalid(c.TAGS, f"a contact has at most {values.TAGS} tags, this one has {found} with those of the import")


def _request(path: Path) -> tuple[dict[str, Any], Iterable[Any]]:
    """The fields of a JSON request, and the contacts in it; an array alone will do, and an export, which has one a line, may be of any length."""
    with path.open("rb") as file:
        if file.read(2) == b"[\n":
            return {}, _exported(path)
    try:
        given = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        raise Malformed from None
    fields = {} if isinstance(given, list) else given
    people = given if isinstance(given, list) else fields.pop("contacts", None) if isinstance(fields, dict) else None
    if not isinstance(people, list) or not 0 < len(people) <= ROWS:
        raise Invalid("contacts", f"contacts is a list of 1 to {ROWS} contacts")
    if (odd := next((place for place, each in enumerate(people) if not isinstance(each, dict)), None)) is not None:
        raise Invalid(f"contacts[{odd}]", f'contacts[{odd}] is no object such as {{"email": "ann@example.com"}}')
    return fields, people


def _exported(path: Path) -> Iterator[Any]:
    """The objects of an array that has one a line; anything else that is no end of it is a row that cannot be read."""
    with path.open("rb") as file:
        file.readline()
        while line := file.readline(LONGEST):
            text = line.strip().rstrip(b",")
            if text in (b"", b"]"):
                continue
            try:
                yield orjson.loads(text)
            except orjson.JSONDecodeError:
                yield None


def _address(cell: str) -> str:
    """The first address of a cell; Google puts several into one."""
    return cell.partition(" ::: ")[0].strip() if " ::: " in cell else cell


def _properties(cells: Mapping[str, str], definitions: Mapping[str, Property]) -> dict[str, Any]:
    """What the columns hold; the column `properties` of an export holds what is not its text, and counts where nobody edited the other."""
    exact = _exact(cells.get(c.PROPERTIES, ""))
    found = {name: value for name, value in exact.items() if c.PROPERTY + name not in cells}
    for meaning, cell in cells.items():
        if meaning.startswith(c.PROPERTY):
            name = meaning[len(c.PROPERTY):]
            if name in exact and shown(exact[name]) == cell:
                found[name] = exact[name]
            else:
                value = values.cell(cell, definitions.get(name), meaning)
                if value is not None:
                    found[name] = value
    if found:
        found = values.properties(found, definitions)
        if exact or sum(map(len, cells.values())) > values.SIZE // 8:  # a character is six octets of JSON at most, a short cell is small
            values.merged({}, found)
    return found


def _exact(cell: str) -> dict[str, Any]:
    if not cell:
        return {}
    try:
        found = orjson.loads(cell)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Invalid(c.PROPERTIES, "properties is no JSON object")
    return found


def _tags(cell: str) -> list[str]:
    """Tags as people write them: between commas, semicolons or Google's colons, quoted as Mailchimp does, or a JSON list."""
    if cell.startswith("["):
        try:
            found = orjson.loads(cell)
        except orjson.JSONDecodeError:
            found = None
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return found
    if " ::: " in cell or cell.startswith("* "):
        return [each.strip().removeprefix("* ") for each in cell.split(" ::: ") if each.strip()]
    return [tag for each in _split(cell) if (tag := each.strip())]


@lru_cache(1_024)
def _tagged(cell: str) -> tuple[str, ...]:
    """The tags of a cell, checked."""
    return tuple(values.tags(_tags(cell)))


@lru_cache(1_024)
def _together(tags: tuple[str, ...], more: tuple[str, ...]) -> str | None:
    """A row's tags and those for everybody, as JSON."""
    found = list(dict.fromkeys((*tags, *more)))
    return bulk.json(found) if found else None


def _split(cell: str) -> Iterable[str]:
    if '"' not in cell:
        return cell.replace(";", ",").split(",")
    found, quoted, part = [], False, ""
    for letter in cell:
        if letter == '"':
            quoted = not quoted
        elif letter in ",;" and not quoted:
            found.append(part)
            part = ""
        else:
            part += letter
    return [*found, part]


def _left(cells: Mapping[str, str]) -> bool:
    return c.LEFT_AT in cells or cells.get(c.UNSUBSCRIBED, "").lower() in _TRUE or cells.get(c.SUBSCRIBED, "").lower() in _FALSE


def _time(text: str, now: float) -> float | None:
    """UTC seconds of a time as exports write it, ISO 8601 with a space or a T, UTC where no zone is named; None for anything else, and for the future."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if found is None or found.year < 1970:
        return None
    when = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return when if when <= now else None


def _shown(row: Row) -> dict[str, Any]:
    return {"email": row.email, "first_name": row.first_name, "last_name": row.last_name, "properties": row.properties or None, "tags": row.tags or None}
