"""What the project of a test has."""

import pytest

from tests.compat.poststack import RULES


@pytest.fixture
def alice(live):
    return live.contacts.create({"email": "alice@example.com", "first_name": "Alice", "properties": {"plan": "pro"}})["contact"]


@pytest.fixture
def segment(live):
    return live.segments.create({"name": "Pros", "rules": RULES})["segment"]


@pytest.fixture
def topic(live):
    return live.subscription_topics.create({"name": "News"})["topic"]


@pytest.fixture
def template(live):
    return live.templates.create({"name": "Welcome", "subject": "Hello {{ name }}", "html": "<p>Hi {{ name }}</p>"})["template"]


@pytest.fixture
def webhook(live):
    return live.webhooks.create({"url": "https://hooks.example.com/in", "events": ["email.delivered"]})["webhook"]
