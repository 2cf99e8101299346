"""/api-keys: credentials of the project, which are its SMTP passwords too. The text of a key is shown once.

Nobody gets more out of a key than it is worth: a test key makes and rotates test keys only, a key of one domain keys of that domain.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from relay.api.core import Core, Input, Owner, resource, whole
from relay.control import keys
from relay.errors import Forbidden, NotFound
from relay.mail import address
from relay.mail.message import Principal
from relay.store import domains
from relay.store import keys as stored

router = resource("API keys")


class KeyInput(Input):
    """A new key. `allow_full_access` must be true to make a full_access key with an API key, so that no script does it by accident."""

    name: str = Field(min_length=1, max_length=128)
    permission: Literal["full_access", "sending_access"]
    mode: Literal["live", "test"] = "live"
    domain_id: str | None = None
    allow_full_access: bool = False


class RenameInput(Input):
    """The key's new name."""

    name: str = Field(min_length=1, max_length=128)


@router.post("/api-keys", status_code=201)
async def create_key(here: Core, who: Owner, given: KeyInput) -> Any:
    """Create an API key; `key` is in this answer and nowhere else."""
    if given.permission == "full_access" and not given.allow_full_access:
        raise Forbidden("a full_access key is made with allow_full_access: true")
    domain = "" if given.domain_id is None else (await here.domain(who, given.domain_id)).name
    _no_wider(who, given.mode, domain)
    made = await here.act(who, keys.create, permission=given.permission, mode=given.mode, domain=domain, name=given.name)
    return await _shown(here, who, made)


@router.get("/api-keys")
async def list_keys(here: Core, who: Owner) -> Any:
    """List the project's living keys, without their texts."""
    return whole("api_keys", [await _shown(here, who, each) for each in await here.act(who, keys.every)])


@router.get("/api-keys/{key_id}")
async def get_key(here: Core, who: Owner, key_id: str) -> Any:
    """One key, without its text."""
    return await _shown(here, who, await _found(here, who, key_id))


@router.patch("/api-keys/{key_id}")
async def rename_key(here: Core, who: Owner, key_id: str, given: RenameInput) -> Any:
    """Give a key another name."""
    await _found(here, who, key_id)
    await here.store.write(stored.rename, who.project, key_id, given.name)
    return await _shown(here, who, await _found(here, who, key_id))


@router.delete("/api-keys/{key_id}")
async def revoke_key(here: Core, who: Owner, key_id: str) -> Any:
    """Revoke a key: dead at once, in open SMTP sessions too."""
    await _found(here, who, key_id)
    await here.act(who, keys.revoke, key_id)
    return {"deleted": True}


@router.post("/api-keys/{key_id}/rotate")
async def rotate_key(here: Core, who: Owner, key_id: str) -> Any:
    """A new key with the same name and rights in the place of this one, which is dead at once."""
    found = await _found(here, who, key_id)
    _no_wider(who, found["mode"], found["domain"] or "")
    return await _shown(here, who, await here.act(who, keys.rotate, key_id))


def _no_wider(who: Principal, mode: str, domain: str) -> None:
    """Raises Forbidden for a key that may do more than the caller's own, whose limits it would lift."""
    if who.mode == "test" and mode != "test":
        raise Forbidden("a test key makes and rotates test keys only; use a live key")
    if who.domain and not address.within(domain, who.domain):
        raise Forbidden(f"a key of {who.domain} makes and rotates keys of that domain only: name it as domain_id, or use a key of all domains")


async def _found(here: Any, who: Any, key_id: str) -> dict[str, Any]:
    """The key of this id; the path takes no names."""
    for each in await here.act(who, keys.every):
        if each["id"] == key_id:
            return each
    raise NotFound("API key not found")


async def _shown(here: Any, who: Any, key: dict[str, Any]) -> dict[str, Any]:
    domain = key["domain"]
    number = None if domain is None else await here.store.read(domains.id_of, who.project, domain)
    out = {"id": key["id"], "name": key["name"], "key_prefix": key["prefix"], "permission": key["permission"], "mode": key["mode"], "domain_id": number,
           "domain": domain, "last_used_at": key["last_used_at"], "expires_at": None, "created_at": key["created_at"]}
    return {**out, "key": key["key"]} if "key" in key else out
