"""Cells of CSV files that a spreadsheet must not run as a formula and an import must get back as they were: an apostrophe before them, and off again.

A cell is marked when it begins like a formula, when white space stands at one of its ends (a reader strips cells that are not marked), or when it would look
marked by itself. Plain numbers stay as they are.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_START = re.compile(r"'*[=+@\s-]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def defused(cell: str) -> str:
    """The cell as an export writes it."""
    if not cell or (cell[0].isalnum() and not cell[-1].isspace()):  # nearly all are: three times as fast
        return cell
    return f"'{cell}" if _risky(cell) and not _NUMBER.fullmatch(cell) else cell


def armed(cell: str) -> str:
    """The cell as it was before `defused`; one that is not marked loses the white space around it."""
    return cell[1:] if cell[:1] == "'" and _risky(cell[1:]) else cell.strip()


def _risky(cell: str) -> bool:
    return _START.match(cell) is not None or cell[-1:].isspace()


def shown(value: Any) -> str:
    """What a cell shows of a value: its text, or JSON in one order whatever the database's."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
