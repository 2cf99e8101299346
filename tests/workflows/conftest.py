"""A relay on each database for workflows, on a clock that tests move; a test gets a project of its own, so tests see nothing of each other."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from relay.clock import Clock
from tests.support.served import Served
from tests.workflows.flowing import Calendar, Flows


def _apart(work):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="package")
def calendar():
    return Calendar()


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def served(request, tmp_path_factory, calendar):
    directory = tmp_path_factory.mktemp(f"workflows-{request.param}")
    if request.param == "sqlite":
        with Served(directory, f"sqlite:///{directory / 'relay.db'}", Clock(now=calendar.now)) as relay:
            yield relay
        return
    server = request.getfixturevalue("postgres_server")
    url = _apart(server.create())
    with Served(directory, url, Clock(now=calendar.now)) as relay:
        yield relay
    _apart(server.drop(url))


@pytest.fixture
def owner(served):
    return Flows(served.tenant())


@pytest.fixture
def other(served):
    """A second project beside the first."""
    return Flows(served.tenant())
