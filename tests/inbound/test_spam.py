"""Mail to domains is scored by a real rspamd: clean, suspicious and spam, on both databases; one that is off, down or silent leaves it unscored and on time."""

import socket

import pytest

from tests.inbound.conftest import Receiving, receiving
from tests.inbound.letters import Stranger, home
from tests.inbound.test_received import told
from tests.support.ports import free_port
from tests.support.rspamd import rspamd

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"


@pytest.fixture(scope="module")
def filtering(tmp_path_factory):
    with rspamd(tmp_path_factory.mktemp("rspamd")) as (url, _process):
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def scored(request, tmp_path_factory, filtering):
    with receiving(request, tmp_path_factory.mktemp("scored"), RELAY_RSPAMD__URL=filtering, RELAY_RSPAMD__TIMEOUT="60s") as relay:
        yield relay


def taken(served, tenant, far, **given):
    """The one message that the tenant got, from a stranger whose letter has these."""
    name, _ = home(tenant)
    assert served.post(f"help@{name}", far.letter(f"help@{name}", **given), f"joe@{far.name}")[0] == 250
    return told(tenant)[0]


@pytest.mark.parametrize(("given", "low", "high", "verdict"), [
    pytest.param({"subject": "Your invoice"}, -10, 6, "clean", id="clean"),
    pytest.param({"subject": "A suspicious invoice"}, 6, 15, "spam", id="rspamd-would-add-a-field"),
    pytest.param({"body": GTUBE}, 15, 99, "spam", id="rspamd-would-reject"),
])
def test_a_letter_has_its_score_and_is_never_refused(scored, given, low, high, verdict):
    tenant = scored.tenant()
    found = taken(scored, tenant, Stranger(scored), **given)
    assert low <= found["spam_score"] < high
    assert found["spam_verdict"] == verdict
    assert tenant.get(f"/inbound/{found['id']}")["spam_score"] == found["spam_score"]
    (event,) = [each["data"] for each in tenant.get("/events")["events"] if each["type"] == "email.inbound"]
    assert (event["spam_score"], event["spam_verdict"]) == (found["spam_score"], verdict)


def test_what_the_author_disowns_stays_spam_whatever_its_score(scored):
    tenant, far, victim = scored.tenant(), Stranger(scored), Stranger(scored)
    found = taken(scored, tenant, far, subject="Your invoice", author=f"boss@{victim.name}")
    assert found["spam_score"] < 6
    assert found["spam_verdict"] == "spam"


def test_a_score_is_its_projects_own(scored):
    tenant, other = scored.tenant(), scored.tenant()
    mine, theirs = taken(scored, tenant, Stranger(scored), body=GTUBE), taken(scored, other, Stranger(scored), subject="Your invoice")
    assert (mine["spam_verdict"], theirs["spam_verdict"]) == ("spam", "clean")
    assert [each["id"] for each in told(tenant)] == [mine["id"]]


def test_without_rspamd_nobody_has_scored_it(served, tenant):
    found = taken(served, tenant, Stranger(served), body=GTUBE)
    assert (found["spam_score"], found["spam_verdict"]) == (None, "clean")  # as DMARC alone has it


@pytest.fixture(params=["down", "silent"])
def absent(request):
    """The URL of an rspamd that is not there, or that takes a request and never answers."""
    if request.param == "down":
        yield f"http://127.0.0.1:{free_port()}"
        return
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        yield f"http://127.0.0.1:{hanging.getsockname()[1]}"


def test_an_rspamd_that_does_not_answer_holds_nothing_up(tmp_path, absent):
    with Receiving(tmp_path, f"sqlite:///{tmp_path / 'relay.db'}", RELAY_RSPAMD__URL=absent, RELAY_RSPAMD__TIMEOUT="0.1s") as relay:
        found = taken(relay, relay.tenant(), Stranger(relay), body=GTUBE)
        assert (found["spam_score"], found["spam_verdict"]) == (None, "clean")  # as DMARC alone has it
