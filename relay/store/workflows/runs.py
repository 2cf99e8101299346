"""Runs: one contact's way through a workflow, a row each, and its history.

    running ──► completed: it came to an end of the graph, or to an exit
            ├─► failed: a step could not be done, and `reason` says why
            └─► stopped: by hand

`start` and `save` are called in the transaction that holds what causes them (the event log's cursor, a message, an answer), so each happens once. `save` names
how far the run was: who was slower changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, union_all, update

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store import bulk, pages
from relay.store.audience.schema import contacts
from relay.store.pages import Found, Page
from relay.store.workflows import counts, workflows
from relay.store.workflows.schema import runs as table
from relay.store.workflows.schema import steps
from relay.store.workflows.workflows import AFTER_EXIT, ONCE, Workflow

RUNNING, COMPLETED, FAILED, STOPPED = "running", "completed", "failed", "stopped"
STATUSES = (RUNNING, COMPLETED, FAILED, STOPPED)
OWN, ELSEWHERE, MAIL = 0, 1, 2  # lanes: steps of our own, requests to elsewhere, emails, which wait where no mail is taken
OFTEN = 20  # runs of a contact that a workflow begins within HOUR: two workflows that set each other off come to rest
HOUR = 3_600.0
SLICE = 500  # rows of one write
TOGETHER = 50  # workflows of one question
EVENT = 16_384  # octets of an event's data that a run keeps


@dataclass(frozen=True, slots=True)
class Run:
    """As the table has it; times in UTC seconds."""

    id: int
    workflow_id: int
    project_id: int
    contact_id: int
    version: int
    cause: str
    event: dict[str, Any]
    node: str | None
    started_at: float
    arrived_at: float
    status: str = RUNNING
    lane: int = OWN
    due: float | None = None
    awaits: str | None = None
    heard: dict[str, Any] | None = None
    visited: int = 1
    attempts: int = 0
    reason: str = ""
    ended_at: float | None = None

    @property
    def public_id(self) -> str:
        return ids.public("wfr", self.id)


@dataclass(frozen=True, slots=True)
class Step:
    """A line of a run's history: what came of a node, and why."""

    run_id: int
    number: int
    node: str
    kind: str
    outcome: str
    detail: dict[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A contact that is to begin: its cause is told once, its event is kept for templates."""

    contact_id: int
    cause: str
    event: dict[str, Any] = field(default_factory=dict)


COLUMNS = tuple(table.c[name] for name in Run.__slots__)
_STEP = tuple(steps.c[name] for name in Step.__slots__)
_ALL = bulk.columns_of(table)
_MOVED = ("node", "arrived_at", "status", "lane", "due", "awaits", "heard", "visited", "attempts", "reason", "ended_at")


# In and out.


def begin(conn: Connection, workflow: Workflow, given: Sequence[Entry], first: str, trigger: str, now: float) -> tuple[list[Run], Counter[str]]:
    """The runs that began, at the node `first`, and why others did not: "again" by the rules of re-entry, "often". Whoever calls has locked the workflow.

    trigger  the trigger's own node, for the history
    """
    following, made, refused = conn.info["ids"].next, [], Counter()
    known = _known(conn, workflow, [each.contact_id for each in given], now)
    for each in given:
        why = known.setdefault(each.contact_id, _Known()).refuses(workflow.reentry, each.cause)
        if why:
            refused[why] += 1
            continue
        known[each.contact_id].add(each.cause)
        made.append(Run(following(), workflow.id, workflow.project_id, each.contact_id, workflow.version, each.cause, small(each.event), first, now, now,
                        due=now))
    if made:
        workflows.use_graph(conn, workflow.id, workflow.version)
        bulk.insert(conn, table, [_row(run, _ALL) for run in made])
        note(conn, [Step(run.id, 0, trigger, "trigger", "began", {"cause": run.cause.partition(":")[0], **_named(run.event)}, now) for run in made])
        counts.add(conn, {(workflow.id, "", RUNNING): len(made), (workflow.id, trigger, "began"): len(made)})
    return made, refused


def small(event: dict[str, Any]) -> dict[str, Any]:
    """The event, without its data where these are large."""
    plain = bulk.plain(event)
    return plain if len(bulk.json(plain.get("data"))) <= EVENT else {**plain, "data": {}}


def _named(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in ("type", "id", "at") if name in event}


@dataclass(slots=True)
class _Known:
    """What a contact did in a workflow before."""

    causes: set[str] = field(default_factory=set)
    ever: bool = False
    now: bool = False
    lately: int = 0

    def refuses(self, reentry: str, cause: str) -> str:
        if cause in self.causes:
            return "known"
        if (reentry == ONCE and self.ever) or (reentry == AFTER_EXIT and self.now):
            return "again"
        return "often" if self.lately >= OFTEN else ""

    def add(self, cause: str) -> None:
        self.causes.add(cause)
        self.ever = self.now = True
        self.lately += 1


def _known(conn: Connection, workflow: Workflow, people: Sequence[int], now: float) -> dict[int, _Known]:
    found: dict[int, _Known] = {}
    unique = sorted(set(people))
    for start in range(0, len(unique), bulk.KEYS):
        query = select(table.c.contact_id, table.c.cause, table.c.status, table.c.started_at).where(
            table.c.workflow_id == workflow.id, table.c.contact_id.in_(unique[start:start + bulk.KEYS]))
        for row in conn.execute(query):
            each = found.setdefault(row.contact_id, _Known())
            each.causes.add(row.cause)
            each.ever, each.now = True, each.now or row.status == RUNNING
            each.lately += row.started_at > now - HOUR
    return found


def note(conn: Connection, lines: Sequence[Step]) -> None:
    """Write these into histories."""
    bulk.insert(conn, steps, [(each.run_id, each.number, each.node, each.kind, each.outcome, bulk.json(each.detail), each.at) for each in lines])


def load(conn: Connection, numbers: Sequence[int]) -> dict[int, Run]:
    """Those of these runs that are running, by id; on PostgreSQL nobody else changes them before the end of the transaction."""
    found: dict[int, Run] = {}
    unique = sorted(numbers)
    for start in range(0, len(unique), bulk.KEYS):
        query = select(*COLUMNS).where(table.c.id.in_(unique[start:start + bulk.KEYS]), table.c.status == RUNNING).order_by(table.c.id)
        found |= {row.id: Run(*row) for row in conn.execute(query.with_for_update() if conn.dialect.name == "postgresql" else query)}
    return found


def save(conn: Connection, changed: Sequence[Run]) -> None:
    """Write how far these runs are now."""
    bulk.update(conn, table, "id", _MOVED, [_row(run, ("id", *_MOVED)) for run in changed])


def _row(run: Run, names: Sequence[str]) -> tuple[Any, ...]:
    """These columns of a run."""
    return tuple(bulk.json(value) if type(value := getattr(run, name)) is dict else value for name in names)


# Whose turn it is.


def due(conn: Connection, lane: int, now: float, limit: int, apart: Sequence[int] = ()) -> list[Run]:
    """Up to `limit` runs that are to go on in a lane, shared fairly between workflows, the longest due first.

    apart  runs that somebody has in hand already
    """
    if conn.execute(select(table.c.id).where(table.c.due <= now).limit(1)).first() is None:
        return []
    ripe = (table.c.workflow_id == workflows.table.c.id, table.c.lane == lane, table.c.due <= now, table.c.id.not_in(list(apart)))
    among = conn.scalars(select(workflows.table.c.id).where(workflows.table.c.status != workflows.DELETED, exists().where(*ripe)).order_by(func.random())
                         .limit(limit)).all()
    found: list[Run] = []
    for number in among:
        query = select(*COLUMNS).where(table.c.workflow_id == number, *ripe[1:]).order_by(table.c.due).limit(max(1, limit // len(among)))
        found += [Run(*row) for row in conn.execute(query)]
    return found


def lateness(conn: Connection, now: float) -> tuple[int, float]:
    """How many runs are due, counted up to SLICE, and the seconds that the first of them has been."""
    first = conn.scalar(select(func.min(table.c.due)).where(table.c.due <= now))
    late = conn.scalar(select(func.count()).select_from(select(table.c.id).where(table.c.due <= now).limit(SLICE).subquery())) or 0
    return late, 0.0 if first is None else now - first


def stop(conn: Connection, which: ColumnElement[bool], reason: str, now: float, limit: int = SLICE, status: str = STOPPED) -> int:
    """How many of the running runs were ended by this, at most `limit`."""
    query = select(*COLUMNS).where(which, table.c.status == RUNNING).order_by(table.c.id).limit(limit)
    found = [Run(*row) for row in conn.execute(query.with_for_update() if conn.dialect.name == "postgresql" else query)]
    figures: Counter[counts.Key] = Counter()
    for run in found:
        ended = {"status": status, "node": None, "due": None, "awaits": None, "reason": reason[:200], "ended_at": now}
        conn.execute(update(table).where(table.c.id == run.id).values(**ended))
        figures[run.workflow_id, "", RUNNING] -= 1
        figures[run.workflow_id, "", status] += 1
    note(conn, [Step(run.id, run.visited, run.node or "", "", status, {"reason": reason}, now) for run in found])
    counts.add(conn, figures)
    return len(found)


def fail(conn: Connection, number: int, reason: str, now: float) -> None:
    """The run failed at the step where it is."""
    stop(conn, table.c.id == number, reason, now, 1, FAILED)


def stop_one(conn: Connection, project: int, number: int, reason: str, now: float) -> Run:
    """The run, stopped; raises NotFound, and Conflict for one that has ended."""
    before = get(conn, project, number)
    if not stop(conn, table.c.id == number, reason, now, 1):
        raise Conflict(f"the run is {before.status}", code="run_state")
    return get(conn, project, number)


def stop_all(conn: Connection, workflow: int, reason: str, now: float) -> int:
    """How many of a workflow's running runs were stopped, at most SLICE."""
    return stop(conn, table.c.workflow_id == workflow, reason, now)


# What is shown.


def get(conn: Connection, project: int, number: int) -> Run:
    """Raises NotFound."""
    row = conn.execute(select(*COLUMNS).where(table.c.id == number, table.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound("Workflow run not found")
    return Run(*row)


def paged(
    conn: Connection, workflow: int, which: Page, status: str | None = None, contact: int | None = None, reason: bool | None = None,
) -> Found:
    """Runs of a workflow, newest first; `reason` only those that have one, or have none."""
    query = select(*COLUMNS).where(table.c.workflow_id == workflow)
    if status is not None:
        query = query.where(table.c.status == status)
    if contact is not None:
        query = query.where(table.c.contact_id == contact)
    if reason is not None:
        query = query.where(table.c.reason != "" if reason else table.c.reason == "")
    found = pages.take(conn, query, table.c.id, which, name=("runs", workflow, status, contact, reason))
    return Found([Run(*row) for row in found.rows], found.total, found.last, found.exact)


def of_contact(conn: Connection, project: int, contact: int, limit: int = 100) -> list[Run]:
    """A contact's runs, newest first."""
    query = select(*COLUMNS).where(table.c.contact_id == contact, table.c.project_id == project)
    return [Run(*row) for row in conn.execute(query.order_by(table.c.id.desc()).limit(limit))]


def begun(conn: Connection, project: int, since: float, until: float) -> int:
    """How many runs of a project began from one time to before another, UTC seconds; of deleted workflows none."""
    mine = [each.id for each in workflows.every(conn, project)]
    return conn.scalar(select(func.count()).where(table.c.workflow_id.in_(mine), table.c.started_at >= since, table.c.started_at < until)) or 0


def newest(conn: Connection, flows: Sequence[int], contact: int | None, before: int | None, since: float | None, limit: int) -> list[Run]:
    """Runs of some workflows that began since a time (UTC seconds), of one contact or of all, those with an id below `before`; newest first."""
    which = [column for column in (table.c.contact_id == contact if contact is not None else None, table.c.id < before if before is not None else None,
                                   table.c.started_at >= since if since is not None else None) if column is not None]
    found: list[Run] = []
    for start in range(0, len(flows), TOGETHER):  # each as the index workflow_runs_by_workflow has them
        some = [select(*COLUMNS).where(table.c.workflow_id == number, *which).order_by(table.c.id.desc()).limit(limit).subquery()
                for number in flows[start:start + TOGETHER]]
        them = union_all(*map(select, some)).subquery()
        found += [Run(*row) for row in conn.execute(select(them).order_by(them.c.id.desc()).limit(limit))]
    return sorted(found, key=lambda run: -run.id)[:limit]


def completed(
    conn: Connection, project: int, contact: int | None, before: tuple[float, int] | None, since: float | None, limit: int,
) -> list[Run]:
    """A project's runs that came to their end since a time (UTC seconds), of one contact or of all, the last first.

    before  time and id of the last of the page before
    """
    query = select(*COLUMNS).where(table.c.project_id == project, table.c.ended_at.is_not(None), table.c.status == COMPLETED)
    if contact is not None:
        query = query.where(table.c.contact_id == contact)
    if before is not None:
        query = query.where(or_(table.c.ended_at < before[0], and_(table.c.ended_at == before[0], table.c.id < before[1])), table.c.ended_at <= before[0])
    if since is not None:
        query = query.where(table.c.ended_at >= since)
    return [Run(*row) for row in conn.execute(query.order_by(table.c.ended_at.desc(), table.c.id.desc()).limit(limit))]


def coming(conn: Connection, project: int, after: float, until: float, limit: int) -> list[tuple[Workflow, Run]]:
    """A project's runs that go on by themselves after a time and not after another, UTC seconds; the next first."""
    mine = {each.id: each for each in workflows.every(conn, project)}
    under_way = [number for number, figures in counts.of_many(conn, list(mine)).items() if figures[RUNNING] > 0]
    found: list[Run] = []
    for number in under_way:
        for lane in (OWN, ELSEWHERE, MAIL):  # as the index workflow_runs_turn has them, so that no more is read than is shown
            query = select(*COLUMNS).where(table.c.workflow_id == number, table.c.lane == lane, table.c.due > after, table.c.due <= until)
            found += [Run(*row) for row in conn.execute(query.order_by(table.c.due).limit(limit))]
    return [(mine[run.workflow_id], run) for run in sorted(found, key=lambda run: run.due or 0.0)[:limit]]


def history(conn: Connection, number: int) -> list[Step]:
    """What a run did, in order."""
    return [Step(*row) for row in conn.execute(select(*_STEP).where(steps.c.run_id == number).order_by(steps.c.number))]


def emails(conn: Connection, numbers: Iterable[int]) -> dict[int, str]:
    """The addresses of contacts."""
    return {row.id: row.email for row in conn.execute(select(contacts.c.id, contacts.c.email).where(contacts.c.id.in_(sorted(set(numbers)))))}


# What is over.


def prune(conn: Connection, before: float, limit: int = SLICE) -> int:
    """Delete up to `limit` runs that ended before a time. Where a contact passes once the row stays, without its event, end and history; gives how many."""
    once = exists().where(workflows.table.c.id == table.c.workflow_id, workflows.table.c.reentry == ONCE)
    old = select(table.c.id).where(table.c.ended_at < before).limit(limit)
    kept = list(conn.scalars(old.where(once)))
    conn.execute(delete(steps).where(steps.c.run_id.in_(kept)))
    conn.execute(update(table).where(table.c.id.in_(kept)).values(event={}, heard={}, ended_at=None))
    return len(kept) + conn.execute(delete(table).where(table.c.id.in_(old.where(~once)))).rowcount
