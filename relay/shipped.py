"""The files of config/ that ship with Relay: in the wheel as relay/_config/, in a source tree beside the package."""

from __future__ import annotations

from pathlib import Path

PLACES = (Path(__file__).parent / "_config", Path(__file__).parent.parent / "config")


def shipped(name: str) -> Path:
    """The path of a shipped file such as "shaping.toml"; raises FileNotFoundError naming the places searched."""
    for place in PLACES:
        if (place / name).exists():
            return place / name
    raise FileNotFoundError(f"{name} is in none of {', '.join(map(str, PLACES))}")
