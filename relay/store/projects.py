"""Projects: the tenants. Domains, keys, contacts and suppressions belong to one, and nothing crosses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, update

from relay.errors import Conflict, Invalid, NotFound
from relay.mail import ids
from relay.store.schema import projects
from relay.store.upsert import insert

DEFAULT = "default"

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Project:
    """`settings`: title, language, postal_address, where given."""

    id: int
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0

    @property
    def public_id(self) -> str:
        return ids.public("prj", self.id)


def checked(name: str) -> str:
    """The name, if a project may have it; raises Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid("name", f"{name!r} is not a project name: 1 to 64 lower-case letters, digits, dots, dashes or underscores")
    return name


def add(conn: Connection, project: Project) -> Project:
    """The new project; raises Conflict when there is one of this name."""
    statement = insert(conn, projects).values(id=project.id, name=checked(project.name), settings=project.settings, created_at=project.created_at)
    if conn.execute(statement.on_conflict_do_nothing(index_elements=["name"])).rowcount == 0:
        raise Conflict(f"there is a project {project.name} already")
    return project


def ensure(conn: Connection, project: Project) -> Project:
    """The project of this name, added if there is none."""
    statement = insert(conn, projects).values(id=project.id, name=checked(project.name), settings=project.settings, created_at=project.created_at)
    conn.execute(statement.on_conflict_do_nothing(index_elements=["name"]))
    return by_name(conn, project.name)


def by_name(conn: Connection, name: str) -> Project:
    """Raises NotFound naming the command that adds one."""
    row = conn.execute(select(projects).where(projects.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"there is no project {name}; relay project create {name} makes one, relay project list shows them")
    return Project(*row)


def get(conn: Connection, project_id: int) -> Project:
    """Raises NotFound."""
    row = conn.execute(select(projects).where(projects.c.id == project_id)).one_or_none()
    if row is None:
        raise NotFound("there is no such project; relay project list shows them")
    return Project(*row)


def configure(conn: Connection, project_id: int, settings: dict[str, Any]) -> Project:
    """The project with these settings changed and the others kept."""
    project = get(conn, project_id)
    conn.execute(update(projects).where(projects.c.id == project_id).values(settings={**project.settings, **settings}))
    return get(conn, project_id)


def every(conn: Connection) -> list[Project]:
    """All projects by name."""
    return [Project(*row) for row in conn.execute(select(projects).order_by(projects.c.name))]
