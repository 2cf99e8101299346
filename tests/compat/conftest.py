"""The relay of the API's tests, on each database, asked in the other platforms' words."""

import pytest
from poststack import PostStack

from tests.support import fixtures

served, tenant = fixtures.served, fixtures.tenant


@pytest.fixture
def live(tenant):
    """The official SDK with a full_access key of a project of its own."""
    with client(tenant) as made:
        yield made


@pytest.fixture
def stranger(served):
    """The SDK with a key of another project."""
    with client(served.tenant()) as made:
        yield made


def client(tenant):
    return PostStack(tenant.key, base_url=f"{tenant.served.base}/poststack", max_retries=0)


class Plunk:
    """Plunk's routes with a key, by plain HTTP; an answer with another status than the one named fails the test."""

    def __init__(self, tenant):
        self.tenant, self.http = tenant, tenant.http
        self.mark = len(tenant.served.sink.messages)  # what arrives from now on is of this test

    def ask(self, method, path, body=None, status=200, **headers):
        answer = self.http.request(method, f"/plunk{path}", json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
        assert answer.status_code == status, f"{answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def get(self, path, status=200):
        return self.ask("GET", path, None, status)

    def post(self, path, body=None, status=200, **headers):
        return self.ask("POST", path, body, status, **headers)

    def patch(self, path, body, status=200):
        return self.ask("PATCH", path, body, status)

    def delete(self, path, body=None, status=200):
        return self.ask("DELETE", path, body, status)

    def contact(self, email="jane@example.com", status=201, **given):
        return self.post("/contacts", {"email": email, **given}, status)


@pytest.fixture
def plunk(tenant):
    return Plunk(tenant)


@pytest.fixture
def other(served):
    """The same with a key of another project."""
    return Plunk(served.tenant())
