"""Workflows of a project: what begins a run, and the graph that it follows.

    draft ──► active ◄──► paused: runs under way go on, none begins          any ──► deleted: swept away a slice at a time, seen by nobody

The graph that a workflow has is a version of it; a run keeps the version it began on, and a version that no run needs goes when the next one comes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.mail.message import Principal
from relay.store.hot import Hot
from relay.store.workflows.schema import graphs, runs
from relay.store.workflows.schema import workflows as table

DRAFT, ACTIVE, PAUSED, DELETED = "draft", "active", "paused", "deleted"
STATUSES = (DRAFT, ACTIVE, PAUSED)
ONCE, AFTER_EXIT, ALWAYS = "once", "after_exit", "always"
REENTRY = (ONCE, AFTER_EXIT, ALWAYS)
MOST = 500  # workflows of a project

_ANYTHING = Hot(select(table.c.id).limit(1))


@dataclass(frozen=True, slots=True)
class Workflow:
    """As the table has it; times in UTC seconds."""

    id: int
    project_id: int
    name: str
    status: str
    trigger: str
    config: dict[str, Any]
    reentry: str
    dialect: str
    origin: dict[str, Any]
    created_at: float
    updated_at: float
    version: int = 1
    since: str = ""
    next_at: float | None = None
    walk_at: float | None = None
    walk_after: int = 0
    walk_until: int = 0
    activated_at: float | None = None

    @property
    def public_id(self) -> str:
        return ids.public("wf", self.id)

    @property
    def principal(self) -> Principal:
        """Who sends its mail: the key that activated it."""
        said = self.origin
        return Principal("key", self.project_id, said.get("key_id"), said.get("name", ""), mode=said.get("mode", "live"), domain=said.get("domain", ""))


@dataclass(frozen=True, slots=True)
class Version:
    """A graph as it was given: lists of nodes and edges (relay.workflows.graph reads them)."""

    workflow_id: int
    version: int
    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)


COLUMNS = tuple(table.c[name] for name in Workflow.__slots__)
_GRAPH = (graphs.c.workflow_id, graphs.c.version, graphs.c.nodes, graphs.c.edges)


def add(conn: Connection, workflow: Workflow, nodes: list[Any], edges: list[Any]) -> Workflow:
    """Raises Conflict when the project has MOST."""
    mine = select(func.count()).select_from(table).where(table.c.project_id == workflow.project_id, table.c.status != DELETED)
    if (conn.scalar(mine) or 0) >= MOST:
        raise Conflict(f"a project has at most {MOST} workflows")
    conn.execute(insert(table), {name: getattr(workflow, name) for name in Workflow.__slots__})
    _put(conn, workflow.id, workflow.version, nodes, edges, workflow.created_at)
    return workflow


def _put(conn: Connection, number: int, version: int, nodes: list[Any], edges: list[Any], now: float) -> None:
    conn.execute(insert(graphs), {"workflow_id": number, "version": version, "nodes": nodes, "edges": edges, "used": False, "created_at": now})


def find(conn: Connection, number: int) -> Workflow | None:
    """The workflow of any project, as the engine knows it."""
    row = conn.execute(select(*COLUMNS).where(table.c.id == number)).one_or_none()
    return None if row is None else Workflow(*row)


def get(conn: Connection, project: int, number: int) -> Workflow:
    """Raises NotFound."""
    found = find(conn, number)
    if found is None or found.project_id != project or found.status == DELETED:
        raise NotFound("Workflow not found")
    return found


def every(conn: Connection, project: int) -> list[Workflow]:
    """A project's, newest first."""
    query = select(*COLUMNS).where(table.c.project_id == project, table.c.status != DELETED)
    return [Workflow(*row) for row in conn.execute(query.order_by(table.c.id.desc()))]


def among(conn: Connection, numbers: Collection[int]) -> dict[int, Workflow]:
    """Some of any project, by number."""
    return {row[0]: Workflow(*row) for row in conn.execute(select(*COLUMNS).where(table.c.id.in_(sorted(numbers))))}


def active(conn: Connection) -> list[Workflow]:
    """Those of all projects that runs may begin of."""
    return [Workflow(*row) for row in conn.execute(select(*COLUMNS).where(table.c.status == ACTIVE).order_by(table.c.id))]


def anything(conn: Connection) -> bool:
    """Whether there are workflows at all, in any state; asked several times a second."""
    return bool(_ANYTHING(conn))


def any_begun(conn: Connection) -> bool:
    """Whether there is a workflow that runs may be under way of."""
    return conn.execute(select(table.c.id).where(table.c.status.in_((ACTIVE, PAUSED))).limit(1)).first() is not None


def change(conn: Connection, project: int, number: int, values: dict[str, Any]) -> Workflow:
    """The workflow with these columns; raises NotFound."""
    get(conn, project, number)
    conn.execute(update(table).where(table.c.id == number).values(**values))
    return get(conn, project, number)


def move(conn: Connection, project: int, number: int, origins: Collection[str], status: str, values: dict[str, Any]) -> Workflow:
    """The workflow, which was in one of these statuses and has the new one now; raises NotFound and Conflict."""
    before = get(conn, project, number)
    moved = update(table).where(table.c.id == number, table.c.status.in_(list(origins))).values(status=status, **values)
    if conn.execute(moved).rowcount == 0:
        raise Conflict(f"the workflow is {before.status}", code="workflow_state")
    return get(conn, project, number)


def remove(conn: Connection, project: int, number: int, now: float) -> None:
    """Gone for everybody; `sweep` takes away what is left of it. Raises NotFound."""
    get(conn, project, number)
    conn.execute(update(table).where(table.c.id == number).values(status=DELETED, updated_at=now, next_at=None, walk_at=None))


def any_deleted(conn: Connection) -> bool:
    return conn.execute(select(table.c.id).where(table.c.status == DELETED).limit(1)).first() is not None


def sweep(conn: Connection, limit: int) -> int:
    """Delete up to `limit` runs of a deleted workflow, or the workflow when it has none; how many rows went."""
    number = conn.scalar(select(table.c.id).where(table.c.status == DELETED).limit(1))
    if number is None:
        return 0
    some = select(runs.c.id).where(runs.c.workflow_id == number).limit(limit)
    gone = conn.execute(delete(runs).where(runs.c.id.in_(some))).rowcount
    return gone or conn.execute(delete(table).where(table.c.id == number)).rowcount


# Graphs.


def graph(conn: Connection, number: int, version: int) -> Version:
    """Raises NotFound."""
    row = conn.execute(select(*_GRAPH).where(graphs.c.workflow_id == number, graphs.c.version == version)).one_or_none()
    if row is None:
        raise NotFound("Workflow graph not found")
    return Version(*row)


def put_graph(conn: Connection, workflow: Workflow, nodes: list[Any], edges: list[Any], now: float, values: dict[str, Any] | None = None) -> Workflow:
    """The workflow with a new graph, all of it at once; raises Conflict when another came between."""
    following = workflow.version + 1
    moved = update(table).where(table.c.id == workflow.id, table.c.version == workflow.version)
    if conn.execute(moved.values(version=following, updated_at=now, **(values or {}))).rowcount == 0:
        raise Conflict("the graph was changed by somebody else meanwhile; read it again", code="workflow_changed")
    _put(conn, workflow.id, following, nodes, edges, now)
    conn.execute(delete(graphs).where(graphs.c.workflow_id == workflow.id, graphs.c.version < following, graphs.c.used.is_(False)))
    return get(conn, workflow.project_id, workflow.id)


def use_graph(conn: Connection, number: int, version: int) -> None:
    """A run begins on it: it stays."""
    conn.execute(update(graphs).where(graphs.c.workflow_id == number, graphs.c.version == version, graphs.c.used.is_(False)).values(used=True))


def using(conn: Connection, project: int) -> Sequence[tuple[Workflow, Version]]:
    """A project's workflows with the graphs that new runs follow."""
    return [(each, graph(conn, each.id, each.version)) for each in every(conn, project)]


# Schedules.


def scheduled(conn: Connection, now: float) -> list[Workflow]:
    """Active ones whose time has come, and those that a scheduled start is under way of."""
    query = select(*COLUMNS).where(table.c.status == ACTIVE, table.c.trigger == "schedule", (table.c.next_at <= now) | table.c.walk_at.is_not(None))
    return [Workflow(*row) for row in conn.execute(query.order_by(table.c.id))]


def locked(conn: Connection, number: int) -> Workflow | None:
    """The workflow, which nobody else changes or begins a run of before the end of the transaction; None when it is gone."""
    query = select(*COLUMNS).where(table.c.id == number)
    row = conn.execute(query.with_for_update() if conn.dialect.name == "postgresql" else query).one_or_none()
    return None if row is None else Workflow(*row)


def set_schedule(conn: Connection, number: int, next_at: float | None, walk_at: float | None, after: int, until: int) -> None:
    """When it comes next, and how far the start that is under way has come."""
    conn.execute(update(table).where(table.c.id == number).values(next_at=next_at, walk_at=walk_at, walk_after=after, walk_until=until))
