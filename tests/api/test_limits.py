"""Sending limits over HTTP: 429 with Retry-After, and the fields that say how much is left."""

import pytest

from tests.support.served import Served, email


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    directory = tmp_path_factory.mktemp("limited")
    with Served(directory, "", RELAY_LIMIT__KEY_PER_HOUR="3", RELAY_HTTP__MAX_BODY="100000") as relay:
        yield relay


def test_beyond_the_limit_is_a_429_that_says_when(limited):
    tenant = limited.tenant()
    for left in (2, 1, 0):
        answer = tenant.http.post("/emails", json=email())
        assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("3", str(left))
    answer = tenant.http.post("/emails", json=email())
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(answer.headers["retry-after"]) <= 3600 * 1.05  # a period is counted in twentieths
    assert tenant.get("/emails")["pagination"]["total"] == 3


def test_refused_and_replayed_sends_use_no_place(limited):
    tenant = limited.tenant()
    tenant.post("/suppressions", {"email": "gone@example.com"}, 201)
    for _ in range(5):
        assert tenant.http.post("/emails", json=email(to=["gone@example.com"])).status_code == 422
        tenant.send(idempotency_key="k")
    tenant.send()
    tenant.send()
    assert tenant.http.post("/emails", json=email()).status_code == 429


def test_more_recipients_than_the_limit_is_a_422(limited):
    answer = limited.tenant().http.post("/emails", json=email(to=[f"u{n}@example.com" for n in range(4)]))
    assert (answer.status_code, answer.json()["code"]) == (422, "send_limit_exceeded")


@pytest.mark.parametrize("pieces", [[b" " * 200_000], [b" " * 60_000] * 3], ids=["at once", "in pieces"])
def test_a_body_over_the_bound_is_a_413_whether_its_size_was_declared_or_not(limited, pieces):
    tenant = limited.tenant()
    for content in (b"".join(pieces), iter(pieces)):
        answer = tenant.http.post("/emails", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert tenant.send()["id"]
