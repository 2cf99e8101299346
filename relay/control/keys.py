"""Acts on API keys and projects. The text of a key is in the answer of create and rotate, and nowhere else ever."""

from __future__ import annotations

from typing import Any

from relay.clock import iso
from relay.control import Control
from relay.store import keys, projects
from relay.store.keys import Key
from relay.store.projects import Project


async def create(control: Control, project: str = projects.DEFAULT, permission: str = "full_access", mode: str = "live", domain: str = "",
                 name: str = "") -> dict[str, Any]:
    """The new key, with its text as `key`."""
    owner = await control.store.read(projects.by_name, project)
    key, text = keys.mint(control.maker.next(), owner.id, name or "key", permission, mode, domain, control.clock.now())
    await control.store.write(keys.add, key, keys.fingerprint(text))
    control.changed("keys")
    return {**shown(key, project), "key": text}


async def every(control: Control, project: str = projects.DEFAULT) -> list[dict[str, Any]]:
    owner = await control.store.read(projects.by_name, project)
    return [shown(key, project) for key in await control.store.read(keys.by_project, owner.id)]


async def revoke(control: Control, key: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """The key, dead at once, in open sessions too."""
    owner = await control.store.read(projects.by_name, project)
    revoked = await control.store.write(keys.revoke, owner.id, key, control.clock.now())
    control.changed("keys")
    return {**shown(revoked, project), "revoked_at": iso(revoked.revoked_at)}


async def restrict(control: Control, key: str, project: str = projects.DEFAULT, permission: str = "", domain: str = "") -> dict[str, Any]:
    """The key with fewer rights; sessions that it opened must authenticate again."""
    owner = await control.store.read(projects.by_name, project)
    restricted = await control.store.write(keys.restrict, owner.id, key, permission, domain)
    control.changed("keys")
    return shown(restricted, project)


async def rotate(control: Control, key: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """A new key with the name and rights of the old one, which is dead at once."""
    owner = await control.store.read(projects.by_name, project)
    old = await control.store.read(keys.get, owner.id, key)
    new, text = keys.renewed(old, control.maker.next(), control.clock.now())
    await control.store.write(keys.rotate, old, new, keys.fingerprint(text))
    control.changed("keys")
    return {**shown(new, project), "key": text}


def shown(key: Key, project: str) -> dict[str, Any]:
    return {"id": key.public_id, "name": key.name, "prefix": key.prefix, "project": project, "permission": key.permission, "mode": key.mode,
            "domain": key.domain or None, "last_used_at": iso(key.last_used_at), "created_at": iso(key.created_at)}


async def create_project(control: Control, name: str) -> dict[str, Any]:
    project = await control.store.write(projects.add, Project(control.maker.next(), name, {}, control.clock.now()))
    control.changed("projects")
    return shown_project(project)


async def every_project(control: Control) -> list[dict[str, Any]]:
    return [shown_project(project) for project in await control.store.read(projects.every)]


def shown_project(project: Project) -> dict[str, Any]:
    return {"id": project.public_id, "name": project.name, "created_at": iso(project.created_at)}
