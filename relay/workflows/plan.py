"""A workflow's graph with every node read: what runs follow. Versions of a graph never change, so plans are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.store.workflows import workflows
from relay.store.workflows.workflows import Version, Workflow
from relay.workflows import graph as graphs
from relay.workflows import steps
from relay.workflows.graph import Graph
from relay.workflows.steps import Step

KEPT = 500  # plans in memory


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` by node, without the trigger and without nodes whose config is wrong, which no activated workflow has."""

    graph: Graph
    steps: Mapping[str, Step]


def made(graph: Graph) -> Plan:
    found = {}
    for node in graph.nodes.values():
        if node.kind in steps.STEPS:
            step, faults = steps.read(node.kind, node.config)
            if not faults:
                found[node.id] = step
    return Plan(graph, found)


def graph_of(version: Version) -> Graph:
    return graphs.read(version.nodes, version.edges, steps.STEPS)


class Plans:
    """The plans of versions, the least used forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int], Plan] = OrderedDict()

    def get(self, conn: Any, workflow: int, version: int) -> Plan:
        found = self._known.get((workflow, version))
        if found is None:
            found = self._known[workflow, version] = made(graph_of(workflows.graph(conn, workflow, version)))
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found

    def of(self, conn: Any, workflow: Workflow) -> Plan:
        """The plan that new runs follow."""
        return self.get(conn, workflow.id, workflow.version)
