"""Files of contacts as spreadsheets and mail programs write them: CSV of any common delimiter and encoding, read row by row.

A byte order mark tells UTF-8 and UTF-16; without one it is UTF-8, or cp1252 when it is not valid UTF-8. A first line `sep=;` names the delimiter, else the
header line shows it. Column names of the usual exports are known; every other column is a property. Lines may end anyhow, quoted fields may hold line breaks,
rows may be shorter or longer than the header.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from relay.errors import Invalid

PIECE = 262_144  # octets read at a time
COLUMNS = 500
FIELD = 65_536  # characters of a field
csv.field_size_limit(1_000_000)  # beyond, the reader gives up on the line; FIELD is checked by us

EMAIL, FIRST, LAST, TAGS, UNSUBSCRIBED, SUBSCRIBED, IGNORED = "email", "first_name", "last_name", "tags", "unsubscribed", "subscribed", ""
NAMES = {
    "email": EMAIL, "e mail": EMAIL, "email address": EMAIL, "e mail address": EMAIL, "e mail 1 value": EMAIL, "email 1 value": EMAIL, "mail": EMAIL,
    "subscriber email": EMAIL, "first name": FIRST, "firstname": FIRST, "given name": FIRST, "fname": FIRST, "last name": LAST, "lastname": LAST,
    "family name": LAST, "surname": LAST, "lname": LAST, "tags": TAGS, "labels": TAGS, "unsubscribed": UNSUBSCRIBED, "subscribed": SUBSCRIBED,
    "id": IGNORED, "created at": IGNORED, "updated at": IGNORED, "unsubscribed at": IGNORED,
}
PROPERTY = "properties."
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
DANGEROUS = (*FORMULAS, "'")  # an apostrophe before one of these is ours

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a file: its number, the header being 1, and its cells by what their columns mean; `error` when it could not be read."""

    number: int
    cells: Mapping[str, str]
    error: str = ""


def lines(file: IO[bytes]) -> tuple[dict[str, str], Iterator[Line]]:
    """What each column of a file means, by the name it has there, and its rows. Raises Invalid when no column holds addresses."""
    text = io.TextIOWrapper(file, _encoding(file), errors="replace", newline="")
    first = text.readline()
    delimiter = ""
    if first.lower().startswith("sep=") and len(first.strip()) == 5:
        delimiter = first.strip()[4]
        first = ""
    reader = csv.reader(_joined(first, text), delimiter=delimiter or _delimiter(first), skipinitialspace=True)
    try:
        header = next(reader, [])
    except csv.Error:
        header = []
    columns = [_meaning(name) for name in header]
    if EMAIL not in columns:
        raise Invalid("file", "the file has no column email; its first line names the columns")
    if len(columns) > COLUMNS:
        raise Invalid("file", f"the file has more than {COLUMNS} columns")
    return dict(zip(header, columns, strict=True)), _rows(reader, columns)


def _joined(first: str, rest: Any) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _rows(reader: Any, columns: list[str]) -> Iterator[Line]:
    number = 1
    while True:
        number += 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(number, {}, str(error))
            continue
        if not any(cell.strip() for cell in row):
            continue
        cells: dict[str, str] = {}
        for meaning, cell in zip(columns, row, strict=False):
            if meaning and cell and meaning not in cells:
                cells[meaning] = armed(cell)
        long = next((meaning for meaning, cell in cells.items() if len(cell) > FIELD), "")
        yield Line(number, cells, f"{long} has more than {FIELD} characters" if long else "")


def _encoding(file: IO[bytes]) -> str:
    """How the file is written; it is read through once and wound back."""
    start = file.read(4)
    file.seek(0)
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while piece := file.read(PIECE):
            decoder.decode(piece)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return "cp1252"
    finally:
        file.seek(0)
    return "utf-8"


def _delimiter(header: str) -> str:
    plain = re.sub(r'"[^"]*"', "", header)
    return max(",;\t|", key=plain.count)


def _meaning(name: str) -> str:
    """What a column of this name holds: a field of contacts, "" for one that is not taken over, else a property."""
    plain = re.sub(r"[\s_-]+", " ", name.strip().lower()).strip()
    if plain in NAMES:
        return NAMES[plain]
    kept = re.sub(r'[\x00-\x1f\x7f"\\]', " ", name).strip()[:64]
    return PROPERTY + kept.removeprefix(PROPERTY) if kept else IGNORED


# Cells that a spreadsheet would run as a formula.


def defused(cell: str) -> str:
    """The cell, with an apostrophe before what a spreadsheet takes for a formula; plain numbers stay."""
    risky = cell.startswith(FORMULAS) or (cell.startswith("'") and cell[1:].startswith(DANGEROUS))
    return f"'{cell}" if risky and not _NUMBER.fullmatch(cell) else cell


def armed(cell: str) -> str:
    """The cell as it was before `defused`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(DANGEROUS) else cell
