"""A relay on each database for the pages' tests; a test gets a project of its own, and a visitor who is signed in to it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.served import Served
from tests.support.visitor import visiting

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


def _apart(work):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def served(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(f"dashboard-{request.param}")
    if request.param == "sqlite":
        with Served(directory, f"sqlite:///{directory / 'relay.db'}") as relay:
            yield relay
        return
    server = request.getfixturevalue("postgres_server")
    url = _apart(server.create())
    with Served(directory, url) as relay:
        yield relay
    _apart(server.drop(url))


@pytest.fixture
def tenant(served):
    return served.tenant()


@pytest.fixture
def visitor(tenant):
    return visiting(tenant)
