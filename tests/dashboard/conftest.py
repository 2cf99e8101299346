"""A relay on each database for the pages' tests; a test gets a project of its own, and a visitor who is signed in to it."""

import pytest

from tests.support import fixtures
from tests.support.visitor import visiting

served, tenant = fixtures.served, fixtures.tenant

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="package")
def chromium(need):
    """The one browser of all walks."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=need("chromium"), args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visitor(tenant):
    return visiting(tenant)
