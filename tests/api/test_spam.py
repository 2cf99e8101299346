"""Sends scored by a real rspamd, and by one that is down or hangs."""

import socket
import threading
import time

import pytest

from relay.clock import iso
from relay.scoring import FAILURES, PAUSE
from tests.support.rspamd import rspamd
from tests.support.served import Served, email

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    with rspamd(tmp_path_factory.mktemp("rspamd")) as (url, _process):
        directory = tmp_path_factory.mktemp("scored")
        with Served(directory, f"sqlite:///{directory / 'relay.db'}", RELAY_RSPAMD__URL=url, RELAY_RSPAMD__TIMEOUT="60s") as relay:
            yield relay


def test_a_score_comes_with_the_answer_and_stays_on_the_email(scored):
    tenant = scored.tenant()
    sent = tenant.send()
    assert isinstance(sent["spam_score"], float)
    assert sent["spam_warnings"] == []
    assert tenant.get(f"/emails/{sent['id']}")["spam_score"] == sent["spam_score"]


def test_above_five_warns(scored):
    tenant = scored.tenant()
    sent = tenant.send(subject="a suspicious offer", idempotency_key="k")
    assert 5 <= sent["spam_score"] < 10
    warning = next(each for each in sent["spam_warnings"] if each["name"] == "TEST_SUSPICIOUS")
    assert (set(warning), warning["score"]) == ({"name", "score", "description"}, 7.0)
    assert tenant.send(subject="a suspicious offer", idempotency_key="k") == {**sent, "replayed": True}
    assert "spam_score" in {each["type"] for each in tenant.get(f"/emails/{sent['id']}/insights")["warnings"]}


def test_mail_that_waits_for_its_time_scores_as_if_it_left_now(scored):
    tenant = scored.tenant()
    later = scored.relay.clock.now() + 30 * 86_400
    assert tenant.send(scheduled_at=iso(later))["spam_score"] == pytest.approx(tenant.send()["spam_score"], abs=0.5)


def test_spam_is_refused_and_counts_nowhere(scored):
    tenant = scored.tenant()
    answer = tenant.http.post("/emails", json=email(text=GTUBE))
    assert (answer.status_code, answer.json()) == (422, {"error": "Email rejected by spam filter", "code": "spam_rejected"})
    batch = tenant.post("/emails/batch", {"emails": [email(text=GTUBE), email()]}, 202)["data"]
    assert (batch[0]["error"], "id" in batch[1]) == ("Email rejected by spam filter", True)
    assert tenant.get("/emails")["pagination"]["total"] == 1
    assert tenant.get("/usage")["sent"] == 1


def test_a_preview_shows_the_symbols(scored):
    tenant = scored.tenant()
    spam = tenant.post("/emails/spam-preview", email(subject="a suspicious offer"))
    assert (spam["skipped"], spam["score"] >= 5) == (False, True)
    assert spam["score"] == pytest.approx(tenant.send(subject="a suspicious offer")["spam_score"], abs=0.5)
    assert "TEST_SUSPICIOUS" in {each["name"] for each in spam["symbols"]}
    assert tenant.post("/emails/preview", email(text=GTUBE))["spam"]["action"] == "reject"


@pytest.fixture
def hanging():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = []
        threading.Thread(target=lambda: [taken.append(server.accept()) for _ in range(20)], daemon=True).start()
        yield server.getsockname()[1], taken


def test_an_rspamd_that_hangs_or_is_down_never_blocks(hanging, tmp_path):
    port, taken = hanging
    with Served(tmp_path, "", RELAY_RSPAMD__URL=f"http://127.0.0.1:{port}", RELAY_RSPAMD__TIMEOUT="200ms") as relay:
        tenant, begun = relay.tenant(), time.monotonic()
        for _ in range(10):
            assert tenant.send()["spam_score"] is None
        assert len(taken) <= FAILURES * (1 + (time.monotonic() - begun) // PAUSE)  # as many time-outs, then it is left alone
    with Served(tmp_path / "down", "", RELAY_RSPAMD__URL="http://127.0.0.1:9") as relay:
        assert relay.tenant().send()["spam_score"] is None
