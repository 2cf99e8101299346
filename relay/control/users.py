"""Acts on users, the people who sign in to the dashboard; and the proof of a password.

Hashes are Argon2id with the library's present parameters (RFC 9106 §4, the low-memory choice): about 50 ms and 64 MB each, so they are made in a thread, two at
once at most, and a name that nobody has costs as much as one that somebody has.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from relay.clock import iso
from relay.control import Control
from relay.errors import Invalid
from relay.mail.message import Principal
from relay.store import projects, users
from relay.store.users import User

LEAST, MOST = 12, 1_024  # characters of a password (NIST SP 800-63B §5.1.1.2 asks for 8; it may be the only factor here)
MADE = 15  # octets of chance in a password that we make: 20 characters
AT_ONCE = 2  # hashes

_HASHER = PasswordHasher()
_turns = asyncio.Semaphore(AT_ONCE)


async def add(control: Control, name: str, password: str = "", permission: str = "full_access", project: str = projects.DEFAULT) -> dict[str, Any]:
    """The new user; with `password` in the answer when none was given and one was made."""
    users.checked(name, permission)
    owner, text = await control.store.read(projects.by_name, project), password or secrets.token_urlsafe(MADE)
    user = User(control.maker.next(), owner.id, name.strip(), permission, await _hash(text), control.clock.now())
    await control.store.write(users.add, user)
    return {**shown(user, project), **({} if password else {"password": text})}


async def every(control: Control, project: str = projects.DEFAULT) -> list[dict[str, Any]]:
    owner = await control.store.read(projects.by_name, project)
    return [shown(user, project) for user in await control.store.read(users.by_project, owner.id)]


async def set_password(control: Control, name: str, password: str = "", project: str = projects.DEFAULT) -> dict[str, Any]:
    """The user with another password, given or made; every session of theirs has ended."""
    owner, text = await control.store.read(projects.by_name, project), password or secrets.token_urlsafe(MADE)
    user = await control.store.write(users.set_password, owner.id, name, await _hash(text))
    return {**shown(user, project), **({} if password else {"password": text})}


async def remove(control: Control, name: str, project: str = projects.DEFAULT) -> dict[str, Any]:
    """The user who may sign in no more; every session of theirs has ended."""
    owner = await control.store.read(projects.by_name, project)
    return shown(await control.store.write(users.remove, owner.id, name), project)


def shown(user: User, project: str) -> dict[str, Any]:
    return {"id": user.public_id, "name": user.name, "project": project, "permission": user.permission, "created_at": iso(user.created_at),
            "signed_in_at": iso(user.signed_in_at)}


def principal(user: User) -> Principal:
    """Whom a signed-in user is for the API's functions."""
    return Principal("user", user.project_id, None, user.name, user.permission)


async def still(control: Control, number: int) -> User | None:
    """The user as they are now, None once removed."""
    return await control.store.read(users.alive, number)


async def prove(control: Control, name: str, password: str) -> User | None:
    """The user who has this name and password, or None."""
    user = await control.store.read(users.find, name)
    async with _turns:
        good = await asyncio.to_thread(_fits, user.password if user is not None else _nobodys(), password)
    if user is None or not good:
        return None
    await control.store.write(users.signed_in, user.id, control.clock.now())
    return user


async def _hash(password: str) -> str:
    if not LEAST <= len(password) <= MOST:
        raise Invalid("password", f"a password has {LEAST} to {MOST:,} characters")
    async with _turns:
        return await asyncio.to_thread(_HASHER.hash, password)


def _fits(digest: str, password: str) -> bool:
    try:
        return _HASHER.verify(digest, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys() -> str:
    """The hash of a password that nobody knows."""
    return _HASHER.hash(secrets.token_urlsafe(MADE))
