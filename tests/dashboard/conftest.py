"""A relay on each database for the pages' tests; a test gets a project of its own, and a visitor who is signed in to it."""

import pytest

from tests.support import fixtures
from tests.support.visitor import visiting

served, tenant, chromium = fixtures.served, fixtures.tenant, fixtures.chromium

@pytest.fixture
def visitor(tenant):
    return visiting(tenant)
