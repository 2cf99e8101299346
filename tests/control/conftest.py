"""A Control on a real store of either database, with a DNS server of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.control import Control, alone
from relay.settings import Settings, load
from tests.support.dns import DnsServer


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, store_url: str, dns: DnsServer) -> Settings:
    return made(tmp_path, store_url, dns)


def made(tmp_path: Path, store_url: str, dns: DnsServer) -> Settings:
    return load(None, {
        "RELAY_DATA_DIR": str(tmp_path / "data"), "RELAY_STORE__URL": store_url, "RELAY_SECRET_KEY": "s" * 32, "RELAY_HOSTNAME": "mail.relay.example",
        "RELAY_DNS__NAMESERVERS": dns.address, "RELAY_STORE__MIN_FREE": "1MB", "RELAY_STORE__RESERVE": "1MB", "RELAY_STORE__ACCEPT_OLD_SQLITE": "true"})


@pytest.fixture
def told() -> list[str]:
    """The kinds of change that a running relay's caches would have heard of."""
    return []


@pytest.fixture
async def control(settings: Settings, told: list[str]) -> AsyncIterator[Control]:
    async with alone.control(settings) as own:
        own.changed = told.append
        yield own
