"""The graph of a workflow as a value: one trigger, nodes, edges between them; no way leads back.

    Node(id, kind, config, x, y)      Edge(origin, target, branch, priority)      branch: None, or one answer of several ("match", "no_match", ...)

`read` takes JSON as callers give it, so much of it as can be kept; `faults` says all that is wrong with the shape. Since no way leads back, a run has at most
as many steps as there are nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.errors import Invalid
from relay.store import bulk

NODES, EDGES = 200, 500
CONFIG = 262_144  # octets of a node's config
PRIORITY = 1_000_000  # of an edge, either way
TRIGGER = "trigger"
ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Edge:
    """`priority`: of two ways that fit an answer, its own and the one for every answer, the lower number is taken, and its own where they are equal."""

    origin: str
    target: str
    branch: str | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong: a stable code, words, and where."""

    code: str
    text: str
    node: str = ""
    field: str = ""

    @property
    def shown(self) -> dict[str, str | None]:
        return {"code": self.code, "message": self.text, "node": self.node or None, "field": self.field or None}


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    ways: Mapping[str, list[Edge]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        ways: dict[str, list[Edge]] = {}
        for edge in self.edges:
            ways.setdefault(edge.origin, []).append(edge)
        object.__setattr__(self, "ways", ways)

    @property
    def trigger(self) -> Node | None:
        return next((node for node in self.nodes.values() if node.kind == TRIGGER), None)

    def leaving(self, node: str) -> list[Edge]:
        return self.ways.get(node, [])

    def after(self, node: str, branch: str | None = None) -> str | None:
        """Where a run goes from a node that answered this; an edge without a branch is for every answer. None = it ends here."""
        fitting = [edge for edge in self.leaving(node) if edge.branch in (branch, None)]
        return min(fitting, key=lambda edge: (edge.priority, edge.branch is None)).target if fitting else None

    def first(self) -> str | None:
        """Where a run begins."""
        trigger = self.trigger
        return None if trigger is None else self.after(trigger.id)


EMPTY = Graph({}, ())


# From and to JSON.


def read(nodes: Any, edges: Any, kinds: Mapping[str, Any]) -> Graph:
    """The graph; raises Invalid for what could not be kept, naming its place: nodes[2].public_id."""
    if not isinstance(nodes, list) or len(nodes) > NODES:
        raise Invalid("nodes", f"nodes is a list of up to {NODES} nodes {{public_id, type, config}}")
    if not isinstance(edges, list) or len(edges) > EDGES:
        raise Invalid("edges", f"edges is a list of up to {EDGES} edges {{from_public_id, to_public_id, branch}}")
    found: dict[str, Node] = {}
    for number, each in enumerate(nodes):
        node = _node(each, f"nodes[{number}]", kinds)
        if node.id in found:
            raise Invalid(f"nodes[{number}].public_id", f"nodes[{number}].public_id: there is a node {node.id} already")
        found[node.id] = node
    return Graph(found, tuple(_edge(each, f"edges[{number}]", found) for number, each in enumerate(edges)))


def _node(given: Any, at: str, kinds: Mapping[str, Any]) -> Node:
    if not isinstance(given, Mapping):
        raise Invalid(at, f"{at} is {{public_id, type, config}}")
    name = _first(given, "public_id", "publicId", "id")
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise Invalid(f"{at}.public_id", f"{at}.public_id is a name of up to 64 letters, digits and . _ : -")
    kind = given.get("type")
    if kind != TRIGGER and kind not in kinds:
        raise Invalid(f"{at}.type", f"{at}.type: there is no {str(kind)[:40]!r}; there are {TRIGGER}, {', '.join(kinds)}")
    config = given.get("config") or {}
    if not isinstance(config, dict) or len(bulk.json(config)) > CONFIG:
        raise Invalid(f"{at}.config", f"{at}.config is an object of up to {CONFIG} octets")
    places = [_first(given, name, other, default=0) for name, other in (("canvas_x", "canvasX"), ("canvas_y", "canvasY"))]
    if any(isinstance(place, bool) or not isinstance(place, (int, float)) or not abs(place) < 1e9 for place in places):
        raise Invalid(f"{at}.canvas_x", f"{at}.canvas_x and canvas_y are numbers")
    return Node(name, str(kind), bulk.plain(config), *places)


def _edge(given: Any, at: str, nodes: Mapping[str, Node]) -> Edge:
    if not isinstance(given, Mapping):
        raise Invalid(at, f"{at} is {{from_public_id, to_public_id, branch}}")
    ends = []
    for name, other, short in (("from_public_id", "fromPublicId", "from"), ("to_public_id", "toPublicId", "to")):
        end = _first(given, name, other, short)
        if not isinstance(end, str) or end not in nodes:
            raise Invalid(f"{at}.{name}", f"{at}.{name}: there is no node {str(end)[:80]!r}")
        ends.append(end)
    branch = given.get("branch")
    if branch is not None and (not isinstance(branch, str) or not ID.fullmatch(branch)):
        raise Invalid(f"{at}.branch", f"{at}.branch is match, no_match, the name of a branch, or null")
    priority = given.get("priority", 0)
    if type(priority) is not int or abs(priority) > PRIORITY:
        raise Invalid(f"{at}.priority", f"{at}.priority is a whole number of at most {PRIORITY}; of two ways that fit, the lower is taken")
    return Edge(ends[0], ends[1], branch, priority)


def _first(given: Mapping[str, Any], *names: str, default: Any = None) -> Any:
    return next((given[name] for name in names if given.get(name) is not None), default)


def shown(graph: Graph) -> dict[str, Any]:
    """The graph as callers read it, and as it is kept."""
    return {
        "nodes": [{"public_id": each.id, "type": each.kind, "config": each.config, "canvas_x": each.x, "canvas_y": each.y} for each in graph.nodes.values()],
        "edges": [{"from_public_id": each.origin, "to_public_id": each.target, "branch": each.branch, **({"priority": each.priority} if each.priority else {})}
                  for each in graph.edges]}


# Its shape.


def faults(graph: Graph, branches: Mapping[str, tuple[str, ...]]) -> Iterator[Fault]:
    """All that is wrong with the shape.

    branches  the answers that each node has, by its id; without any a node has one way on
    """
    triggers = [node for node in graph.nodes.values() if node.kind == TRIGGER]
    if len(triggers) != 1:
        yield Fault("trigger_missing" if not triggers else "trigger_twice", "a graph has exactly one trigger", triggers[1].id if triggers else "")
    for trigger in triggers[:1]:
        if not graph.leaving(trigger.id):
            yield Fault("leads_nowhere", "nothing comes after the trigger", trigger.id)
    for node in graph.nodes.values():
        yield from _ways(graph, node, branches.get(node.id, ()))
    yield from _around(graph)


def _ways(graph: Graph, node: Node, branches: tuple[str, ...]) -> Iterator[Fault]:
    edges = graph.leaving(node.id)
    names = [edge.branch for edge in edges]
    for name in sorted({name for name in names if name is not None} - set(branches)):
        there = f"; it has {', '.join(branches)}" if branches else ""
        yield Fault("branch_unknown", f"the {node.kind} has no branch {name}{there}", node.id, "branch")
    for name in {name for name in names if names.count(name) > 1}:
        yield Fault("branch_twice", f"two ways lead on from the {node.kind}" + (f" for {name}" if name else ""), node.id, "branch")
    general = [edge.priority for edge in edges if edge.branch is None]
    for edge in edges if general else ():
        if edge.branch is not None and edge.priority > min(general):
            yield Fault("never_taken", f"the way for {edge.branch} is never taken: the one for every answer has the lower priority", node.id, "priority")
    if node.kind == "condition" and not edges:
        yield Fault("leads_nowhere", "nothing comes after the condition", node.id)
    if node.kind == "exit" and edges:
        yield Fault("after_exit", "nothing comes after an exit", node.id)


def _around(graph: Graph) -> Iterator[Fault]:
    """Ways that lead into the trigger or back to where they came from."""
    for edge in graph.edges:
        if graph.nodes[edge.target].kind == TRIGGER:
            yield Fault("into_trigger", "no way leads to the trigger", edge.origin)
    left = dict.fromkeys(graph.nodes, 0)
    for edge in graph.edges:
        left[edge.target] += 1
    ready = [node for node, count in left.items() if not count]
    while ready:
        here = ready.pop()
        del left[here]
        for edge in graph.leaving(here):
            left[edge.target] -= 1
            if not left[edge.target]:
                ready.append(edge.target)
    for node in left:
        if _returns(graph, node):
            yield Fault("loop", "the way leads back to here", node)


def _returns(graph: Graph, start: str) -> bool:
    return start in _reached(graph, start)


def _reached(graph: Graph, start: str) -> set[str]:
    """The nodes that come after one."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for edge in graph.leaving(ahead.pop()):
            if edge.target not in seen:
                seen.add(edge.target)
                ahead.append(edge.target)
    return seen


def unreached(graph: Graph) -> Iterator[Fault]:
    """Nodes that no run comes to: no error, they are in nobody's way."""
    trigger = graph.trigger
    reached = _reached(graph, trigger.id) | {trigger.id} if trigger else set()
    for node in graph.nodes:
        if trigger is not None and node not in reached:
            yield Fault("unreachable", "no way leads here", node)
