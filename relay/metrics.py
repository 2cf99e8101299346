"""Every series that Relay exposes, in one place, under the prefix `relay_`.

Labels are provider or site (top-K and "other"), source, class: never a recipient, a message id or a raw domain. Code on the hot path resolves its
labels once and keeps the child. With `--workers N` the workers send their increments to the main process, which alone exposes `/metrics`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SLOW = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)


def counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"relay_{name}", text, labels, registry=REGISTRY)


def gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"relay_{name}", text, labels, registry=REGISTRY)


def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = FAST) -> Histogram:
    return Histogram(f"relay_{name}", text, labels, buckets=buckets, registry=REGISTRY)


POLICY_DECISIONS = counter("policy_decisions_total", "What policies decided, by policy and outcome", "policy", "outcome")
