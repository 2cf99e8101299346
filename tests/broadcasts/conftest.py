"""A relay on each database for broadcasts; a test gets a project of its own, so tests see nothing of each other."""

import pytest

from tests.broadcasts.mailing import Mailing
from tests.support.databases import DATABASES
from tests.support.served import Served


@pytest.fixture(scope="package", params=DATABASES)
def served(request, tmp_path_factory, empty_store):
    directory = tmp_path_factory.mktemp(f"broadcasts-{request.param}")
    with empty_store(request.param, directory) as url, Served(directory, url) as relay:
        yield relay


@pytest.fixture
def tenant(served):
    return Mailing(served.tenant())


@pytest.fixture
def other(served):
    """A second project beside the first."""
    return Mailing(served.tenant())
