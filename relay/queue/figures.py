"""What the queue shows at /metrics: counted as it happens where that is cheap, measured now and then where it takes a query."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay import log
from relay.errors import StoreError
from relay.mail.reply import Reply
from relay.metrics import BOUNCES, SLOW, Tally, counter, gauge, histogram
from relay.store import queue as rows

if TYPE_CHECKING:
    from relay.queue.runner import Runner

SITES = 30  # sites that have series of their own
INTERVAL = 15.0  # seconds between two measurements: one query that groups the waiting recipients by domain
SHARE = 20.0  # times as long as a measurement took is the least that passes before the next: millions of rows take seconds

LOG = log.get("queue")

MESSAGES = gauge("queue_messages", "Waiting recipients: ready, deferred, held", "state", "provider")
OLDEST = gauge("queue_oldest_age_seconds", "Age since first due of the recipient that waits longest", "provider", "stream")
DUE_LAG = histogram("queue_due_lag_seconds", "From due and in memory to the start of the attempt", buckets=SLOW)
DELAYED = counter("queue_delayed_total", "Times that something due had to wait, by reason", "reason")
DELAYED_CONCURRENCY: Callable[[], None] = DELAYED.labels("concurrency").inc
LATENCY = histogram("accept_to_delivered_seconds", "From the accepted message to the remote's 250", "stream", "provider", buckets=SLOW)
RESPONSES = counter("delivery_responses_total", "Answers of remote servers to recipients", "provider", "code", "enhanced_class", "category")
SUSPENDED = gauge("destinations_suspended", "Sites that get nothing just now", "reason")
ATTEMPTS = histogram("attempts_per_message", "Attempts that a recipient had when it ended", buckets=(1, 2, 3, 4, 5, 7, 10, 15, 20, 30))
AGES = tuple(60.0 * minutes for minutes in (5, 10, 20, 40, 80, 160, 320, 640, 1_280))  # Postfix' qshape
AGE = histogram("queue_age_seconds", "Age since first due of recipients as they left the queue, delivered or not", buckets=AGES)
ACTIVE = gauge("destinations_active", "Sites with an open connection")
CONCURRENCY = gauge("controller_concurrency_limit", "Connections that a site may have just now, of the sites with most mail in memory", "site")
RATE = gauge("controller_rate_limit", "Messages a second that a site may have just now, of those sites that have a limit", "site")
INSERTED = Tally("queue_inserts", "Recipients that this node put into the queue")
INSERTED.counts[()] = 0  # shown from the start
REMOVED = counter("queue_removals_total", "Recipients that left the queue, by the state in which they ended", "reason")
LOOP = histogram("scheduler_loop_seconds", "One look of the scheduler at what is due")
MEMORY = gauge("queue_memory_recipients", "Waiting recipients in memory")

_removed = {state: REMOVED.labels(state).inc for state in ("delivered", "bounced", "failed", "suppressed", "cancelled")}
_latency: dict[tuple[str, str], Callable[[float], None]] = {}
_responses: dict[tuple[str, int, str, str], Callable[[], None]] = {}


def delivered(provider: str, stream: str, reply: Reply, seconds: float) -> None:
    observe = _latency.get((stream, provider))
    if observe is None:
        observe = _latency[stream, provider] = LATENCY.labels(stream, provider).observe
    observe(max(seconds, 0.0))
    _response(provider, reply, "delivered")


def refused(provider: str, reply: Reply, category: str, state: str) -> None:
    _response(provider, reply, category)
    if state != "deferred":
        BOUNCES.labels(category).inc()


def _response(provider: str, reply: Reply, category: str) -> None:
    """The class of an enhanced status is its first two parts, "5.7"; codes, classes and categories are few, so this cannot grow."""
    kind = reply.enhanced.rpartition(".")[0] if len(reply.enhanced) < 8 else "other"
    key = (provider, reply.code, kind, category)
    count = _responses.get(key)
    if count is None:
        if len(_responses) > 2_000:
            key = (provider, reply.code // 100 * 100, "other", category)
        count = _responses[key] = RESPONSES.labels(key[0], str(key[1]), key[2], key[3]).inc
    count()


def removed(state: str, count: int = 1) -> None:
    """Recipients are out of the queue; one that is only deferred is not."""
    add = _removed.get(state)
    if add is not None:
        add(count)


def ended(attempts: int, age: float) -> None:
    """A recipient leaves the queue for good."""
    ATTEMPTS.observe(attempts)
    AGE.observe(max(age, 0.0))


async def watch(runner: Runner) -> None:
    """Measure, for ever."""
    while True:
        began = runner.clock.elapsed()
        try:
            await measure(runner)
        except StoreError as error:
            LOG.warning("queue cannot be measured", error=error.text)
        runner.tidy()
        await asyncio.sleep(max(INTERVAL, SHARE * (runner.clock.elapsed() - began)))


async def measure(runner: Runner) -> None:
    """Set the gauges from the store and from memory."""
    now, states, ages = runner.clock.now(), {}, {}
    for domain, ready, deferred, held, oldest in await runner.store.read(rows.counts, now):
        place = runner.places.get(domain)
        provider = place.site.provider if place is not None and place.site is not None else "other"
        for state, number in (("ready", ready), ("deferred", deferred), ("held", held)):
            states[state, provider] = states.get((state, provider), 0) + number
        ages[provider] = max(ages.get(provider, 0.0), now - oldest)
    MESSAGES.clear()
    for (state, provider), number in states.items():
        MESSAGES.labels(state, provider).set(number)
    OLDEST.clear()
    for stream in ("transactional", "marketing"):
        first = await runner.store.read(rows.oldest, stream)
        OLDEST.labels("all", stream).set(max(0.0, now - first) if first is not None else 0.0)
    for provider, age in ages.items():
        OLDEST.labels(provider, "all").set(max(0.0, age))
    _of_sites(runner)


def _of_sites(runner: Runner) -> None:
    elapsed = runner.clock.elapsed()
    SUSPENDED.labels("suspended").set(sum(site.suspended > elapsed for site in runner.sites.values()))
    SUSPENDED.labels("unreachable").set(sum(site.blocked(elapsed) > 0 and site.suspended <= elapsed for site in runner.sites.values()))
    ACTIVE.set(sum(site.open > 0 for site in runner.sites.values()))
    MEMORY.set(len(runner.known))
    CONCURRENCY.clear()
    RATE.clear()
    for site in heapq.nlargest(SITES, (site for site in runner.sites.values() if site.open or site.count), key=lambda site: site.count):
        CONCURRENCY.labels(site.name).set(site.allowed(elapsed))
        rate = site.rate(elapsed)
        if rate is not None:
            RATE.labels(site.name).set(rate.messages / rate.seconds)
