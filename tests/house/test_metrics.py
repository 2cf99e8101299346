"""The series: one total over workers, bounded labels, a scrape that leaves the loop alone, a text that promtool accepts."""

from __future__ import annotations

import asyncio
import pickle
import shutil
import subprocess
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parsed

from relay import metrics


def registry() -> tuple[CollectorRegistry, Counter, Histogram, Gauge]:
    """A process's own series, as main and every worker have them."""
    own = CollectorRegistry()
    return (
        own,
        Counter("relay_mail_total", "t", ["protocol"], registry=own),
        Histogram("relay_wait_seconds", "t", ["site"], buckets=(0.1, 1.0), registry=own),
        Gauge("relay_open", "t", registry=own),
    )


def totals(ledger: metrics.Ledger) -> dict:
    return {(s.name, *s.labels.values()): s.value for family in parsed(generate_latest(ledger).decode()) for s in family.samples}


@pytest.fixture
def summed():
    metrics._summed.add("relay_open")
    yield
    metrics._summed.discard("relay_open")


def test_counts_of_workers_add_up_to_one_total(summed):
    own, mail, wait, _ = registry()
    main = metrics.Ledger(own)
    mail.labels("smtp").inc(5)
    wait.labels("a").observe(0.05)
    for worker in ("w1", "w2"):
        theirs, their_mail, their_wait, their_open = registry()
        ledger = metrics.Ledger(theirs)
        their_mail.labels("smtp").inc(2)
        their_wait.labels("b").observe(0.5)
        their_open.set(3)
        main.absorb(pickle.loads(pickle.dumps(ledger.drain())), worker)
        their_mail.labels("smtp").inc()
        main.absorb(ledger.drain(), worker)
        assert ledger.drain() == []
    seen = totals(main)
    assert seen["relay_mail_total", "smtp"] == 11
    assert [seen["relay_wait_seconds_bucket", le, "b"] for le in ("0.1", "1.0", "+Inf")] == [0, 2, 2]
    assert seen["relay_wait_seconds_count", "a"] == 1
    assert seen["relay_open",] == 6
    main.forget("w1")
    assert totals(main)["relay_open",] == 3
    assert totals(main)["relay_mail_total", "smtp"] == 11


def test_a_sample_that_main_does_not_know_is_ignored():
    main = metrics.Ledger(registry()[0])
    main.absorb([("relay_mail_total", [["protocol", "smtp"]], 1.0), ("relay_gone_total", (), 1.0)], "w")
    assert totals(main)["relay_mail_total", "smtp"] == 1
    assert not any(name.startswith("relay_gone") for name, *_ in totals(main))


def test_few_bounds_the_labels():
    few = metrics.Few(3, ["google"])
    assert [few.label(name) for name in ("a", "b", "c", "a", "google", "d")] == ["a", "b", "other", "a", "google", "other"]


def test_a_name_earns_its_label():
    earned = metrics.Earned(limit=2, after=3)
    assert [earned.label(name) for name in ("small", "big", "big", "big", "big")] == ["other", "other", "other", "big", "big"]
    assert [earned.label("small") for _ in range(3)] == ["other", "small", "small"]
    assert [earned.label("late") for _ in range(4)] == ["other"] * 4


def test_names_that_do_not_come_again_are_forgotten(monkeypatch):
    monkeypatch.setattr(metrics, "FORGET", 10)
    earned = metrics.Earned(limit=2, after=2)
    assert {earned.label(f"site{number}") for number in range(100)} == {"other"}
    assert len(earned._asked) == 10
    assert [earned.label(name) for name in ("site0", "site99")] == ["other", "site99"]


def test_a_tally_travels_like_a_counter():
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    their, our = (metrics.Tally("verbs", "t", "verb", "class", registry=each) for each in (theirs, ours))
    their.counts["RCPT", "2xx"] += 3
    our.counts["RCPT", "2xx"] += 1
    ledger, main = metrics.Ledger(theirs), metrics.Ledger(ours)
    main.absorb(pickle.loads(pickle.dumps(ledger.drain())), "w1")
    their.counts["QUIT", "2xx"] += 1
    main.absorb(ledger.drain(), "w1")
    assert totals(main) == {("relay_verbs_total", "2xx", "RCPT"): 4, ("relay_verbs_total", "2xx", "QUIT"): 1}


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.floats(0, 1e6) | st.sampled_from([0.1, 1.0]))))
def test_a_spread_reads_like_the_librarys_histogram(seen: list[tuple[str, float]]):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = (0.1, 1.0, 2500.0)
    wanted = Histogram("relay_waited", "t", buckets=bounds, registry=theirs), Histogram("relay_took", "t", ["site"], buckets=bounds, registry=theirs)
    made = metrics.Spread("waited", "t", buckets=bounds, registry=ours), metrics.Spread("took", "t", "site", buckets=bounds, registry=ours)
    for site, value in seen:
        for plain, labelled in (wanted, made):
            (labelled.labels(site) if site else plain).observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_certificates_count_down():
    metrics.certificate("test.pem", 2_000.0, now=lambda: 500.0)
    assert metrics.REGISTRY.get_sample_value("relay_tls_cert_expiry_seconds", {"file": "test.pem"}) == 1_500.0
    metrics.TLS_CERT_EXPIRY.remove("test.pem")


async def test_a_scrape_of_many_series_does_not_block_the_loop():
    """The loop gets its turns all the while: never has the other thread used half of the processor's time that it needs since the turn before."""
    own = CollectorRegistry()
    for number in range(20):
        wait = metrics.Spread(f"wait{number}_seconds", "t", "site", registry=own)
        for site in range(100):
            wait.labels(f"site{site}").observe(0.5)
    clocks, texts, seen = [], [], threading.Event()

    def scrape() -> None:
        clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        texts.append(generate_latest(metrics.Ledger(own)))
        seen.wait()  # the clock goes with its thread

    scraping, spent = asyncio.create_task(asyncio.to_thread(scrape)), [0.0]
    while not texts:
        await asyncio.sleep(0)
        spent += [time.clock_gettime(clock) for clock in clocks]
    seen.set()
    await scraping
    between = [after - before for before, after in pairwise(spent[1:])]
    assert max(between) < sum(between) / 2
    assert len(texts[0]) > 1_000_000


async def test_a_scrape_is_read_and_written_away_from_the_loop():
    threads = []

    class Where:
        def collect(self) -> list[Gauge]:
            threads.append(threading.get_ident())
            return []

    where = Where()
    metrics.REGISTRY.register(where)
    threads.clear()  # registering collects too
    try:
        await metrics.exposition()
    finally:
        metrics.REGISTRY.unregister(where)
    assert threads
    assert threading.get_ident() not in threads


async def test_a_late_loop_is_observed():
    def slow() -> float:
        samples = {s.labels.get("le"): s.value for f in metrics.EVENTLOOP_LAG.collect() for s in f.samples if s.name.endswith("_bucket")}
        return samples["+Inf"] - samples["0.02"]

    before, watching = slow(), asyncio.create_task(metrics.watch_loop(0.01))
    await asyncio.sleep(0)
    subprocess.run([shutil.which("sleep"), "0.06"], check=True)  # noqa: ASYNC221 - the loop is blocked on purpose
    async with asyncio.timeout(60):
        while slow() == before:
            await asyncio.sleep(0)
    watching.cancel()
