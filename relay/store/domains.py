"""Sending domains of projects and their DKIM keys.

A domain is `pending` until DNS shows our DKIM record, then `verified`; it is `failed` when a record that was there has gone. Its first keys are made with it
and sign at once. A rotation adds `pending` keys beside the `active` ones; when DNS shows them they become active, and the old ones `retired`: they sign no
more, but their records must stay while mail signed by them is still on its way. A verified domain belongs to one project.

Private keys are sealed by relay.store.secrets under the name `dkim:<selector>._domainkey.<domain>` before they come here; this file never sees them open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from relay.errors import Conflict, NotFound
from relay.mail import ids
from relay.store import events
from relay.store.events import Event
from relay.store.schema import dkim_keys, domains
from relay.store.upsert import insert as upsert

PENDING, VERIFIED, FAILED = "pending", "verified", "failed"
ACTIVE, RETIRED = "active", "retired"
OLDEST = 20  # domains of one look at the age of keys


@dataclass(frozen=True, slots=True)
class DkimKey:
    """`private_key` sealed; `public_key` the p= value; `state` "active" | "pending" | "retired"."""

    id: int
    domain_id: int
    selector: str
    algorithm: str
    private_key: str = field(repr=False)
    public_key: str
    state: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Domain:
    """`checks`: record name and type to whether DNS showed it; `settings`: open_tracking, click_tracking, tracking_domain, return_path,
    inbound_enabled, catch_all (any local part takes mail), inbound_addresses (the local parts that do without it)."""

    id: int
    project_id: int
    name: str
    status: str
    checks: dict[str, Any]
    settings: dict[str, Any]
    created_at: float
    verified_at: float | None = None
    checked_at: float | None = None
    keys: tuple[DkimKey, ...] = ()

    @property
    def public_id(self) -> str:
        return ids.public("dom", self.id)

    @property
    def verified(self) -> bool:
        """Whether its owner has proven it. A record that is gone later warns (`failed`) and stops no mail."""
        return self.verified_at is not None

    @property
    def opens(self) -> bool:
        return bool(self.settings.get("open_tracking"))

    @property
    def clicks(self) -> bool:
        return bool(self.settings.get("click_tracking"))

    @property
    def inbound(self) -> bool:
        """Whether mail to the domain is taken here."""
        return bool(self.settings.get("inbound_enabled"))

    @property
    def tracking_host(self) -> str:
        """The domain's own host for links, once DNS points it here."""
        host = self.settings.get("tracking_domain") or ""
        return host if self.checks.get(f"CNAME {host}") else ""

    @property
    def return_path(self) -> str:
        """The domain that bounces come back to, once its MX is ours; until then "" and the submitter's reverse-path stays."""
        host = self.settings.get("return_path") or ""
        return host if self.checks.get(f"MX {host}") else ""


_DOMAIN = (domains.c.id, domains.c.project_id, domains.c.name, domains.c.status, domains.c.checks, domains.c.settings, domains.c.created_at,
           domains.c.verified_at, domains.c.checked_at)
_KEY = (dkim_keys.c.id, dkim_keys.c.domain_id, dkim_keys.c.selector, dkim_keys.c.algorithm, dkim_keys.c.private_key, dkim_keys.c.public_key,
        dkim_keys.c.state, dkim_keys.c.created_at)
_SIGNING = select(*_KEY).join_from(dkim_keys, domains).where(
    domains.c.project_id == bindparam("project"), domains.c.name == bindparam("name"), dkim_keys.c.state == ACTIVE).order_by(dkim_keys.c.algorithm.desc())


def add(conn: Connection, domain: Domain) -> Domain:
    """The domain with its keys, stored; raises Conflict when the project has it, or another project has proven that it owns it."""
    _unclaimed(conn, domain)
    row = {c.name: getattr(domain, c.name) for c in _DOMAIN}
    if conn.execute(upsert(conn, domains).values(row).on_conflict_do_nothing(index_elements=["project_id", "name"])).rowcount == 0:
        raise Conflict(f"{domain.name} is in the project already; relay domain list shows its records")
    add_keys(conn, domain.keys)
    return domain


def _unclaimed(conn: Connection, domain: Domain) -> None:
    other = select(domains.c.id).where(domains.c.name == domain.name, domains.c.project_id != domain.project_id, domains.c.status == VERIFIED)
    if conn.execute(other.limit(1)).first() is not None:
        raise Conflict(f"{domain.name} is verified by another project of this relay; remove it there first")


def add_keys(conn: Connection, keys: Sequence[DkimKey]) -> None:
    if keys:
        conn.execute(insert(dkim_keys), [{c.name: getattr(key, c.name) for c in _KEY} for key in keys])


def get(conn: Connection, project_id: int, name: str) -> Domain:
    """The project's domain of this name or public id, with its keys; raises NotFound naming the command that adds it."""
    number = ids.internal(name, "dom")
    row = conn.execute(select(*_DOMAIN).where(domains.c.project_id == project_id, domains.c.id == number if number else domains.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"{name} is not a domain of this project; relay domain add {name} adds it")
    return Domain(*row, keys=_keys(conn, (row.id,)))


def id_of(conn: Connection, project_id: int, name: str) -> str | None:
    """The public id of the project's domain of this name, or None."""
    number = conn.scalar(select(domains.c.id).where(domains.c.project_id == project_id, domains.c.name == name))
    return None if number is None else ids.public("dom", number)


def by_project(conn: Connection, project_id: int) -> list[Domain]:
    """The project's domains by name, with their keys."""
    rows = conn.execute(select(*_DOMAIN).where(domains.c.project_id == project_id).order_by(domains.c.name)).all()
    return _with_keys(conn, rows)


def every(conn: Connection) -> list[Domain]:
    """All domains of all projects, for a worker's copy and for the periodic look at DNS."""
    return _with_keys(conn, conn.execute(select(*_DOMAIN).order_by(domains.c.project_id, domains.c.name)).all())


def _with_keys(conn: Connection, rows: Sequence[Any]) -> list[Domain]:
    found: dict[int, list[DkimKey]] = {}
    for key in _keys(conn, None if len(rows) > 500 else [row.id for row in rows]):
        found.setdefault(key.domain_id, []).append(key)
    return [Domain(*row, keys=tuple(found.get(row.id, ()))) for row in rows]


def _keys(conn: Connection, domain_ids: Sequence[int] | None) -> tuple[DkimKey, ...]:
    """Keys of some or all domains, RSA before Ed25519, in the order they were made."""
    statement = select(*_KEY).order_by(dkim_keys.c.algorithm.desc(), dkim_keys.c.id)
    if domain_ids is not None:
        statement = statement.where(dkim_keys.c.domain_id.in_(domain_ids))
    return tuple(DkimKey(*row) for row in conn.execute(statement))


def signing(conn: Connection, project_id: int, name: str) -> list[DkimKey]:
    """The active keys of exactly this domain, RSA first; empty when the project has no such domain."""
    return [DkimKey(*row) for row in conn.execute(_SIGNING, {"project": project_id, "name": name})]


def checked(conn: Connection, domain: Domain, now: float) -> Domain:
    """What a look at DNS found: status, checks, checked_at and verified_at are stored, and a change of status is an event.

    Raises Conflict when it would verify a domain of another project. Who proves it takes it from a project whose record is gone.
    """
    if domain.status == VERIFIED:
        _unclaimed(conn, domain)
        lapsed = (domains.c.name == domain.name, domains.c.id != domain.id, domains.c.verified_at.is_not(None))
        conn.execute(update(domains).where(*lapsed).values(verified_at=None))
    before = conn.scalar(select(domains.c.status).where(domains.c.id == domain.id))
    conn.execute(update(domains).where(domains.c.id == domain.id), {
        "status": domain.status, "checks": domain.checks, "checked_at": now, "verified_at": domain.verified_at})
    if before is not None and before != domain.status and domain.status in (VERIFIED, FAILED):
        told = {"domain_id": domain.public_id, "name": domain.name}
        events.append(conn, [Event(domain.project_id, f"domain.{domain.status}", now, data=told)])
    return domain


def configure(conn: Connection, project_id: int, name: str, settings: dict[str, Any]) -> Domain:
    """The domain with these settings changed and the others kept."""
    domain = get(conn, project_id, name)
    conn.execute(update(domains).where(domains.c.id == domain.id).values(settings={**domain.settings, **settings}))
    return get(conn, project_id, name)


def oldest(conn: Connection) -> list[tuple[str, float]]:
    """The OLDEST domain names whose signing key was made longest ago, and when, in UTC seconds."""
    made = func.min(dkim_keys.c.created_at)
    query = select(domains.c.name, made).join_from(dkim_keys, domains).where(dkim_keys.c.state == ACTIVE).group_by(domains.c.name)
    return [(name, at) for name, at in conn.execute(query.order_by(made).limit(OLDEST))]


def remove(conn: Connection, project_id: int, name: str) -> Domain:
    """The domain that is gone now, with its keys; mail that waits leaves unsigned."""
    domain = get(conn, project_id, name)
    conn.execute(delete(dkim_keys).where(dkim_keys.c.domain_id == domain.id))
    conn.execute(delete(domains).where(domains.c.id == domain.id))
    return domain


def activate(conn: Connection, project_id: int, name: str) -> Domain:
    """The pending keys sign from now on, the ones before are retired; raises Conflict when there are none. Keys retired before that are dropped."""
    domain = get(conn, project_id, name)
    if not any(key.state == PENDING for key in domain.keys):
        raise Conflict(f"{name} has no rotation under way; relay domain dkim {name} --rotate starts one")
    conn.execute(delete(dkim_keys).where(dkim_keys.c.domain_id == domain.id, dkim_keys.c.state == RETIRED))
    conn.execute(update(dkim_keys).where(dkim_keys.c.domain_id == domain.id, dkim_keys.c.state == ACTIVE).values(state=RETIRED))
    conn.execute(update(dkim_keys).where(dkim_keys.c.domain_id == domain.id, dkim_keys.c.state == PENDING).values(state=ACTIVE))
    return get(conn, project_id, name)


def cancel(conn: Connection, project_id: int, name: str) -> Domain:
    """The domain without its pending keys."""
    domain = get(conn, project_id, name)
    conn.execute(delete(dkim_keys).where(dkim_keys.c.domain_id == domain.id, dkim_keys.c.state == PENDING))
    return get(conn, project_id, name)
