"""Text for people: aligned columns, times, sizes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime


def table(head: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "") -> str:
    """Columns as wide as their widest cell, two spaces between; `empty` when there are no rows. None and "" show as "-"."""
    cells = [["-" if cell in (None, "") else printable(str(cell)) for cell in row] for row in rows]
    if not cells:
        return empty
    lines = [list(head), *cells]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def printable(text: str) -> str:
    """The text without control characters: a remote server's words must not drive a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def when(iso: str | None) -> str:
    """A time of ours without its milliseconds: "2026-03-23 10:00:00Z"."""
    return f"{iso[:10]} {iso[11:19]}Z" if iso else "-"


def ago(iso: str | None) -> str:
    """How far a time lies from now, in its largest unit: "5m ago", "in 2h"."""
    if not iso:
        return "-"
    seconds = time.time() - datetime.fromisoformat(iso).timestamp()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Seconds in their largest unit: "45s", "5m", "3h", "2d"."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "d"):
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
