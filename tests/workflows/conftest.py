"""A relay on each database for workflows, on a clock that tests move; a test gets a project of its own, so tests see nothing of each other."""

import pytest

from relay.clock import Clock
from tests.support.databases import DATABASES
from tests.support.fixtures import serving
from tests.workflows.flowing import Calendar, Flows


@pytest.fixture(scope="package")
def calendar():
    return Calendar()


@pytest.fixture(scope="package", params=DATABASES)
def served(request, calendar):
    with serving(request, clock=Clock(now=calendar.now)) as relay:
        yield relay


@pytest.fixture
def owner(served):
    return Flows(served.tenant())


@pytest.fixture
def other(served):
    """A second project beside the first."""
    return Flows(served.tenant())
