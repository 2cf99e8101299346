"""A relay on each database for the API's tests; a test gets a project of its own, so tests see nothing of each other."""

from tests.support import fixtures

served, tenant = fixtures.served, fixtures.tenant
