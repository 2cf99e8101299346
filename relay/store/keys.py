"""API keys, which are SMTP passwords too: stored as a hash, shown once.

A key is `sk_live_` or `sk_test_` and 160 random bits. So much chance needs no slow hash: SHA-256 of the whole text is unique and indexed, and finding a key
is one point read, done for every session and never cached, so that a revoked key is dead at once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, insert, select, update

from relay.errors import Invalid, NotFound
from relay.mail import address, ids
from relay.store.hot import Hot
from relay.store.schema import keys

PERMISSIONS = ("full_access", "sending_access")
MODES = ("live", "test")
RANDOM = 20  # octets of chance in a key
SHOWN = 12  # letters of a key that lists show: "sk_live_1f3a"


@dataclass(frozen=True, slots=True)
class Key:
    """`permission` "full_access" | "sending_access"; `mode` "live" | "test"; `domain` the only one it sends from, or ""."""

    id: int
    project_id: int
    name: str
    prefix: str
    permission: str
    mode: str
    domain: str
    created_at: float
    last_used_at: float | None = None
    revoked_at: float | None = None

    @property
    def public_id(self) -> str:
        return ids.public("key", self.id)


_COLUMNS = (keys.c.id, keys.c.project_id, keys.c.name, keys.c.prefix, keys.c.permission, keys.c.mode, keys.c.domain, keys.c.created_at,
            keys.c.last_used_at, keys.c.revoked_at)
_FIND = Hot(select(*_COLUMNS).where(keys.c.hash == bindparam("hash"), keys.c.revoked_at.is_(None)))
_ALIVE = Hot(select(*_COLUMNS).where(keys.c.id == bindparam("key_id"), keys.c.revoked_at.is_(None)))
_USED = update(keys).where(keys.c.id == bindparam("key_id")).values(last_used_at=bindparam("at"))


def fingerprint(text: str) -> str:
    """What the store keeps of a key."""
    return hashlib.sha256(text.encode()).hexdigest()


def mint(key_id: int, project_id: int, name: str, permission: str, mode: str, domain: str, now: float) -> tuple[Key, str]:
    """A new key and its text, not yet stored; raises Invalid naming the field."""
    if permission not in PERMISSIONS:
        raise Invalid("permission", f"permission is one of {', '.join(PERMISSIONS)}")
    if mode not in MODES:
        raise Invalid("mode", f"mode is one of {', '.join(MODES)}")
    text = _text(mode)
    return Key(key_id, project_id, name[:128], text[:SHOWN], permission, mode, address.a_label(domain) if domain else "", now), text


def renewed(key: Key, key_id: int, now: float) -> tuple[Key, str]:
    """The same key with a new id and text, for a rotation."""
    text = _text(key.mode)
    return replace(key, id=key_id, prefix=text[:SHOWN], created_at=now, last_used_at=None), text


def _text(mode: str) -> str:
    return f"sk_{mode}_{secrets.token_hex(RANDOM)}"


def add(conn: Connection, key: Key, digest: str) -> Key:
    """The key, stored; `digest` is the fingerprint of its text."""
    conn.execute(insert(keys), {
        "id": key.id, "project_id": key.project_id, "name": key.name, "prefix": key.prefix, "hash": digest, "permission": key.permission, "mode": key.mode,
        "domain": key.domain, "created_at": key.created_at, "last_used_at": None, "revoked_at": None})
    return key


def find(conn: Connection, text: str) -> Key | None:
    """The live key with this text, or None."""
    rows = _FIND(conn, hash=fingerprint(text))
    return Key(*rows[0]) if rows else None


def alive(conn: Connection, key_id: int) -> Key | None:
    """The key as it is now, or None when it was revoked."""
    rows = _ALIVE(conn, key_id=key_id)
    return Key(*rows[0]) if rows else None


def get(conn: Connection, project_id: int, name: str) -> Key:
    """The project's live key called `name`: its id (`key_...`), its name, the letters that lists show, or the key itself; raises NotFound.

    A name or prefix that several keys share is refused: which one was meant cannot be guessed.
    """
    wanted = keys.c.id == ids.internal(name, "key") if ids.internal(name, "key") is not None else (
        (keys.c.name == name) | (keys.c.prefix == name) | (keys.c.hash == fingerprint(name)))
    rows = conn.execute(select(*_COLUMNS).where(keys.c.project_id == project_id, keys.c.revoked_at.is_(None), wanted).limit(2)).all()
    if not rows:
        raise NotFound("there is no such key in this project; relay key list (--project NAME) shows them")
    if len(rows) > 1:
        raise Invalid("key", f"several keys are called {name}; name one by its id, relay key list shows them")
    return Key(*rows[0])


def by_project(conn: Connection, project_id: int) -> list[Key]:
    """The project's keys, oldest first, without the revoked ones."""
    return [Key(*row) for row in conn.execute(select(*_COLUMNS).where(keys.c.project_id == project_id, keys.c.revoked_at.is_(None)).order_by(keys.c.id))]


def rename(conn: Connection, project_id: int, name: str, new: str) -> Key:
    """The key with its new name; raises NotFound."""
    key = get(conn, project_id, name)
    conn.execute(update(keys).where(keys.c.id == key.id).values(name=new))
    return replace(key, name=new)


def restrict(conn: Connection, project_id: int, name: str, permission: str, domain: str) -> Key:
    """The key with less than it had: "" leaves a right as it is; raises NotFound, or Invalid for what would widen it."""
    key = get(conn, project_id, name)
    if permission and permission not in PERMISSIONS:
        raise Invalid("permission", f"permission is one of {', '.join(PERMISSIONS)}")
    if permission == "full_access" and key.permission != "full_access":
        raise Invalid("permission", "a key is only ever restricted; relay key create makes one that may do more")
    narrow = address.a_label(domain) if domain else key.domain
    if key.domain and not address.within(narrow, key.domain):
        raise Invalid("domain", f"the key sends from {key.domain} only, and {narrow} is not part of it; relay key create makes another")
    restricted = replace(key, permission=permission or key.permission, domain=narrow)
    conn.execute(update(keys).where(keys.c.id == key.id).values(permission=restricted.permission, domain=restricted.domain))
    return restricted


def revoke(conn: Connection, project_id: int, name: str, now: float) -> Key:
    """The key, dead from now on; raises NotFound."""
    key = get(conn, project_id, name)
    conn.execute(update(keys).where(keys.c.id == key.id).values(revoked_at=now))
    return replace(key, revoked_at=now)


def rotate(conn: Connection, old: Key, new: Key, digest: str) -> Key:
    """The new key in the old one's place, in one transaction; raises NotFound when the old one was revoked meanwhile."""
    revoke(conn, old.project_id, old.public_id, new.created_at)
    return add(conn, new, digest)


def used(conn: Connection, key_ids: Sequence[int], now: float) -> None:
    """Note when keys were last used; called now and then with many, not per message."""
    if key_ids:
        conn.execute(_USED, [{"key_id": key_id, "at": now} for key_id in key_ids])
