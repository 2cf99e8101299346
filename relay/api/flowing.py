"""What a caller writes to say a workflow, an event, a simulation; relay.workflows.telling is how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from relay.api.core import Input
from relay.api.draft import Moment
from relay.errors import Invalid
from relay.store.workflows.workflows import REENTRY
from relay.workflows.form import LONGEST, span
from relay.workflows.simulate import Coming
from relay.workflows.telling import findings, graph, run, shown, step
from relay.workflows.triggers import TRIGGERS

__all__ = ["findings", "graph", "run", "shown", "step"]

Named = Annotated[str, Field(max_length=64), BeforeValidator(lambda given: str(given) if isinstance(given, int) else given)]  # an id, also as a number


class WorkflowChange(Input):
    """What to change; what is absent stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    trigger_type: str | None = Field(None, description=", ".join(TRIGGERS))
    trigger_config: dict[str, Any] | None = None
    reentry: str | None = Field(None, description="once (the default): a contact passes once; after_exit: again when its run has ended; always")


class WorkflowInput(WorkflowChange):
    """A new workflow, a draft until it is activated; with its graph, or with that put later."""

    name: str = Field(min_length=1, max_length=200)
    trigger_type: str = Field(description=", ".join(TRIGGERS))
    nodes: list[Any] | None = None
    edges: list[Any] | None = None


class GraphInput(Input):
    """All nodes and edges, in place of those there were."""

    nodes: list[Any] | None = None
    edges: list[Any] | None = None
    graph: dict[str, Any] | None = None

    @property
    def given(self) -> tuple[Any, Any]:
        """Nodes and edges, wherever they are."""
        inner = self.graph or {}
        return (self.nodes if self.nodes is not None else inner.get("nodes")), (self.edges if self.edges is not None else inner.get("edges", []))


class ContactNamed(Input):
    contact_id: Named | None = None
    email: str | None = Field(None, max_length=320)
    data: dict[str, Any] = Field(default_factory=dict)


class EventInput(ContactNamed):
    event: str = Field(min_length=1, max_length=64)


class ComingInput(Input):
    """An event in a simulation: its name, and how long after the start it comes."""

    event: str = Field(min_length=1, max_length=64)
    after: str | float = Field("0s", description='Since the start, such as "2d"')
    data: dict[str, Any] = Field(default_factory=dict)


class SimulationInput(Input):
    """Which contact, from when on, and what shall happen meanwhile."""

    contact_id: Named | None = None
    email: str | None = Field(None, max_length=320)
    at: Moment | None = Field(None, description="When it begins; now without it")
    event: EventInput | None = None
    data: dict[str, Any] = Field(default_factory=dict, validation_alias=AliasChoices("data", "trigger_data"))
    events: list[ComingInput] = Field(default_factory=list, max_length=100)


def columns(given: WorkflowChange) -> dict[str, Any]:
    """The columns that were given, checked; raises Invalid."""
    values: dict[str, Any] = {}
    if given.name is not None:
        values["name"] = given.name
    if given.trigger_type is not None:
        if given.trigger_type not in TRIGGERS:
            raise Invalid("trigger_type", f"trigger_type is one of {', '.join(TRIGGERS)}")
        values["trigger"] = given.trigger_type
    if "trigger_config" in given.model_fields_set:
        values["config"] = given.trigger_config or {}
    if given.reentry is not None:
        if given.reentry not in REENTRY:
            raise Invalid("reentry", f"reentry is one of {', '.join(REENTRY)}")
        values["reentry"] = given.reentry
    return values


def coming(given: Sequence[ComingInput], start: float) -> list[Coming]:
    """The events of a simulation; raises Invalid."""
    found = []
    for number, each in enumerate(given):
        after = span(each.after)
        if after is None:
            raise Invalid(f"events[{number}].after", f'events[{number}].after is a time span such as "2d", at most {LONGEST / 86_400:.0f}d')
        found.append(Coming(each.event, start + after, each.data))
    return found
