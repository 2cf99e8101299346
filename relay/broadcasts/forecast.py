"""How long a broadcast will take under the limits of this moment: before it is sent, and what is left while it runs. Plain numbers; nothing is promised.

    sites         as many at once as each allows: its rate, or its connections at half a second a message, after a suspension that stands
    speed         the broadcast's own limit
    project, key  the limits of [limit]
    machine       what one relay renders, signs and sends a second
    observed      while it runs: as fast as so far

The longest of them is the answer, and it is named.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from relay.delivery.route import Route
from relay.errors import RelayError

MACHINE = 400.0  # copies a second, signed, of a small machine (bench/broadcasts.py)
DOMAINS = 50  # domains that are looked up; the rest is spread over so many sites that none of them is the slowest
LOOKUP = 5.0  # seconds for all look-ups together
STEADY = 30.0  # seconds that a broadcast has run before its own speed says something

Pace = Callable[[str], tuple[float, float]]  # relay.leader.Leader.pace


class Router(Protocol):
    async def route(self, domain: str) -> Route: ...


@dataclass(frozen=True, slots=True)
class Forecast:
    """`seconds` for `recipients`; `limited_by` says what takes longest; `sites` the slowest first: (site, recipients, seconds)."""

    recipients: int
    seconds: float
    limited_by: str
    sites: tuple[tuple[str, int, float], ...] = ()


async def sites(router: Router, domains: Mapping[str, int]) -> Counter[str]:
    """Recipients by site, for the largest domains; those whose route is not found in time are under ""."""
    largest = [domain for domain, _ in Counter(domains).most_common(DOMAINS + 1) if domain][:DOMAINS]
    found: Counter[str] = Counter({"": sum(domains.values()) - sum(domains[domain] for domain in largest)})

    async def look(domain: str) -> None:
        try:
            async with asyncio.timeout(LOOKUP):
                site = (await router.route(domain)).site
        except (RelayError, TimeoutError):
            site = ""
        found[site] += domains[domain]

    await asyncio.gather(*(look(domain) for domain in largest))
    return found


def estimate(by_site: Mapping[str, int], pace: Pace, per_minute: int | None, limits: Mapping[str, tuple[int, float]]) -> Forecast:
    """The forecast for these recipients.

    limits  (recipients, seconds) by the name that people know: {"project": (1000, 3600.0)}
    """
    total = sum(by_site.values())
    slow = []
    for site, count in by_site.items():
        if site and count:
            rate, wait = pace(site)
            slow.append((site, count, wait + count / rate))
    slow.sort(key=lambda each: -each[2])
    times = {"machine": total / MACHINE}
    times |= {f"site {site}": seconds for site, _, seconds in slow[:1]}
    if per_minute is not None:
        times["speed"] = max(0, total - 1) / per_minute * 60.0
    times |= {name: max(0, total - most) / most * period for name, (most, period) in limits.items()}
    name = max(times, key=lambda each: times[each])
    return Forecast(total, times[name] if total else 0.0, name if total else "", tuple(slow[:10]))


def running(model: Forecast, done: int, elapsed: float) -> Forecast:
    """The model's answer for what is left, or that of the broadcast's own speed so far when it is the slower one."""
    if elapsed < STEADY or not done or not model.recipients:
        return model
    seconds = model.recipients / (done / elapsed)
    return model if seconds < model.seconds else Forecast(model.recipients, seconds, "observed", model.sites)


def limits(settings: Mapping[str, int]) -> dict[str, tuple[int, float]]:
    """The limits that are set, of [limit]: {"project_per_hour": 1000, ...}."""
    periods = {"hour": ("an hour", 3_600.0), "day": ("a day", 86_400.0)}
    found = {}
    for name, most in settings.items():
        whose, _, period = name.partition("_per_")
        if most:
            found[f"{whose} limit {periods[period][0]}"] = (most, periods[period][1])
    return found
