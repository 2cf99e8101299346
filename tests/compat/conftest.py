"""The relay of the API's tests, on each database, asked in the other platforms' words."""

import pytest
from poststack import PostStack

from tests.api.conftest import served, tenant  # noqa: F401  the same fixtures, with a relay of this package's own


@pytest.fixture
def live(tenant):  # noqa: F811
    """The official SDK with a full_access key of a project of its own."""
    with client(tenant) as made:
        yield made


@pytest.fixture
def stranger(served):  # noqa: F811
    """The SDK with a key of another project."""
    with client(served.tenant()) as made:
        yield made


def client(tenant):  # noqa: F811
    return PostStack(tenant.key, base_url=f"{tenant.served.base}/poststack", max_retries=0)
