"""Acts on the queue: what waits, and making it wait otherwise.

Every act takes a choice: filters that must all hold, or `everything`, since a slip of the hand must not cancel all mail. It goes through the queue in slices
of one transaction each, so mail gets its turn between, and tells the runner, which holds some of the rows in memory, after each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from relay.clock import iso
from relay.control import Control
from relay.delivery.route import Router
from relay.errors import Invalid, NoRoute, NotFound
from relay.mail import address as mail_address
from relay.mail import ids
from relay.shaping import Shaping
from relay.store import bodies, epoch, keys, projects, queue, sites
from relay.store.queue import Filter

if TYPE_CHECKING:
    from relay.leader import Leader

PAGE = 1000  # rows in one answer
LOOKUP = 20.0  # seconds to find out where a domain's mail goes
LOOKUPS = 50  # routes looked up at once when a site's domains are wanted
HEADER = 65_536  # octets of a message that `show` gives at most


async def choice(control: Control, *, project: str = "", key: str = "", site: str = "", domain: str = "", tag: str = "", older_than: float | None = None,
                 what: str = "", everything: bool = False) -> Filter:
    """The filter of what an operator named; raises Invalid when he named nothing, NotFound for what does not exist.

    older_than  seconds since first due
    what        an em_ id, a recipient's id (rcp_), or an address
    """
    if not (everything or older_than is not None or any((project, key, site, domain, tag, what))):
        raise Invalid("filter", "name what is meant: a message, an address, a filter, or --all")
    found: dict[str, Any] = {}
    if project or key:
        owner = await control.store.read(projects.by_name, project or projects.DEFAULT)
        found["project"] = owner.id
        if key:
            found["key_id"] = (await control.store.read(keys.get, owner.id, key)).id
    if site:
        found["domains"] = await site_domains(control, site)
    if domain:
        found["domains"] = tuple(d for d in found.get("domains", (_a_label(domain),)) if d == _a_label(domain))
    if older_than is not None:
        found["older_than"] = control.clock.now() - older_than
    return Filter(tag=tag or None, **found, **_meant(what))


def _a_label(domain: str) -> str:
    return mail_address.a_label(domain.rstrip("."))


def _meant(what: str) -> dict[str, Any]:
    for prefix, name in (("em", "message"), ("rcp", "recipient")):
        if (number := ids.internal(what, prefix)) is not None:
            return {name: number}
    if "@" in what:
        return {"address": mail_address.key(what)}
    if what:
        raise Invalid("what", f"{what} is neither the id of a message (em_...) nor an address")
    return {}


async def site_domains(control: Control, site: str) -> tuple[str, ...]:
    """The domains with waiting or held mail that go to this site now."""
    site = await _site(control, site)
    router = control.runner.router if control.runner is not None else _router(control)
    turns = asyncio.Semaphore(LOOKUPS)

    async def goes(domain: str) -> bool:
        async with turns:
            try:
                return (await router.route(domain)).site == site
            except NoRoute:
                return False

    waiting = [row.domain for row in await control.store.read(queue.counts, control.clock.now())]
    there = await asyncio.gather(*(goes(domain) for domain in waiting))
    return tuple(domain for domain, yes in zip(waiting, there, strict=True) if yes)


def _router(control: Control) -> Router:
    return Router(control.settings, control.resolver, Shaping.load(control.settings.delivery.connections).provider)


async def every(control: Control, after: int = 0, limit: int = 100, **wanted: Any) -> dict[str, Any]:
    """A page of waiting recipients, how many match in all, and `next`, the `after` of the following page or None."""
    which = await choice(control, **{"everything": True, **wanted})
    limit = max(1, min(limit, PAGE))
    total, rows = await control.store.read(_counted, which, after, limit)
    names = {p.id: p.name for p in await control.store.read(projects.every)}
    return {"recipients": [shown(row, names) for row in rows], "total": total,
            "next": rows[-1].recipient_id if len(rows) == limit else None}


def _counted(conn: Any, which: Filter, after: int, limit: int) -> tuple[int, list[Any]]:
    return queue.count(conn, which), queue.listed(conn, which, after=after, limit=limit)


def shown(row: Any, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "id": ids.public("rcp", row.recipient_id), "message_id": ids.public("em", row.message_id), "project": names.get(row.project_id, ""),
        "from": row.sender, "to": row.address, "subject": row.subject, "size": row.size, "domain": row.domain, "stream": row.stream, "tags": list(row.tags),
        "state": "held" if row.held else row.state, "attempts": row.attempts, "due_at": iso(row.due), "queued_at": iso(row.created_at),
        "reply": " ".join(str(part) for part in (row.code, row.enhanced, row.text) if part) if row.code else None,
    }


async def show(control: Control, what: str) -> dict[str, Any]:
    """The waiting recipients of one message, and its header; raises NotFound when none waits."""
    number = ids.internal(what, "em")
    if number is None:
        raise Invalid("what", f"{what} is not the id of a message (em_...)")
    page = await every(control, what=what, limit=PAGE)
    if not page["recipients"]:
        raise NotFound(f"nobody waits for {what}; relay explain {what} says what became of it")
    octets = await control.store.read(bodies.get, number)
    return {**page, "header": octets[:HEADER].partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n", "\n")}


async def retry(control: Control, **wanted: Any) -> dict[str, Any]:
    """Due now instead of later; those held stay held."""
    which, now = await choice(control, **wanted), control.clock.now()
    return {"retried": await _through(control, lambda conn: queue.retry(conn, which, now), _wake)}


async def hold(control: Control, **wanted: Any) -> dict[str, Any]:
    """Kept back until released; what is being delivered at this moment may still go."""
    which = await choice(control, **wanted)
    return {"held": await _through(control, lambda conn: queue.hold(conn, which), _forget)}


async def release(control: Control, **wanted: Any) -> dict[str, Any]:
    """Held no longer. With `everything` a relay that started held (a restored copy, `serve --hold`) delivers again."""
    which, now = await choice(control, **wanted), control.clock.now()
    count = await _through(control, lambda conn: queue.release(conn, which, now), _wake)
    if which == queue.EVERY:
        await control.store.write(epoch.accept, control.store.data_dir)
        if control.runner is not None:
            control.runner.rescan()
    return {"released": count}


async def cancel(control: Control, **wanted: Any) -> dict[str, Any]:
    """Ended as cancelled, each with its event; raises NotFound when nothing that was named waits."""
    which, now = await choice(control, **wanted), control.clock.now()
    count = await _through(control, lambda conn: queue.cancel(conn, which, now, "cancelled by the operator"), _forget)
    if not count and wanted.get("what"):
        raise NotFound(f"nobody waits for {wanted['what']}; relay explain {wanted['what']} says what became of it")
    return {"cancelled": count}


async def _through(control: Control, change: Callable[[Any], list[int]], tell: Callable[[Leader, list[int]], None]) -> int:
    """Make the change slice by slice until it finds nothing; how many recipients it touched. The runner is told of each slice."""
    total = 0
    while touched := await control.store.write(change, lane="jobs"):
        total += len(touched)
        if control.runner is not None:
            tell(control.runner, touched)
    if total:
        control.changed("queue")
    return total


def _forget(runner: Leader, recipients: list[int]) -> None:
    runner.forget(recipients)


def _wake(runner: Leader, _: list[int]) -> None:
    runner.wake()


async def _site(control: Control, given: str) -> str:
    """The name of a site. A domain is not one, though people say it: it stands for the site that its mail goes to, since suspending a name that nothing goes
    by would say "suspended" and stop nothing."""
    if "." not in given or ":" in given or "," in given:
        return given
    router = control.runner.router if control.runner is not None else _router(control)
    try:
        async with asyncio.timeout(LOOKUP):
            return (await router.route(mail_address.a_label(given))).site
    except (NoRoute, TimeoutError, Invalid):
        return given


async def suspend(control: Control, site: str, seconds: float | None = None, reason: str = "") -> dict[str, Any]:
    """No attempts to the site, or to the one that mail for a domain goes to: for `seconds`, or until `resume`."""
    site, now = await _site(control, site), control.clock.now()
    until, words = None if seconds is None else now + seconds, reason or "suspended by the operator"
    await control.store.write(sites.suspend, site, until, words, True, now)
    if control.runner is not None:
        control.runner.suspend(site, until, words)
    return {"site": site, "suspended_until": iso(until), "reason": words}


async def resume(control: Control, site: str) -> dict[str, Any]:
    """Attempts go on at once; raises NotFound when the site is not suspended."""
    site = await _site(control, site)
    was = await control.store.write(sites.resume, site, control.clock.now())
    if control.runner is not None:
        control.runner.resume(site)
    if not was:
        raise NotFound(f"{site} is not suspended; relay queue sites shows those that are")
    return {"site": site, "resumed": True}


async def every_site(control: Control) -> list[dict[str, Any]]:
    """What is remembered of sites: suspensions, broken TLS, and those served more slowly since their answers asked for it."""
    now = control.clock.now()
    return [{"site": site.name, "suspended": site.suspended(now), "suspended_until": iso(site.suspended_until), "reason": site.reason, "by_hand": site.by_hand,
             "broken_tls_until": iso(site.broken_tls_until), "slowed_until": iso(site.pace_until)} for site in await control.store.read(sites.remembered, now)]
