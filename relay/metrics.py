"""Every series that Relay exposes, in one place, under the prefix `relay_`.

Labels are provider or site (the first K and "other": `Few`), source, class: never a recipient, a message id or a raw domain. Code on the hot path resolves
its labels once and keeps the child.

With `--workers N` a worker sends `drain()`, the increments since its last call, to the main process, which adds them with `absorb()` and alone exposes
`/metrics`: one consistent total. When a worker ends, `forget()` takes its gauges out and keeps its counts.
"""

from __future__ import annotations

import asyncio
import math
import platform
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

disable_created_metrics()  # a second series for each counter that no rule of ours reads
REGISTRY = CollectorRegistry(auto_describe=True)

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SLOW = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
OTHER = "other"  # the label of all that have none of their own
FORGET = 10_000  # names that are counted before they have a label of their own
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PAUSE = 0.0005  # seconds the exposition yields the GIL after each family, so that a scrape delays the loop by one family, not by all

_summed: set[str] = set()  # gauges whose workers' values add up (open connections), unlike those each process sets to the same (certificate expiry)


def counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"relay_{name}", text, labels, registry=REGISTRY)


def gauge(name: str, text: str, *labels: str, summed: bool = False) -> Gauge:
    """A gauge; `summed` for one that counts things of its process, which main adds up over the workers."""
    if summed:
        _summed.add(f"relay_{name}")
    return Gauge(f"relay_{name}", text, labels, registry=REGISTRY)


def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = FAST) -> Spread:
    """A histogram; each of its label sets is observed by one thread."""
    return Spread(name, text, *labels, buckets=buckets)


class Few:
    """Label values with a bound: the first `limit` names keep theirs, every later one is "other" (a series per raw domain would eat the scraper)."""

    __slots__ = ("limit", "names")

    def __init__(self, limit: int = 200, names: Iterable[str] = ()):
        self.limit = limit
        self.names = set(names)

    def label(self, name: str) -> str:
        if name in self.names:
            return name
        if len(self.names) >= self.limit:
            return OTHER
        self.names.add(name)
        return name


class Earned(Few):
    """The same, for names of which there are more than anybody can read: a name has its own label once it was asked for `after` times, the first `limit` that
    come so far. So the big ones are seen, not the first ones."""

    __slots__ = ("_asked", "after")

    def __init__(self, limit: int = 50, after: int = 20):
        super().__init__(limit)
        self.after = after
        self._asked: dict[str, int] = {}

    def label(self, name: str) -> str:
        if name in self.names:
            return name
        if len(self.names) >= self.limit:
            return OTHER
        asked = self._asked[name] = self._asked.pop(name, 0) + 1
        if asked >= self.after:
            del self._asked[name]
            return super().label(name)
        if len(self._asked) > FORGET:
            del self._asked[next(iter(self._asked))]  # the one that was asked for longest ago
        return OTHER


class Tally:
    """A counter for what happens several times in a message: plain numbers that the event loop adds to, read when somebody looks.

    counts  by label values: `COMMANDS["RCPT", "2xx"] += 1` costs a tenth of a Counter's `inc`
    """

    def __init__(self, name: str, text: str, *labels: str, registry: CollectorRegistry = REGISTRY):
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._empty = partial(CounterMetricFamily, f"relay_{name}", text, labels=labels)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        family = self._empty()
        for values, number in list(self.counts.items()):
            family.add_metric(values, number)
        yield family


class Look:
    """A gauge whose series are the answer to one question, asked now and then: each answer takes the place of the last one, so what has gone is shown no more.

    most  series beside "other", which has the sum of the smaller ones
    """

    def __init__(self, name: str, text: str, label: str, most: int = 20, registry: CollectorRegistry = REGISTRY):
        self.most = most
        self._values: dict[str, float] = {}
        self._empty = partial(GaugeMetricFamily, f"relay_{name}", text, labels=(label,))
        registry.register(self)

    def show(self, values: Mapping[str, float]) -> None:
        """Expose these from now on, by label value."""
        largest = sorted(values, key=lambda name: (-values[name], name))
        shown = {name: values[name] for name in largest[:self.most]}
        if rest := largest[self.most:]:
            shown[OTHER] = shown.get(OTHER, 0) + sum(values[name] for name in rest)
        self._values = shown

    def collect(self) -> Iterator[Metric]:
        family = self._empty()
        for value, number in self._values.items():
            family.add_metric((value,), number)
        yield family


class Spread:
    """A histogram for what is observed with every message: plain numbers as in Tally; the library's own takes two locks and seven times as long."""

    __slots__ = ("_cells", "_empty", "bounds", "observe", "time")

    def __init__(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = FAST, registry: CollectorRegistry = REGISTRY):
        self.bounds = tuple(float(bound) for bound in buckets)
        self._cells: dict[tuple[str, ...], _Cells] = {}
        self._empty = partial(HistogramMetricFamily, f"relay_{name}", text, labels=labels)
        if not labels:
            self.observe, self.time = self.labels().observe, self.labels().time
        registry.register(self)

    def labels(self, *values: str) -> _Cells:
        """The child of these label values; the hot path keeps it."""
        found = self._cells.get(values)
        if found is None:
            found = self._cells[values] = _Cells(self.bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        family = self._empty()
        for values, cells in list(self._cells.items()):
            total, shown = 0, []
            for bound, number in zip((*self.bounds, math.inf), tuple(cells.counts), strict=True):
                total += number
                shown.append((floatToGoString(bound), total))
            family.add_metric(values, shown, cells.sum)
        yield family


class _Cells:
    """One series: how many fell under each bound, and over the last; and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]):
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @contextmanager
    def time(self) -> Iterator[None]:
        """Observe the seconds that the block takes, however it ends."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - start)


Delta = tuple[str, tuple[tuple[str, str], ...], float]  # sample name with its suffix, labels, increment


class Ledger:
    """What a process has already sent, and what others have sent to it."""

    def __init__(self, registry: CollectorRegistry = REGISTRY):
        self.registry = registry
        self._sent: dict[tuple, float] = {}
        self._totals: dict[str, dict[tuple, float]] = {}  # family -> (sample, labels) -> sum over all workers, living and dead
        self._gauges: dict[str, dict[tuple, float]] = {}  # worker -> (sample, labels) -> its share of the totals
        self._families: dict[str, str] = {}  # sample -> family

    def drain(self) -> list[Delta]:
        """The increments since the last call; a new label set is sent once even at zero, so that histograms arrive whole."""
        deltas = []
        for family in self.registry.collect():
            if not _travels(family):
                continue
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                before = self._sent.get(key)
                if before is None or sample.value != before:
                    deltas.append((*key, sample.value - (before or 0.0)))
                    self._sent[key] = sample.value
        return deltas

    def absorb(self, deltas: Iterable[Delta], worker: str = "") -> None:
        """Add what a worker drained; a sample of a family that this process does not know is ignored (an older worker, ending)."""
        if not self._families:
            self._families = {s: f.name for f in self.registry.collect() if _travels(f) for s in _sample_names(f)}
        for name, labels, delta in deltas:
            family = self._families.get(name)
            if family is None:
                continue
            key = (name, tuple(tuple(pair) for pair in labels))
            totals = self._totals.setdefault(family, {})
            totals[key] = totals.get(key, 0.0) + delta
            if family in _summed:
                shares = self._gauges.setdefault(worker, {})
                shares[key] = shares.get(key, 0.0) + delta

    def forget(self, worker: str) -> None:
        """Take the gauges of a worker that ended out of the totals; its counts stay."""
        for key, share in self._gauges.pop(worker, {}).items():
            self._totals[key[0]][key] -= share

    def collect(self) -> Iterator[Metric]:
        """Every family of this process with the workers' shares added; pauses after each, so run it in a thread."""
        for family in self.registry.collect():
            yield self._merged(family)
            time.sleep(PAUSE)

    def _merged(self, family: Metric) -> Metric:
        extra = dict(self._totals.get(family.name, ()))
        if not extra:
            return family
        merged = Metric(family.name, family.documentation, family.type)
        for sample in family.samples:
            share = extra.pop((sample.name, tuple(sample.labels.items())), 0.0)
            merged.samples.append(Sample(sample.name, sample.labels, sample.value + share))
        merged.samples.extend(Sample(name, dict(labels), value) for (name, labels), value in extra.items())
        return merged


def _travels(family: Metric) -> bool:
    return family.name.startswith("relay_") and (family.type in ("counter", "histogram") or family.name in _summed)


def _sample_names(family: Metric) -> tuple[str, ...]:
    if family.type == "counter":
        return (f"{family.name}_total",)
    if family.type == "histogram":
        return tuple(f"{family.name}{suffix}" for suffix in ("_bucket", "_count", "_sum"))
    return (family.name,)


LEDGER = Ledger()
drain, absorb, forget = LEDGER.drain, LEDGER.absorb, LEDGER.forget


async def exposition() -> bytes:
    """The text of `/metrics` (CONTENT_TYPE), made in a thread that yields often: a scrape never blocks the loop for 20 ms."""
    TASKS.set(len(asyncio.all_tasks()))
    return await asyncio.to_thread(generate_latest, LEDGER)


async def watch_loop(interval: float = 0.25) -> None:
    """Observe how late the event loop wakes us, for ever; `interval` in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        EVENTLOOP_LAG.observe(max(0.0, loop.time() - due))


def certificate(name: str, not_after: float, now: Callable[[], float] = time.time) -> None:
    """Expose the seconds until this certificate expires.

    name       the file, as configured
    not_after  UTC seconds
    """
    TLS_CERT_EXPIRY.labels(name).set_function(lambda: not_after - now())


def release() -> str:
    """The version of the installed package, "0+source" when run from a tree that was never installed."""
    try:
        return version("relay-mta")
    except PackageNotFoundError:
        return "0+source"


# Process

ProcessCollector(registry=REGISTRY)
BUILD_INFO = gauge("build_info", "Always 1; the version of Relay and of Python", "version", "python")
BUILD_INFO.labels(release(), platform.python_version()).set(1)
LAG = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
EVENTLOOP_LAG = histogram("eventloop_lag_seconds", "How late the event loop woke a task that slept", buckets=LAG)
TASKS = gauge("eventloop_tasks", "Tasks of the main process that have not ended")
TLS_CERT_EXPIRY = gauge("tls_cert_expiry_seconds", "Seconds until the certificate of a listener expires, negative afterwards", "file")

CONFIG_EPOCH = gauge("config_epoch", "UTC seconds at which the configuration in use was read")
CONFIG_EPOCH.set_to_current_time()
CONFIG_RELOADS = counter("config_reload_total", "SIGHUPs by what came of them: ok, or refused and the old configuration goes on", "result")

# Policies

POLICY_SECONDS = Tally("policy_seconds", "Seconds spent in each policy, waiting included; by the number of messages the mean", "policy")
POLICY_DECISIONS = counter("policy_decisions_total", "What policies decided, by policy and outcome", "policy", "outcome")

BOUNCES = counter("bounces_total", "Recipients that ended without delivery, at delivery or by a report that came later, by category", "category")

LEFT = counter("unsubscribe_events_total", "People who left by what their mail shows: one-click, page, mailto; each once", "method")

# The SMTP listener

TRANSACTION = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 300.0)
SMTP_COMMANDS = Tally("smtp_commands", "Commands of SMTP clients by the class of their answer, the message after DATA counted with it", "verb", "code_class")
SMTP_READ = histogram("smtp_data_read_seconds", "From the 354, or the first BDAT, to the last octet of a message", buckets=TRANSACTION)
SMTP_COMMIT = histogram("smtp_data_commit_seconds", "From the final dot to its answer: policies and the durable commit", buckets=TRANSACTION)
SMTP_TRANSACTION = histogram("smtp_transaction_seconds", "From MAIL to the answer to the final dot", buckets=TRANSACTION)
SMTP_CONNECTIONS_OPEN = gauge("smtp_connections_open", "Connections of SMTP clients that are open now", "listener", summed=True)
SMTP_CONNECTIONS = counter("smtp_connections_total", "Connections of SMTP clients that ended, by how", "listener", "result")
SMTP_CONNECTIONS_DENIED = counter("smtp_connections_denied_total", "Connections turned away before a greeting", "reason")
SMTP_AUTH = counter("smtp_auth_total", "AUTH commands by mechanism and result (ok, failed, locked, fault)", "mech", "result")
SMTP_TLS_SESSIONS = counter("smtp_tls_sessions_total", "TLS sessions by protocol, family of their cipher, and direction (in, out)",
                            "proto", "cipher_family", "direction")
MESSAGES_REJECTED = counter("messages_rejected_total", "Refusals by stage of the conversation and enhanced status", "stage", "reason")
