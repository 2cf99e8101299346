"""A relay on each database for broadcasts; a test gets a project of its own, so tests see nothing of each other."""

import pytest

from tests.broadcasts.mailing import Mailing
from tests.support import fixtures

served = fixtures.served

@pytest.fixture
def tenant(served):
    return Mailing(served.tenant())


@pytest.fixture
def other(served):
    """A second project beside the first."""
    return Mailing(served.tenant())
