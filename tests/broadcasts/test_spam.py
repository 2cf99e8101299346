"""rspamd judges a broadcast once a variant, before it starts; its copies carry the score."""

from __future__ import annotations

import pytest

from relay.scoring import REQUESTS
from tests.broadcasts.mailing import Mailing
from tests.support.rspamd import rspamd
from tests.support.served import Served

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    with rspamd(tmp_path_factory.mktemp("rspamd")) as (url, _process):
        directory = tmp_path_factory.mktemp("scored")
        with Served(directory, f"sqlite:///{directory / 'relay.db'}", RELAY_RSPAMD__URL=url, RELAY_RSPAMD__TIMEOUT="60s") as relay:
            yield relay


@pytest.fixture
def mailing(scored):
    return Mailing(scored.tenant())


def asked():
    """How often rspamd has been asked."""
    return sum(sample.value for metric in REQUESTS.collect() for sample in metric.samples)


def test_a_variant_is_scored_once_and_its_copies_carry_the_score(mailing):
    mailing.people(3)
    number, before = mailing.draft(subject="A suspicious offer"), asked()
    mailing.post(f"/broadcasts/{number}/send")
    done = mailing.sent(number)
    assert (done["delivered"], asked() - before) == (3, 1)
    assert 5 <= done["spam_score"] < 10
    assert {email["id"] for email in mailing.get("/emails", tag=number)["emails"]}
    for email in mailing.get("/emails", tag=number)["emails"]:
        assert mailing.get(f"/emails/{email['id']}")["spam_score"] == done["spam_score"]


def test_each_variant_of_a_test_is_scored(mailing):
    mailing.people(4)
    test = {"variants": [{"subject": "One", "text": "1", "weight": 50}, {"subject": "Two", "text": "2", "weight": 50}], "test_sample_size": 50}
    number, before = mailing.draft(ab_test=test), asked()
    mailing.post(f"/broadcasts/{number}/send")
    mailing.until(f"/broadcasts/{number}", lambda b: b["delivered"] == 2)
    mailing.post(f"/broadcasts/{number}/end-ab-test")
    mailing.sent(number)
    assert asked() - before == 2
    assert [v["spam_score"] is not None for v in mailing.get(f"/broadcasts/{number}/variants")["variants"]] == [True, True]


def test_spam_is_refused_before_anybody_gets_it(mailing):
    mailing.people(2)
    number = mailing.draft(text=GTUBE)
    assert mailing.post(f"/broadcasts/{number}/send", status=422)["code"] == "spam_rejected"
    shown = mailing.get(f"/broadcasts/{number}")
    assert (shown["status"], shown["total_recipients"]) == ("draft", 0)
    assert mailing.mail(0) == []
