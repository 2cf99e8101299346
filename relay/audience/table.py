"""Files of contacts as spreadsheets and mail programs write them: CSV of any common delimiter and encoding, alone or several in a ZIP, read row by row.

A byte order mark tells UTF-8 and UTF-16, NULs at every second place tell UTF-16 without one; else it is UTF-8, or cp1252 when it is not valid UTF-8. A first
line `sep=;` names the delimiter, else the header line shows it. Lines may end anyhow, quoted fields may hold line breaks, rows may be shorter or longer than
the header. What is longer than a field or a line may be is an error of its row, and is never held as a whole.

Of a ZIP, its CSV files are read one after the other, those of bounced and unsubscribed people first, so that they win over any other file that names them. Its
own directory says how large the files are, and no more than that is unpacked.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import msgspec

from relay.audience.cells import armed
from relay.audience.columns import CLEANED, EMAIL, LEFT, kind, listed, meaning
from relay.errors import Invalid

PIECE = 262_144  # octets read at a time
COLUMNS = 500
FIELD = 65_536  # characters of a field
LINE = 1_000_000  # characters of a line
EXAMPLE = 60  # characters of a cell that is shown
NAMED = 8  # columns that an error names
FILES = 20  # of a ZIP
UNPACKED = 2_000_000_000  # octets of all files of a ZIP
RATIO = 100  # times a ZIP may grow; lists of people grow tenfold
SMALL = 10_000_000  # octets that any ZIP may hold, however well they were packed
csv.field_size_limit(LINE)

NO_EMAIL = "the file has no column email; its first line names the columns"
NOTHING: Mapping[str, str] = MappingProxyType({})

_BAD_ZIP = (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError)


class Line(msgspec.Struct):
    """A row of a file: its number among all rows, where it stands ("line 3", in a ZIP with the file's name), its cells by what their columns mean.

    kind   CLEANED | LEFT | "", of the whole file
    error  why it could not be read, "" if it was
    """

    number: int
    place: str
    cells: Mapping[str, str]
    kind: str = ""
    error: str = ""


class Column(NamedTuple):
    """A column by its name, what that says it means, and what its first row has."""

    name: str
    meaning: str
    example: str


def lines(file: IO[bytes], name: str, given: Mapping[str, str] = NOTHING) -> tuple[dict[str, str], Iterator[Line]]:
    """What each column means, by the name it has, and the rows. Raises Invalid("file") when no column holds addresses, or for what is no such file.

    given  what columns mean where that is not what their names say; raises Invalid("mapping") for one that is not there
    """
    sheets: list[tuple[str, Iterator[Line]]] = []
    found: dict[str, str] = {}
    there: list[str] = []
    wrong: Invalid | None = None
    for title, opened, called in _files(file, name):
        try:
            text, reader, header = _head(opened, called)
            there += header
            mapping, rows = _sheet(text, reader, header, called, given)
        except Invalid as error:  # a list of something else beside the people
            wrong = error
            continue
        found |= mapping
        sheets.append((title, rows))
    if there and (absent := sorted(given.keys() - there)):
        raise Invalid("mapping", f"mapping: the file has no column {absent[0][:EXAMPLE]!r}; it has {_named(there)}")
    if wrong is not None and not sheets:
        raise wrong
    return found, _numbered(sheets)


def columns(file: IO[bytes], name: str) -> list[Column]:
    """All columns, addresses among them or not, each name once. Raises Invalid("file")."""
    found: dict[str, Column] = {}
    for _, opened, called in _files(file, name):
        text, reader, header = _head(opened, called)
        first: list[str] = []
        with contextlib.suppress(StopIteration, csv.Error, *_BAD_ZIP):
            first = next(reader)
        for place, each in enumerate(header[:COLUMNS]):
            cell = armed(first[place]) if place < len(first) and not text.cut else ""
            found.setdefault(each, Column(each, meaning(each), cell[:EXAMPLE]))
    if not found:
        raise Invalid("file", NO_EMAIL)
    return list(found.values())


def _files(file: IO[bytes], name: str) -> Iterator[tuple[str, IO[bytes], str]]:
    """The CSV files of an upload: what their rows are said to be of, the file, its name. Raises Invalid."""
    start = file.read(4)
    file.seek(0)
    if start.startswith((b"\xd0\xcf\x11\xe0", b"%PDF")):
        raise Invalid("file", "the file is no CSV file; save it as CSV (UTF-8)")
    if not start.startswith(b"PK"):
        yield "", file, name
        return
    archive, entries = _entries(file)
    for entry in entries:
        yield entry.filename.rpartition("/")[2], _opened(archive, entry), entry.filename


def _numbered(sheets: Sequence[tuple[str, Iterator[Line]]]) -> Iterator[Line]:
    """The rows of all sheets, counted on from one to the next; the header of the first is row 1."""
    before = 0
    for name, rows in sheets:
        last = 1
        for row in rows:
            last = row.number
            row.number, row.place = before + last, f"{name}, line {last}" if name else f"line {last}"
            yield row
        before += last


# ZIP.


def _entries(file: IO[bytes]) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """The CSV files of an archive in the order in which they count."""
    try:
        archive = zipfile.ZipFile(file)
        inside = [entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith(("__MACOSX/", "."))]
    except _BAD_ZIP:
        raise Invalid("file", "the ZIP file is damaged") from None
    if any(entry.filename in ("[Content_Types].xml", "mimetype") for entry in inside):
        raise Invalid("file", "the file is a spreadsheet; save it as CSV (UTF-8)")
    found = [entry for entry in inside if entry.filename.lower().endswith((".csv", ".tsv", ".txt"))]
    if not 0 < len(found) <= FILES:
        raise Invalid("file", f"the ZIP file has {len(found)} CSV files; 1 to {FILES} can be imported")
    size, packed = sum(entry.file_size for entry in found), sum(entry.compress_size for entry in found)
    if size > UNPACKED or (size > SMALL and size > RATIO * packed):
        raise Invalid("file", "the ZIP file unpacks to more than can be imported; import its files one by one")
    order = (CLEANED, LEFT, "")
    return archive, sorted(found, key=lambda entry: (order.index(listed(entry.filename)), entry.filename))


def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(entry)
    except _BAD_ZIP:
        raise Invalid("file", f"{entry.filename} in the ZIP file cannot be read: it is damaged or has a password") from None


# CSV.


def _head(file: IO[bytes], name: str) -> tuple[_Text, Any, list[str]]:
    """The text of a CSV file, what reads its rows, and the names of its columns."""
    try:
        text = _Text(io.TextIOWrapper(file, _encoding(file), errors="replace", newline=""))
        first = next(text, "")
        delimiter = ""
        if first.lower().startswith("sep=") and len(first.strip("\r\n")) == 5:
            delimiter, first = first[4], ""
        while not first.strip() and (following := next(text, None)) is not None:
            first = following
        while first.count('"') % 2 and len(first) < FIELD and (following := next(text, None)) is not None:
            first += following  # a name in the header has a line break
        reader = csv.reader(_joined(first, text), delimiter=delimiter or _delimiter(first), skipinitialspace=True)
        return text, reader, [armed(name) for name in next(reader, [])]
    except csv.Error:
        raise Invalid("file", NO_EMAIL) from None
    except _BAD_ZIP:
        raise Invalid("file", f"{name.rpartition('/')[2] or 'the file'} cannot be read: it is damaged") from None


def _named(header: Sequence[str]) -> str:
    """The first columns of a file as an error names them."""
    names = list(dict.fromkeys(each for each in header if each.strip()))
    return ", ".join([*(repr(each[:EXAMPLE]) for each in names[:NAMED]), *(["..."] if len(names) > NAMED else [])]) or "none"


def _sheet(text: _Text, reader: Any, header: Sequence[str], name: str, given: Mapping[str, str]) -> tuple[dict[str, str], Iterator[Line]]:
    meant = [given.get(each, meaning(each)) for each in header]
    if EMAIL not in meant:
        raise Invalid("file", f"{NO_EMAIL}: {_named(header)}; call one of them email, or say by mapping what they mean")
    if len(meant) > COLUMNS:
        raise Invalid("file", f"the file has more than {COLUMNS} columns")
    return dict(zip(header, meant, strict=True)), _rows(reader, text, meant, kind(name, header))


class _Text:
    """The lines of a text, of which none is longer than LINE: `cut` says that the last one was."""

    def __init__(self, text: io.TextIOWrapper):
        self._text, self.cut = text, False

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LINE)
        if not line:
            raise StopIteration
        if len(line) == LINE and line[-1] not in "\r\n":
            self.cut = True
            while (rest := self._text.readline(LINE)) and rest[-1] not in "\r\n":
                pass
            return "\n"
        return line


def _joined(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield from io.StringIO(first, newline="")
    yield from rest


def _rows(reader: Any, text: _Text, columns: list[str], which: str) -> Iterator[Line]:
    """The rows below the header, row 2 and on."""
    number = 1
    while True:
        number += 1
        row: list[str] = []
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(number, "", {}, which, str(error))
            continue
        except _BAD_ZIP:
            yield Line(number, "", {}, which, "the rest of the file cannot be read: it is damaged")
            return
        finally:
            cut, text.cut = text.cut, False
        if cut:
            yield Line(number, "", {}, which, f"the line has more than {LINE} characters")
        elif any(row):
            yield _line(number, row, columns, which)


def _line(number: int, row: Sequence[str], columns: Sequence[str], which: str) -> Line:
    cells: dict[str, str] = {}
    for name, cell in zip(columns, row, strict=False):
        if name and cell and name not in cells and (kept := armed(cell) if cell[0] == "'" else cell.strip()):
            cells[name] = kept
    long = next((name for name, cell in cells.items() if len(cell) > FIELD), "") if sum(map(len, row)) > FIELD else ""
    return Line(number, "", cells, which, f"{long} has more than {FIELD} characters" if long else "")


def _encoding(file: IO[bytes]) -> str:
    """How the file is written; it is read through once and wound back."""
    start = file.read(4)
    file.seek(0)
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) == 4 and (start[1::2] == b"\0\0") != (start[::2] == b"\0\0"):
        return "utf-16-le" if start[1] == 0 else "utf-16-be"
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
