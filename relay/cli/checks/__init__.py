"""`relay check`: what is wrong, which key it hangs on, and the way out.

CHECKS is the table: a name, and an async function of a Context that gives the Findings it has, none when all is well. It runs beside a relay that runs as well
as without one, changes nothing, and waits for nobody longer than PATIENCE. A check that fails itself is a finding too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from relay.clock import Clock
from relay.delivery.dns import Resolver
from relay.errors import RelayError
from relay.settings import Settings
from relay.store import lock, secrets
from relay.store.engine import Store

PATIENCE = 20.0  # seconds for one check; they run side by side

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` "ok" | "warning" | "error"; `key` the setting at fault; `way_out` what to do, or ""."""

    level: str
    key: str
    text: str
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What checks look at. `store` None when there is none yet or it cannot be opened, `fault` says why; `pid` of the relay that runs here, or None."""

    settings: Settings
    resolver: Resolver
    clock: Clock
    store: Store | None
    secrets: tuple[str, ...]
    fault: str
    pid: int | None

    @property
    def laptop(self) -> bool:
        """Whether it is for this machine alone, by its name: `*.localhost` is nobody's in DNS (RFC 6761 §6.3), and no receiver will ever see it."""
        return f".{self.settings.hostname}".endswith(".localhost")


Check = Callable[[Context], Awaitable[Sequence[Finding]]]


def examine(settings: Settings) -> list[dict[str, Any]]:
    """All findings as {level, check, key, text, way_out}, in the order of the table; a check without findings says ok."""
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> list[dict[str, Any]]:
    from relay.cli.checks import inside, outside

    checks = (*inside.CHECKS, *outside.CHECKS)
    async with _context(settings) as context:
        found = await asyncio.gather(*(_run(check, context) for _, check in checks))
    return [{"check": name, **asdict(each)} for (name, _), findings in zip(checks, found, strict=True) for each in findings or [Finding(OK, "", "")]]


async def _run(check: Check, context: Context) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await check(context)
    except TimeoutError:
        return [Finding(WARNING, "", f"no answer within {PATIENCE:.0f} seconds")]
    except RelayError as error:
        return [Finding(ERROR, getattr(error, "key", ""), error.text)]


@asynccontextmanager
async def _context(settings: Settings) -> AsyncIterator[Context]:
    store, fault = await _store(settings)
    try:
        yield Context(settings, Resolver(settings.dns.nameservers, timeout=5.0), Clock(), store, _secrets(settings), fault, lock.holder(settings.data_dir))
    finally:
        if store is not None:
            await store.close()


def _secrets(settings: Settings) -> tuple[str, ...]:
    """The secrets in use; where none was made yet, one that nothing was sealed with."""
    made = settings.secret_key or (settings.data_dir / "secret_key").exists()
    return secrets.ensure(settings.data_dir, settings.secret_key) if made else ("none was made yet; nothing is sealed",)


async def _store(settings: Settings) -> tuple[Store | None, str]:
    """The store, read-only, or why there is none; "" for one that was never made."""
    if settings.store.url.startswith("sqlite") and not os.path.exists(settings.store.url.removeprefix("sqlite:///")):
        return None, ""
    try:
        async with asyncio.timeout(PATIENCE):
            return await Store.open(settings.store.url, settings.data_dir, read_only=True), ""
    except (RelayError, OSError, TimeoutError) as error:
        return None, str(error) or "no answer"
