"""The tables of workflows; conventions as in relay.store.schema.

A run is one row, however long it waits: `due` is when it goes on, `awaits` the event that takes it on before. A graph that runs are under way on is never
changed: a new one is a new version beside it. Runs go with their contact (ON DELETE CASCADE), and so does their history.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, SmallInteger, String, Table, UniqueConstraint

from relay.store.schema import Id, Json, _id, _project, _where, metadata


def _workflow(**more: bool) -> Column:
    return Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE"), nullable=False, **more)


workflows = Table(
    "workflows", metadata, _id(), _project(),
    Column("name", String(200), nullable=False),
    Column("status", String(8), nullable=False),  # draft | active | paused | deleted
    Column("trigger", String(24), nullable=False),  # contact.created ... manual: relay.workflows.triggers
    Column("config", Json, nullable=False),  # of the trigger
    Column("reentry", String(12), nullable=False),  # once | after_exit | always
    Column("dialect", String(8), nullable=False),  # native | plunk: what a one-click in its mail means
    Column("origin", Json, nullable=False),  # key_id, name, mode, domain of the key that activated it
    Column("version", Integer, nullable=False),  # of the graph that new runs follow
    Column("since", String(48), nullable=False),  # the cursor of the event log from which it listens
    Column("next_at", Float),  # when its schedule comes next
    Column("walk_at", Float),  # the time of a scheduled start that is under way
    Column("walk_after", Id, nullable=False),  # the last contact that it has come to
    Column("walk_until", Id, nullable=False),  # the last that there was when it began
    Column("activated_at", Float),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("workflows_by_project", "project_id", "id"),
    Index("workflows_active", "trigger", **_where("status = 'active'")),
)

graphs = Table(
    "workflow_graphs", metadata, _workflow(primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("nodes", Json, nullable=False),
    Column("edges", Json, nullable=False),
    Column("used", Boolean, nullable=False),  # a run has begun on it
    Column("created_at", Float, nullable=False),
)

runs = Table(
    "workflow_runs", metadata, _id(), _workflow(),
    Column("project_id", Id, nullable=False),
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("cause", String(80), nullable=False),  # what began it: no cause begins two
    Column("event", Json, nullable=False),  # type, at, data of what began it
    Column("status", String(12), nullable=False),  # running | completed | failed | stopped
    Column("node", String(64)),  # where it is, None once it has ended
    Column("lane", SmallInteger, nullable=False),  # 0; 1 where a request to elsewhere is next, 2 where an email is: what these wait for holds up nothing else
    Column("due", Float),  # when it goes on; None = only an event takes it on, or it has ended
    Column("awaits", String(64)),  # the event that takes it on
    Column("heard", Json),  # that event, once it came
    Column("arrived_at", Float, nullable=False),  # at this node
    Column("visited", Integer, nullable=False),  # nodes so far
    Column("attempts", Integer, nullable=False),  # at this node
    Column("reason", String(200), nullable=False),  # why it ended, or what holds it back
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    UniqueConstraint("workflow_id", "contact_id", "cause"),
    Index("workflow_runs_by_workflow", "workflow_id", "id"),
    Index("workflow_runs_by_contact", "contact_id", "awaits"),
    Index("workflow_runs_due", "due", **_where("due IS NOT NULL")),
    Index("workflow_runs_turn", "workflow_id", "lane", "due", **_where("due IS NOT NULL")),
    Index("workflow_runs_ended", "ended_at", **_where("ended_at IS NOT NULL")),
    Index("workflow_runs_by_end", "project_id", "ended_at", "id", **_where("ended_at IS NOT NULL")),
)

steps = Table(
    "workflow_steps", metadata,
    Column("run_id", Id, ForeignKey("workflow_runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 0, the trigger
    Column("node", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("outcome", String(24), nullable=False),
    Column("detail", Json, nullable=False),  # why
    Column("at", Float, nullable=False),
)

counts = Table(
    "workflow_counts", metadata, _workflow(primary_key=True),
    Column("node", String(64), primary_key=True),  # "" = the workflow's runs by status
    Column("name", String(24), primary_key=True),  # a status, or an outcome at that node
    Column("count", Integer, nullable=False),
)

TABLES = (workflows, graphs, runs, steps, counts)
