"""A real Postfix that takes our mail and bounces or delays it later, to the return path that its copy had."""

import time

import pytest

from relay.control.explain import explain
from relay.store import domains
from relay.store.domains import VERIFIED, Domain
from tests.inbound.conftest import receiving
from tests.support import postfix
from tests.support.ports import free_port

LATE = {"smtpd_reject_unlisted_recipient": "no", "disable_dns_lookups": "yes"}  # who nobody is, it finds out after its 250
SLOW = {  # mail for slow.example waits for a server that is down, and its sender is told so at the second try
    "relay_domains": "slow.example", "transport_maps": "inline:{slow.example=smtp:[127.0.0.1]:1}", "delay_warning_time": "1s", "queue_run_delay": "1s",
    "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def pair(request, tmp_path):
    """A relay on each database, and the Postfix that takes what it sends and bounces to it."""
    port = free_port()
    with receiving(request, tmp_path, RELAY_DELIVERY__ROUTE=f'[{{domain = "*", host = "127.0.0.1:{port}"}}]') as served:
        back = {"relayhost": f"[127.0.0.1]:{served.inbound_port}"}
        with postfix.mx(["example.net"], "127.0.0.1", port, settings={**LATE, **SLOW, **back}) as far:
            yield served, far


def test_a_real_postfix_bounces_and_delays_to_us(pair):
    served, far = pair
    tenant = served.tenant()
    row = Domain(served.relay.maker.next(), tenant.number, "our.example", VERIFIED, {"MX b.our.example": True}, {"return_path": "b.our.example"},
                 time.time(), time.time())
    served.call(served.relay.store.write(domains.add, row))
    late = tenant.send(**{"from": "you@our.example", "to": ["late@slow.example"]})
    sent = tenant.send(**{"from": "you@our.example", "to": ["nobody@example.net", "somebody@example.net"]})
    far.wait_log(r"to=<bounce\+\w+@b\.our\.example>.*status=sent")
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "bounced")
    (told,) = served.act(explain, sent["id"])["messages"]
    assert {each["to"]: each["state"] for each in told["recipients"]} == {"nobody@example.net": "bounced", "somebody@example.net": "delivered"}
    (entry,) = tenant.get("/suppressions")["suppressions"]
    assert (entry["email"], entry["reason"], entry["evidence"]["reporter"]) == ("nobody@example.net", "hard_bounce", "mx.postfix.test")
    events = tenant.until(f"/emails/{late['id']}/events", lambda got: "deferred" in [each["type"] for each in got["events"]])["events"]
    assert [each["type"] for each in events] == ["queued", "sent", "delivered", "deferred"]
    assert tenant.get(f"/emails/{late['id']}")["status"] == "delivered"
    heard = served.act(explain, late["id"])["messages"][0]["recipients"][0]["attempts"][-1]
    assert (heard["phase"], heard["result"], heard["class"]) == ("report", "tempfail", "soft")
