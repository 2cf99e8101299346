"""The slices of an import, as the store takes them: rows are read and checked, and their domains looked up, in whatever process that is.

    slices = Slices(reading, resolver, apart)
    slices.begin(ground)
    while some := await slices.next():  ...

The domains of many rows are asked together, because each answer is on its way for as long as the network likes. Nobody's fault counts against a domain: what
DNS fails to say, or says too late, keeps the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from relay.audience import domains
from relay.audience.reading import Ground, Reading
from relay.delivery.dns import Resolver
from relay.store.audience.taking import Part

AHEAD = 1_000  # rows that are read together
DEEP = 4  # slices at least, so that the store has some left while its reader, which yields to everybody, does not come to its turn
LOOKUPS = 50  # domains looked up at once
KNOWN = 50_000  # domains whose answer is remembered
PATIENCE = 60.0  # seconds for the domains of rows that are read together

Slice = tuple[Part, list[dict[str, Any]]]
"""What the store takes, and those of its rows that a preview shows."""


class Slices:
    """Of one file. `apart(fn, *args)` runs what takes its time."""

    def __init__(self, reading: Reading, resolver: Resolver, apart: Callable[..., Awaitable[Any]]):
        self._reading, self._resolver, self._apart = reading, resolver, apart
        self._looks, self._rows = True, AHEAD
        self._known: dict[str, str] = {}  # what is wrong with a domain, "" for nothing

    def begin(self, ground: Ground) -> None:
        self._reading.begin(ground)
        self._looks, self._rows = ground.look, max(AHEAD, DEEP * ground.slice)

    async def next(self) -> list[Slice]:
        """The next slices; none at the end."""
        pieces = await self._apart(self._reading.pieces, self._rows)
        wrong = await self._wrong(set().union(*(piece.domains for piece in pieces))) if self._looks else {}
        return await self._apart(lambda: [self._reading.part(piece, wrong) for piece in pieces])

    async def _wrong(self, names: Collection[str]) -> dict[str, str]:
        """What is wrong with those of the domains that cannot have mail."""
        if len(self._known) > KNOWN:
            self._known.clear()
        new, gate = sorted(name for name in names if name not in self._known), asyncio.Semaphore(LOOKUPS)
        self._known.update(dict.fromkeys(new, ""))

        async def look(name: str) -> None:
            async with gate:
                self._known[name] = await domains.fault(self._resolver, name)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*map(look, new))
        return {name: self._known[name] for name in names if self._known[name]}
