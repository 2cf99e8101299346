"""Slices of an import with their domains looked up: many at a time, each once, and for as long as an import may wait."""

from __future__ import annotations

import asyncio

import pytest

from relay.audience import slices
from relay.audience.reading import FILE, Ground, Reading
from relay.audience.slices import Slices
from relay.delivery.dns import Resolver
from tests.support.dns import DnsServer, Fault, mail


@pytest.fixture
def dns():
    with DnsServer(mail("example.com", *(f"d{n}.example" for n in range(30)))) as server:
        yield server


async def taken(tmp_path, dns, domains, **ground):
    """The slices of a file with an address in each of the domains."""
    path = tmp_path / "people.csv"
    path.write_text("email\n" + "\n".join(f"person{n}@{domain}" for n, domain in enumerate(domains)))
    mine = Slices(Reading(str(path), path.name, FILE), Resolver([dns.address]), asyncio.to_thread)
    mine.begin(Ground(**ground))
    found = []
    while some := await mine.next():
        found += [part for part, _ in some]
    return found


async def test_a_domain_is_asked_once_however_many_slices_it_is_in(tmp_path, dns):
    parts = await taken(tmp_path, dns, ["example.com", "gone.example"] * 1_500, slice=100)
    assert ([part.count for part in parts], sum(len(part.faults) for part in parts)) == ([50] * 30, 1_500)
    assert (dns.queries["example.com", "MX"], dns.queries["gone.example", "MX"]) == (1, 1)


async def test_domains_of_many_slices_are_asked_together_within_bounds(tmp_path, dns, monkeypatch):
    monkeypatch.setattr(slices, "LOOKUPS", 7)
    dns.faults.update((f"d{n}.example", Fault(delay=0.05)) for n in range(30))
    parts = await taken(tmp_path, dns, [f"d{n}.example" for n in range(30)], slice=3)
    assert [part.count for part in parts] == [3] * 10
    assert 1 < dns.most_in_flight <= 7


async def test_what_dns_says_too_late_keeps_the_rows_and_is_not_waited_for_again(tmp_path, dns, monkeypatch):
    monkeypatch.setattr(slices, "PATIENCE", 0.2)
    monkeypatch.setattr(slices, "AHEAD", 1)
    dns.faults["gone.example"] = Fault(drop=True)
    parts = await taken(tmp_path, dns, ["gone.example", "example.com", "gone.example"], slice=1)
    assert [part.count for part in parts] == [1, 1, 1]
    assert dns.queries["gone.example", "MX"] == 1, "the resolver would have asked again"


async def test_nothing_is_asked_where_domains_are_not_looked_up(tmp_path, dns):
    (part,) = await taken(tmp_path, dns, ["gone.example"], look=False)
    assert (part.count, dns.queries.total()) == (1, 0)
