"""Templates, the filters that they use, and the static files beside them.

Every value is escaped (autoescape), and a name that a template misspells is an error. Static files are read once; their addresses carry a hash of what is in
them, so a browser keeps them for a year and still sees a new release at once.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".LICENSE": "text/plain; charset=utf-8"}
NOTHING = "\u2013"

SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))  # seconds, unit


def render(template: str, values: dict[str, Any]) -> str:
    return _environment().get_template(template).render(values)


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """The static files by name: octets and media type."""
    return {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in sorted((HERE / "static").iterdir()) if path.suffix in TYPES}


@cache
def asset(name: str) -> str:
    """The address of a static file."""
    return f"/dashboard/static/{name}?v={hashlib.sha256(assets()[name][0]).hexdigest()[:12]}"


def when(at: str | float | None) -> str:
    """A time element of UTC seconds or an ISO 8601 text; a dash for none."""
    if at is None or at == "":
        return NOTHING
    moment = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M:%S"))


def span(seconds: float | None) -> str:
    """A length of time in its largest two units: "2 h 5 min"."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    parts, left = [], int(seconds)
    for size, unit in SPANS:
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def octets(number: int | None) -> str:
    """A size, decimal as sizes are in the settings."""
    if number is None:
        return NOTHING
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"


def count(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"


def pretty(value: Any) -> str:
    """A value as indented JSON."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()


@cache
def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                       auto_reload=False)
    made.filters |= {"when": when, "span": span, "octets": octets, "count": count, "pretty": pretty}
    made.globals |= {"asset": asset}
    return made
