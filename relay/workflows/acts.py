"""What can be done to a workflow, for the API, the dialects and the command line; the engine of whichever node sees it at its next look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relay.clock import Clock
from relay.errors import Conflict, Invalid
from relay.mail.ids import Maker
from relay.mail.message import Principal
from relay.store import events
from relay.store.audience import contacts
from relay.store.engine import JOBS, Store
from relay.store.events import Event
from relay.store.workflows import hearing, runs, workflows
from relay.store.workflows.runs import Run
from relay.store.workflows.workflows import ACTIVE, DRAFT, ONCE, PAUSED, Workflow
from relay.workflows import begin, check, steps, triggers
from relay.workflows import graph as graphs
from relay.workflows.check import Findings
from relay.workflows.graph import TRIGGER, Fault, Graph
from relay.workflows.plan import Plans, graph_of

if TYPE_CHECKING:
    from relay.submission import Door

_PLANS = Plans()
FIRST = {"public_id": "trigger", "type": TRIGGER, "config": {}, "canvas_x": 0, "canvas_y": 0}  # what a new graph has


class Wrong(Invalid):
    """What a workflow is not activated for; `faults` are all of it."""

    code = "workflow_invalid"

    def __init__(self, found: list[Fault]):
        self.faults = found
        first = f"{found[0].node}: {found[0].text}" if found[0].node else found[0].text
        super().__init__("graph", first if len(found) == 1 else f"{first} (and {len(found) - 1} more)")


@dataclass(frozen=True, slots=True)
class Acts:
    """The acts, with what they need of a running relay."""

    store: Store
    door: Door
    clock: Clock
    maker: Maker
    occurred: Callable[[], None]
    private: bool = False  # requests of steps may go to private addresses

    # As a draft.

    async def create(self, who: Principal, given: Mapping[str, Any], graph: Graph | None = None, dialect: str = "native") -> Workflow:
        """A new draft with these columns; raises Invalid and Conflict."""
        now = self.clock.now()
        made = Workflow(self.maker.next(), who.project, given["name"], DRAFT, given["trigger"], given.get("config") or {}, given.get("reentry") or ONCE,
                        dialect, {}, now, now)
        shown = graphs.shown(graph) if graph is not None else {"nodes": [FIRST], "edges": []}
        return await self.store.write(workflows.add, made, shown["nodes"], shown["edges"])

    async def change(self, who: Principal, number: int, values: dict[str, Any]) -> Workflow:
        """The workflow with these columns. What an active one begins by is changed only to something sound: raises Wrong."""
        found = await self.store.read(workflows.get, who.project, number)
        new = replace(found, **values)
        now = self.clock.now()
        if found.status == ACTIVE and (new.trigger, new.config) != (found.trigger, found.config):
            await self._sound(new, None)
            values = {**values, **self._start(new, now)}
        if new.trigger != found.trigger and found.status != ACTIVE:
            values = {**values, "next_at": None, "walk_at": None}
        changed = await self.store.write(_changed, who.project, number, {**values, "updated_at": now})
        self._wake()
        return changed

    async def put_graph(self, who: Principal, number: int, graph: Graph) -> Workflow:
        """The workflow with this graph, for runs that begin from now on; an active one takes only a sound one: raises Wrong."""
        found = await self.store.read(workflows.get, who.project, number)
        trigger = graph.trigger
        more = {"config": trigger.config} if trigger is not None and trigger.config and not found.config else {}
        if found.status == ACTIVE:
            await self._sound(replace(found, **more), graph)
        shown = graphs.shown(graph)
        return await self.store.write(workflows.put_graph, found, shown["nodes"], shown["edges"], self.clock.now(), more)

    async def findings(self, who: Principal, number: int, graph: Graph | None = None) -> Findings:
        """All that is wrong with it, or would be with another graph."""
        found = await self.store.read(workflows.get, who.project, number)
        return await check.findings(self.store, self.door, replace(found, origin=_origin(who)), self.maker.next(), graph, private=self.private)

    async def duplicate(self, who: Principal, number: int) -> Workflow:
        """A new draft with the same trigger and graph."""
        found = await self.store.read(workflows.get, who.project, number)
        version = await self.store.read(workflows.graph, found.id, found.version)
        given = {"name": f"{found.name[:190]} (copy)", "trigger": found.trigger, "config": found.config, "reentry": found.reentry}
        return await self.create(who, given, graph_of(version), found.dialect)

    async def remove(self, who: Principal, number: int) -> None:
        """Delete it, with its runs; sent mail stays."""
        await self.store.write(workflows.remove, who.project, number, self.clock.now())
        self._wake()

    # Active.

    async def activate(self, who: Principal, number: int) -> Workflow:
        """The workflow, which begins runs from now on; raises Wrong with all that is in the way."""
        found = await self.store.read(workflows.get, who.project, number)
        if found.status == ACTIVE:
            raise Conflict("the workflow is active already", code="workflow_state")
        ready = replace(found, origin=_origin(who))
        await self._sound(ready, None)
        now = self.clock.now()
        values = {"origin": ready.origin, "activated_at": now, "updated_at": now, **self._start(ready, now)}
        done = await self.store.write(_activated, ready, values)
        self._wake()
        return done

    async def pause(self, who: Principal, number: int) -> Workflow:
        """The workflow, of which no run begins from now on; those under way go on to their end."""
        now = self.clock.now()
        values = {"updated_at": now, "next_at": None, "walk_at": None}
        return await self.store.write(workflows.move, who.project, number, (ACTIVE,), PAUSED, values)

    async def _sound(self, flow: Workflow, graph: Graph | None) -> None:
        found = (await check.findings(self.store, self.door, flow, self.maker.next(), graph, private=self.private)).errors
        if found:
            raise Wrong(found)

    @staticmethod
    def _start(flow: Workflow, now: float) -> dict[str, Any]:
        """The columns of a schedule that begins now."""
        what = triggers.read(flow.trigger, flow.config)[0]
        return {"next_at": triggers.following(what.schedule, now) if what.schedule is not None else None, "walk_at": None}

    # Runs.

    async def trigger(self, who: Principal, number: int, contact: int, data: dict[str, Any]) -> Run:
        """The run of this contact, of a manual workflow that is active; raises NotFound, Invalid, Conflict."""
        run = await self.store.write(begin.by_hand, who.project, number, contact, data, self.clock.now(), _PLANS, self.maker)
        self._wake()
        return run

    async def happened(self, who: Principal, name: str, contact: int, data: dict[str, Any]) -> int:
        """How many active workflows listen for an event of this name, which is in the log now; raises NotFound."""
        matched = await self.store.write(_happened, who.project, name, contact, data, self.clock.now())
        self.occurred()
        self._wake()
        return matched

    async def stop(self, who: Principal, run: int, reason: str = "stopped by hand") -> Run:
        """The run, which goes no further; raises NotFound and Conflict."""
        return await self.store.write(runs.stop_one, who.project, run, reason, self.clock.now())

    async def stop_all(self, who: Principal, number: int, reason: str = "stopped by hand") -> int:
        """How many runs of the workflow were stopped."""
        await self.store.read(workflows.get, who.project, number)
        total = 0
        while some := await self.store.write(runs.stop_all, number, reason, self.clock.now(), lane=JOBS):
            total += some
        return total

    def _wake(self) -> None:
        self.store.notify("workflows")


def read_graph(nodes: Any, edges: Any) -> Graph:
    """The graph that a caller gives; raises Invalid."""
    return graphs.read(nodes, edges, steps.STEPS)


def _origin(who: Principal) -> dict[str, Any]:
    return {"key_id": who.key_id, "name": who.name, "mode": who.mode, "domain": who.domain}


# In one transaction.


def _activated(conn: Any, flow: Workflow, values: dict[str, Any]) -> Workflow:
    """It listens from here on. What was sound a moment ago is what is activated: raises Conflict when it was changed meanwhile."""
    here = workflows.locked(conn, flow.id)
    if here is None or (here.version, here.trigger, here.config) != (flow.version, flow.trigger, flow.config):
        raise Conflict("the workflow was changed by somebody else meanwhile; try again", code="workflow_changed")
    hearing.begin(conn)
    return workflows.move(conn, flow.project_id, flow.id, (DRAFT, PAUSED), ACTIVE, {**values, "since": events.latest(conn)})


def _changed(conn: Any, project: int, number: int, values: dict[str, Any]) -> Workflow:
    """A new trigger listens from here on."""
    before = workflows.get(conn, project, number)
    if before.status == ACTIVE and (values.get("trigger", before.trigger), values.get("config", before.config)) != (before.trigger, before.config):
        values = {**values, "since": events.latest(conn)}
    return workflows.change(conn, project, number, values)


def _happened(conn: Any, project: int, name: str, contact: int, data: dict[str, Any], now: float) -> int:
    person = contacts.get(conn, project, contact)
    events.append(conn, [Event(project, name, now, contact_id=contact, data={"email": person.email, "data": data})])
    return sum(each.project_id == project and triggers.read(each.trigger, each.config)[0].type == name and each.trigger == triggers.CUSTOM
               for each in workflows.active(conn))
