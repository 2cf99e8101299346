"""A graph changed by hand, a step at a time: each act gives a new graph and leaves the old one as it was. Pure.

A way out of a node is its branch: None where it has one way only, and for whatever has no way of its own. A new step is put into the way that it was asked
for, so whatever came there comes after it; a step that is taken out leaves its ways in to what came after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay.errors import Invalid, NotFound
from relay.workflows import steps
from relay.workflows.graph import NODES, TRIGGER, Edge, Graph, Node

EXIT = "exit"
NAMES = {"send_email": "send", "update_contact": "change", "condition": "ask", "webhook": "call"}  # what new nodes are called, by kind; others as their kind


@dataclass(frozen=True, slots=True)
class Way:
    """A way out of a node: its branch, and where it leads, None for the end."""

    branch: str | None
    target: str | None


def begun(graph: Graph) -> Graph:
    """The graph with a trigger, which every graph begins with."""
    return graph if graph.trigger is not None else Graph({TRIGGER: Node(TRIGGER, TRIGGER), **graph.nodes}, graph.edges)


def node(graph: Graph, name: str) -> Node:
    """Raises NotFound."""
    if name not in graph.nodes:
        raise NotFound("Step not found")
    return graph.nodes[name]


def branches(of: Node) -> tuple[str | None, ...]:
    """The ways out that a node has: none for an exit."""
    if of.kind == EXIT:
        return ()
    return (steps.branches(steps.read(of.kind, of.config)[0]) if of.kind in steps.STEPS else ()) or (None,)


def ways(graph: Graph, name: str) -> list[Way]:
    """Where a node leads, by each of its branches."""
    return [Way(branch, graph.after(name, branch)) for branch in branches(node(graph, name))]


def added(graph: Graph, kind: str, config: Mapping[str, Any], after: str, branch: str | None = None) -> tuple[Graph, str]:
    """The graph with a new step in the way out of `after`, and its name; raises Invalid and NotFound."""
    if kind not in steps.STEPS:
        raise Invalid("type", f"type is one of {', '.join(steps.STEPS)}")
    if branch not in branches(node(graph, after)):
        raise Invalid("branch", "this step has no such way out; load the page again")
    if len(graph.nodes) >= NODES:
        raise Invalid("nodes", f"a workflow has at most {NODES} steps")
    name, target = _free(graph, NAMES.get(kind, kind)), graph.after(after, branch)
    edges = [*_without(graph.edges, after, branch), Edge(after, name, branch)]
    if target is not None and kind != EXIT:
        edges.append(Edge(name, target))
    return Graph({**graph.nodes, name: Node(name, kind, dict(config))}, tuple(edges)), name


def changed(graph: Graph, name: str, config: Mapping[str, Any]) -> Graph:
    """The graph with another config of a step; ways out that it no longer has are gone."""
    new = replace(node(graph, name), config=dict(config))
    known = {None, *branches(new)}
    return Graph({**graph.nodes, name: new}, tuple(edge for edge in graph.edges if edge.origin != name or edge.branch in known))


def removed(graph: Graph, name: str) -> Graph:
    """The graph without a step; raises Invalid for the trigger."""
    if node(graph, name).kind == TRIGGER:
        raise Invalid("node", "a workflow begins somewhere: its trigger stays")
    target = next((way.target for way in ways(graph, name) if way.target is not None), None)
    into = [replace(edge, target=target) for edge in graph.edges if edge.target == name and target not in (None, edge.origin)]
    edges = [edge for edge in graph.edges if name not in (edge.origin, edge.target)]
    return Graph({each: node for each, node in graph.nodes.items() if each != name}, (*edges, *into))  # type: ignore[arg-type]


def led(graph: Graph, name: str, branch: str | None, target: str | None) -> Graph:
    """The graph in which a way out of a step leads to another, or to the end; raises Invalid where that would lead back."""
    if branch not in branches(node(graph, name)):
        raise Invalid("branch", "this step has no such way out; load the page again")
    if target is not None and target not in onward(graph, name):
        raise Invalid("target", "it leads to a step that does not come before it")
    edges = list(_without(graph.edges, name, branch))
    general = next((edge.target for edge in edges if edge.origin == name and edge.branch is None), None) if branch is not None else None
    if general is not None and target is None:  # an end for this answer alone: the others keep their way
        edges = [edge for edge in edges if edge.origin != name or edge.branch is not None]
        own = {edge.branch for edge in edges if edge.origin == name}
        edges += [Edge(name, general, other) for other in branches(node(graph, name)) if other not in (branch, None) and other not in own]
    if target is not None:
        edges.append(Edge(name, target, branch))
    return Graph(graph.nodes, tuple(edges))


def onward(graph: Graph, name: str) -> list[str]:
    """The steps that a way out of this one may lead to: those from which no way leads here."""
    before, ahead = {name}, [name]
    while ahead:
        here = ahead.pop()
        new = {edge.origin for edge in graph.edges if edge.target == here} - before
        before |= new
        ahead += new
    return [each for each, found in graph.nodes.items() if each not in before and found.kind != TRIGGER]


def _without(edges: Sequence[Edge], origin: str, branch: str | None) -> list[Edge]:
    return [edge for edge in edges if (edge.origin, edge.branch) != (origin, branch)]


def _free(graph: Graph, name: str) -> str:
    """A name that no node has: "wait", then "wait-2"."""
    return name if name not in graph.nodes else next(each for each in (f"{name}-{number}" for number in range(2, NODES + 3)) if each not in graph.nodes)
