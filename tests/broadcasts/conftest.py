"""A relay on each database for broadcasts; a test gets a project of its own, so tests see nothing of each other."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.broadcasts.mailing import Mailing
from tests.support.served import Served


def _apart(work):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def served(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(f"broadcasts-{request.param}")
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
    return Mailing(served.tenant())


@pytest.fixture
def other(served):
    """A second project beside the first."""
    return Mailing(served.tenant())
