"""Fixtures that several packages have, each with a relay of its own: a conftest says `served, tenant = fixtures.served, fixtures.tenant`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers
from tests.support.databases import DATABASES
from tests.support.served import Served, Tenant

FLAGS = [  # Chromium's: no sandbox for root, and nothing that goes to the network by itself
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def serving(request: pytest.FixtureRequest, directory: Path | None = None, kind: type[Served] = Served, **options: Any) -> Iterator[Any]:
    """A relay of this kind on the database that the fixture's parameter names, for as long as the fixture lasts.

    directory  for its data, a new one without one
    options    what the kind takes beside directory and database
    """
    where = directory or request.getfixturevalue("tmp_path_factory").mktemp(f"served-{request.param}")
    with request.getfixturevalue("empty_store")(request.param, where) as url, kind(where, url, **options) as relay:
        yield relay


@pytest.fixture(scope="package", params=DATABASES)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A relay on each database for a package's tests."""
    with serving(request) as relay:
        yield relay


@pytest.fixture
def tenant(served: Served) -> Tenant:
    """A project of a test's own, so tests see nothing of each other."""
    return served.tenant()


def _chromium(need: Any) -> Iterator[Any]:
    """A browser for the walks of a package, or of a module whose neighbours have an event loop: while it is there, this thread's loop is Playwright's."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=peers.find("chromium-headless-shell") or need("chromium"), args=FLAGS)
        yield running
        running.close()


chromium = pytest.fixture(scope="package", name="chromium")(_chromium)
chromium_of_module = pytest.fixture(scope="module", name="chromium")(_chromium)
