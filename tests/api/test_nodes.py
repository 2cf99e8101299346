"""Two relays on one PostgreSQL: what must hold across nodes. Only one of them delivers; requests come to both."""

import concurrent.futures
import itertools

import pytest

from relay.clock import iso
from tests.support.served import Served, Tenant, email


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, empty_store):
    """The node that delivers, and one that does not."""
    first, second = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    with empty_store("postgresql", first) as url, Served(first, url) as one, Served(second, url) as two:
        yield sorted((one, two), key=lambda node: not node.relay.leader.leading)


@pytest.fixture
def tenants(nodes):
    """The same key at both."""
    first = nodes[0].tenant()
    return [first, Tenant(nodes[1], first.project, first.number, first.key)]


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool


def arrived(nodes, one):
    return sum(f"<{one}@relay.test>".encode() in each.content for node in nodes for each in node.sink.messages)


def test_the_same_key_at_both_nodes_at_once_sends_once(nodes, tenants, threads):
    answers = list(threads.map(lambda tenant: tenant.send(idempotency_key="k"), itertools.islice(itertools.cycle(tenants), 12)))
    assert len({each["id"] for each in answers}) == 1
    assert sum("replayed" not in each for each in answers) == 1
    tenants[1].until(f"/emails/{answers[0]['id']}", lambda got: got["status"] == "delivered")
    assert arrived(nodes, answers[0]["id"]) == 1


@pytest.mark.parametrize("act", ["cancel", "reschedule"])
def test_of_an_act_at_the_other_node_and_the_sending_exactly_one_wins(nodes, tenants, threads, act):
    due = iso(nodes[0].relay.clock.now() + 0.5)
    sent = [each["id"] for each in tenants[0].post("/emails/batch", {"emails": [email(scheduled_at=due) for _ in range(16)]}, 202)["data"]]

    def done(one):
        if act == "cancel":
            return tenants[1].http.post(f"/emails/{one}/cancel").status_code
        return tenants[1].http.patch(f"/emails/{one}", json={"scheduled_at": "2027-08-01T00:00:00Z"}).status_code

    statuses = dict(zip(sent, threads.map(done, sent), strict=True))
    assert set(statuses.values()) <= {200, 422, 503}  # 503: the other node did not answer in time, and nothing was done
    for one, status in statuses.items():
        wanted = {"cancel": "cancelled", "reschedule": "scheduled"}[act] if status == 200 else "delivered"
        tenants[0].until(f"/emails/{one}", lambda got, wanted=wanted: got["status"] == wanted)
        assert arrived(nodes, one) == (0 if status == 200 else 1)


def test_a_cancel_is_put_off_when_nobody_delivers(nodes, tenants):
    sent = tenants[0].send(scheduled_at="2027-08-01T00:00:00Z")
    other = nodes[1].relay.store
    other.notify, notify = lambda *_told: None, other.notify  # the network between the nodes is cut
    try:
        answer = tenants[1].http.post(f"/emails/{sent['id']}/cancel")
    finally:
        other.notify = notify
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert tenants[0].get(f"/emails/{sent['id']}")["status"] == "scheduled"
