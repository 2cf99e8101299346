"""What policies may use, made from the store: the living side of the Protocols in relay.policy.

Suppressions are never remembered. Suppression rules, domains and signing keys are remembered for a second at most and dropped at once by `changed`, in
the main process and in every worker. In a worker the store is read-only and counters ask the main process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from relay.clock import Clock
from relay.mail.message import Principal
from relay.policy import LANGUAGES, Sender, SigningKey, Suppression
from relay.store import counters, domains, keys, projects, suppression_rules, suppressions
from relay.store.audience import contacts
from relay.store.engine import Store
from relay.store.secrets import Vault
from relay.store.suppression_rules import SuppressionRule

FRESH = 1.0  # seconds that a domain or key is remembered without being told of a change (C13)
REMEMBERED = 10_000  # domains, counters
OFTEN, BLOCK = 10, 50  # askings in a second after which a counter gives so many places at once
WIDE = 20 * BLOCK  # places of a counter below which it gives none in advance: other processes would miss them


class Remembered:
    """A bounded memory of answers, each at most FRESH seconds old."""

    def __init__(self, clock: Clock, ask: Callable[..., Awaitable[Any]]):
        self._clock = clock
        self._ask = ask
        self._known: OrderedDict[tuple[Any, ...], tuple[float, Any]] = OrderedDict()

    async def get(self, *question: Any) -> Any:
        known = self._known.get(question)
        now = self._clock.elapsed()
        if known is not None and now - known[0] < FRESH:
            return known[1]
        answer = await self._ask(*question)
        self._known[question] = (now, answer)
        self._known.move_to_end(question)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return answer

    def drop(self) -> None:
        self._known.clear()


class StoredSuppressions:
    """The list, read every time but where the store's sieve knows that there is nothing to read, and behind it the project's rules, remembered like domains."""

    def __init__(self, store: Store, clock: Clock):
        self._store = store
        self._rules = Remembered(clock, self._read)

    async def find(self, project: int, key: str, stream: str, topic: str) -> Suppression | None:
        if not self._store.unsuppressed(project, key):
            found = await self._store.point(suppressions.find, project, key, stream, topic)
            if found is not None:
                return Suppression(found.reason, found.scope, found.created_at)
        return _ruled(await self._rules.get(project), key)

    async def among(self, project: int, keys: Sequence[str], stream: str, topic: str) -> Mapping[str, Suppression]:
        asked = [key for key in keys if not self._store.unsuppressed(project, key)]
        found = await self._store.point(suppressions.stopping, project, asked, stream, topic) if asked else {}
        stopped = {key: Suppression(each.reason, each.scope, each.created_at) for key, each in found.items()}
        if rules := await self._rules.get(project):
            stopped |= {key: ruled for key in keys if key not in stopped and (ruled := _ruled(rules, key))}
        return stopped

    async def _read(self, project: int) -> list[SuppressionRule]:
        return await self._store.point(suppression_rules.of, project)

    def changed(self) -> None:
        self._rules.drop()


def _ruled(rules: Sequence[SuppressionRule], key: str) -> Suppression | None:
    rule = suppression_rules.first(rules, key)
    return None if rule is None else Suppression("rule", suppressions.ALL, rule.created_at, rule.name)


class StoredDomains:
    def __init__(self, store: Store, clock: Clock):
        self._store = store
        self._memory = Remembered(clock, self._read)

    def of(self, project: int) -> Awaitable[Mapping[str, domains.Domain]]:
        return self._memory.get(project)

    async def _read(self, project: int) -> dict[str, domains.Domain]:
        return {domain.name: domain for domain in await self._store.point(domains.by_project, project)}

    def changed(self) -> None:
        self._memory.drop()


class StoredKeys:
    """Signing keys, opened from their seals."""

    def __init__(self, store: Store, vault: Vault, clock: Clock):
        self._store = store
        self._vault = vault
        self._memory = Remembered(clock, self._read)

    async def signing(self, project: int, domain: str) -> Sequence[SigningKey]:
        return await self._memory.get(project, domain)

    async def _read(self, project: int, domain: str) -> list[SigningKey]:
        found = await self._store.point(domains.signing, project, domain)
        return [SigningKey(domain, key.selector, key.algorithm, self._vault.open(key.private_key, f"dkim:{key.selector}._domainkey.{domain}").encode())
                for key in found]

    def changed(self) -> None:
        self._memory.drop()


class StoredSenders:
    """What projects say of themselves, for footers and pages; a contact's `locale` goes before the project's language."""

    def __init__(self, store: Store, clock: Clock):
        self._store = store
        self._memory = Remembered(clock, self._read)

    async def of(self, project: int, key: str = "") -> Sender:
        sender: Sender = await self._memory.get(project)
        locale = await self._store.point(contacts.locale, project, key) if key else ""
        return replace(sender, language=locale) if locale.partition("-")[0].lower() in LANGUAGES else sender

    async def _read(self, project: int) -> Sender:
        found = await self._store.point(projects.get, project)
        said = found.settings
        return Sender(str(said.get("title") or ""), str(said.get("language") or "en"), str(said.get("postal_address") or ""))

    def changed(self) -> None:
        self._memory.drop()


class StoredCounters:
    """Counters in the store. One that is asked often gives BLOCK places at a time, which are handed out here: a mailing is not a transaction for each copy.

    Places are counted before they are handed out, so there are never more than the limit; what is left of a block after FRESH is given back.
    """

    def __init__(self, store: Store, clock: Clock):
        self._store, self._clock = store, clock
        self._spare: dict[str, int] = {}
        self._asked: dict[str, tuple[int, int]] = {}  # counter to a second of elapsed() and how often it was asked in it

    async def take(self, name: str, limit: int, period: float, amount: int = 1) -> float:
        if self._spare.get(name, 0) >= amount:
            self._spare[name] -= amount
            return 0.0
        if limit >= WIDE and self._often(name) and not await self._store.write(counters.take, name, limit, period, amount + BLOCK, self._clock.now()):
            self._spare[name] = self._spare.get(name, 0) + BLOCK
            asyncio.get_running_loop().call_later(FRESH, self._unused, name)
            return 0.0
        return await self._store.write(counters.take, name, limit, period, amount, self._clock.now())

    async def give_back(self, name: str, amount: int = 1) -> None:
        await self._store.write(counters.give_back, name, amount)

    def _often(self, name: str) -> bool:
        second = int(self._clock.elapsed())
        if len(self._asked) >= REMEMBERED:
            self._asked.clear()
        known, times = self._asked.get(name, (second, 0))
        self._asked[name] = (second, times + 1 if known == second else 1)
        return known == second and times >= OFTEN

    def _unused(self, name: str) -> None:
        """Give back what is left; a store that does not take it keeps these places counted until their time is over."""
        if left := self._spare.pop(name, 0):
            task = asyncio.ensure_future(self.give_back(name, left))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())


class Doorkeeper:
    """Who a credential is. Every AUTH reads the store, and every MAIL looks again: a revoked key is dead at once, in open sessions too."""

    def __init__(self, store: Store, clock: Clock):
        self._store = store
        self._clock = clock
        self._default: int | None = None
        self.used: dict[int, None] = {}  # keys used since the last flush, for last_used_at

    async def default(self) -> int:
        """The id of project `default`."""
        if self._default is None:
            self._default = (await self._store.read(projects.by_name, projects.DEFAULT)).id
        return self._default

    async def principal(self, text: str) -> Principal | None:
        """Whom this API key proves, or None."""
        key = await self._store.point(keys.find, text) if text.startswith("sk_") else None
        return self._principal(key) if key else None

    async def holder(self, key_id: int) -> Principal | None:
        """Whom the key of this id proves now; None when it was revoked."""
        key = await self._store.point(keys.alive, key_id)
        return self._principal(key) if key else None

    async def still(self, principal: Principal) -> bool:
        """Whether the key that proved this principal is still alive and allows what it did."""
        if principal.key_id is None:
            return True
        key = await self._store.point(keys.alive, principal.key_id)
        return key is not None and self._principal(key) == principal

    def _principal(self, key: keys.Key) -> Principal:
        if len(self.used) < REMEMBERED:
            self.used[key.id] = None
        return Principal("key", key.project_id, key.id, key.name, key.permission, key.mode, key.domain)

    async def local(self, kind: str, name: str = "") -> Principal:
        """The principal of a trusted network, a local user or Relay itself: project `default`."""
        return Principal(kind, await self.default(), name=name)

