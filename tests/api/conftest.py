"""A relay on each database for the API's tests; a test gets a project of its own, so tests see nothing of each other."""

import pytest

from tests.support.databases import DATABASES
from tests.support.served import Served


@pytest.fixture(scope="package", params=DATABASES)
def served(request, tmp_path_factory, empty_store):
    directory = tmp_path_factory.mktemp(f"api-{request.param}")
    with empty_store(request.param, directory) as url, Served(directory, url) as relay:
        yield relay


@pytest.fixture
def tenant(served):
    return served.tenant()
