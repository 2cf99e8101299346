"""A workflow's graph as boxes and lines, from the trigger down: plain numbers for an SVG, and what each step does in words.

A node stands one row below the lowest of those that lead to it, so all lines point down; within a row, under the middle of those above it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from relay.audience.grammars import read
from relay.audience.words import phrase
from relay.errors import RelayError
from relay.workflows import editing
from relay.workflows.graph import Node

WIDE, HIGH = 244, 58  # of a box
ACROSS, DOWN = 28, 46  # between boxes
SHORT = 30  # characters of a line in a box
BRANCHES = {"match": "yes", "no_match": "no"}
KINDS = {"trigger": "Begins", "send_email": "Send", "wait": "Wait", "condition": "Ask", "webhook": "Call", "update_contact": "Change", "exit": "End"}


@dataclass(frozen=True, slots=True)
class Box:
    """A node: its place (left, top), its words, and what came of it so far in words."""

    id: str
    kind: str
    x: float
    y: float
    does: str
    came: str
    visited: bool

    @property
    def short(self) -> str:
        return self.does if len(self.does) <= SHORT else f"{self.does[:SHORT - 1]}…"


@dataclass(frozen=True, slots=True)
class Line:
    """An edge from one point to another, with the answer that it is for."""

    x: float
    y: float
    to_x: float
    to_y: float
    branch: str
    visited: bool

    @property
    def way(self) -> str:
        """The line as an SVG path."""
        middle = (self.y + self.to_y) / 2
        return f"M {self.x:.0f} {self.y:.0f} C {self.x:.0f} {middle:.0f}, {self.to_x:.0f} {middle:.0f}, {self.to_x:.0f} {self.to_y:.0f}"


@dataclass(frozen=True, slots=True)
class Way:
    """A way out of a node: where on its lower edge it begins, and its answer in words."""

    x: float
    y: float
    id: str
    branch: str
    said: str


@dataclass(frozen=True, slots=True)
class Drawing:
    width: float
    height: float
    boxes: list[Box]
    lines: list[Line]
    ways: list[Way]


def drawn(graph: Mapping[str, Any], about: str = "", visited: Collection[str] = (), names: Mapping[str, str] | None = None) -> Drawing:
    """The drawing of a graph as the API shows it.

    about    what begins it, in words
    visited  nodes that a run came to
    names    of what ids stand for, as templates
    """
    rows = _rows(graph)
    wide = max((len(row) for row in rows), default=0)
    width, places = wide * (WIDE + ACROSS) + ACROSS, {}
    for number, row in enumerate(rows):
        left = (width - len(row) * (WIDE + ACROSS) + ACROSS) / 2
        places |= {name: (left + place * (WIDE + ACROSS), DOWN / 2 + number * (HIGH + DOWN)) for place, name in enumerate(row)}
    nodes = {node["public_id"]: node for node in graph["nodes"]}
    boxes = [Box(name, nodes[name]["type"], *places[name], about if nodes[name]["type"] == "trigger" else does(nodes[name], names or {}),
                 came(nodes[name]), name in visited) for row in rows for name in row]
    lines = [_line(edge, places, visited) for edge in graph["edges"]]
    return Drawing(width, len(rows) * (HIGH + DOWN), boxes, lines, [way for name in places for way in _ways(nodes[name], places[name])])


def _ways(node: Mapping[str, Any], place: tuple[float, float]) -> list[Way]:
    """The ways out of a node, side by side along its lower edge."""
    found = editing.branches(Node(node["public_id"], node["type"], node["config"]))
    return [Way(place[0] + WIDE * (number + 1) / (len(found) + 1), place[1] + HIGH, node["public_id"], each or "",
                BRANCHES.get(each, each) if each else "") for number, each in enumerate(found)]


def _line(edge: Mapping[str, Any], places: Mapping[str, tuple[float, float]], visited: Collection[str]) -> Line:
    (x, y), (to_x, to_y) = places[edge["from_public_id"]], places[edge["to_public_id"]]
    branch = edge["branch"] or ""
    passed = edge["from_public_id"] in visited and edge["to_public_id"] in visited
    return Line(x + WIDE / 2, y + HIGH, to_x + WIDE / 2, to_y, BRANCHES.get(branch, branch), passed)


def _rows(graph: Mapping[str, Any]) -> list[list[str]]:
    """The nodes from top to bottom, those of a row from left to right. Nodes on a way that leads back, which no active graph has, come last."""
    before: dict[str, list[str]] = {node["public_id"]: [] for node in graph["nodes"]}
    after: dict[str, list[str]] = {name: [] for name in before}
    for edge in graph["edges"]:
        before[edge["to_public_id"]].append(edge["from_public_id"])
        after[edge["from_public_id"]].append(edge["to_public_id"])
    left, depth = {name: len(above) for name, above in before.items()}, dict.fromkeys(before, 0)
    ready = [name for name, count in left.items() if not count]
    for name in ready:  # grows while it is walked
        for below in after[name]:
            left[below] -= 1
            depth[below] = max(depth[below], depth[name] + 1)
            if not left[below]:
                ready.append(below)
    last = max((depth[name] for name in ready), default=-1) + 1
    rows: list[list[str]] = [[] for _ in range(last + (len(ready) < len(before)))]
    for name in before:
        rows[depth[name] if not left[name] else last].append(name)
    place: dict[str, float] = {}
    for row in rows:
        row.sort(key=lambda name: sum(place.get(each, 0.0) for each in before[name]) / max(1, len(before[name])))
        place |= {name: number - len(row) / 2 for number, name in enumerate(row)}
    return rows


def does(node: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What a node does, in words."""
    config = node["config"]
    match node["type"]:
        case "send_email":
            template = config.get("template_id")
            return str(config.get("subject") or names.get(str(template)) or template or "nothing yet")
        case "wait":
            return _wait(config)
        case "condition":
            return _asked(config)
        case "webhook":
            return f"{str(config.get('method') or 'post').upper()} {config.get('url') or ''}"
        case "update_contact":
            return ", ".join(name.replace("_", " ") for name in config) or "nothing yet"
    return str(config.get("reason") or "")


def _wait(config: Mapping[str, Any]) -> str:
    if config.get("event"):
        return f"for {config['event']}" + (f", at most {config['timeout']}" if config.get("timeout") else "")
    if config.get("until"):
        return f"until {config['until']} {config.get('offset') or ''}".rstrip()
    return f"{config.get('delay') or 'nothing yet'}"


def _asked(config: Mapping[str, Any]) -> str:
    if config.get("branches"):
        return "which of " + ", ".join(str(each.get("name")) for each in config["branches"] if isinstance(each, Mapping))
    try:
        return phrase(read(config.get("rules"))).removeprefix("contacts ")
    except RelayError:
        return "nothing yet"


def came(node: Mapping[str, Any]) -> str:
    """What came of a node so far: "12 sent, 1 skipped"."""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(node.get("counts", {}).items()) if count > 0)
