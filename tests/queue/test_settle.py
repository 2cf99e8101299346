"""What outcomes mean, as a table."""

from __future__ import annotations

import pytest

from relay import bounces
from relay.delivery.outcome import Outcome
from relay.mail import header
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient
from relay.mail.reply import Reply, parse
from relay.queue import settle
from relay.queue.waiting import Waiting
from relay.schedule import DAY, HOUR, MINUTE

RULES = bounces.read()
NOW = 1_800_000_000.0


def message(protocol="smtp", sender="app@example.com"):
    return Message(1, Principal("key", 9), Envelope(sender), header.Header(), b"", Origin(protocol))


def person(notify=""):
    return Recipient(2, "ann@example.net", "ann@example.net", "example.net", notify)


def waiting(age=0.0, **given):
    return Waiting(2, 1, 9, "example.net", given.pop("stream", "transactional"), NOW - age, **given)


def settled(result, words, phase="rcpt", *, who=None, to=None, about=None):
    code, _, text = words.partition(" ")
    reply = parse(int(code), text)
    outcome = Outcome(2, result, reply, phase, "mx.test", "mx.test", "192.0.2.1")
    return settle.refused(who or waiting(), about or message(), to or person(), outcome, RULES.classify(reply, "mx.test", phase), NOW, chance=0.5,
                          delay_after=4 * HOUR)


@pytest.mark.parametrize(
    ("result", "words", "phase", "who", "state", "wait", "attempts", "retry"),
    [
        pytest.param("permfail", "550 5.1.1 no such user", "rcpt", {}, "bounced", 0, 0, "standard", id="hard"),
        pytest.param("permfail", "554 5.7.1 blocked using zen.spamhaus.org", "mail", {}, "bounced", 0, 0, "standard", id="blocked-is-final-too"),
        pytest.param("tempfail", "451 4.3.0 try later", "rcpt", {}, "deferred", MINUTE, 1, "standard", id="first-deferral"),
        pytest.param("tempfail", "451 4.3.0 try later", "dot", {"attempts": 3, "age": HOUR}, "deferred", 20 * MINUTE, 4, "standard", id="fourth-deferral"),
        pytest.param("tempfail", "451 4.3.0 try later", "dot", {"age": 2 * DAY}, "failed", 0, 0, "standard", id="past-the-deadline"),
        pytest.param("tempfail", "451 4.3.0 try later", "dot", {"age": 2 * DAY, "stream": "marketing"}, "deferred", MINUTE, 1, "standard",
                     id="marketing-has-longer"),
        pytest.param("tempfail", "450 4.7.1 greylisted, try again in 300 seconds", "rcpt", {}, "deferred", 330, 1, "greylist", id="greylisted"),
        pytest.param("tempfail", "452 4.2.2 mailbox full", "rcpt", {}, "deferred", HOUR, 1, "full", id="mailbox-full"),
        pytest.param("tempfail", "421 4.7.28 unusual rate", "mail", {"attempts": 2, "age": 600.0}, "deferred", 600, 2, "standard", id="rate-costs-no-attempt"),
        pytest.param("conn_error", "451 4.4.1 no answer", "connect", {"age": 300.0}, "deferred", 300, 0, "standard", id="site-down-costs-no-attempt"),
        pytest.param("conn_error", "451 4.4.1 no answer", "connect", {"retry": "full", "attempts": 2}, "deferred", MINUTE, 2, "full",
                     id="site-down-keeps-the-table"),
        pytest.param("conn_error", "451 4.4.1 no answer", "connect", {"age": 2 * DAY}, "failed", 0, 0, "standard", id="site-down-past-the-deadline"),
        pytest.param("conn_error", "451 4.4.3 SERVFAIL", "dns", {"age": 300.0}, "deferred", 300, 0, "standard", id="dns-down"),
        pytest.param("conn_error", "451 4.4.2 lost", "data", {}, "deferred", MINUTE, 1, "standard", id="lost-in-data-counts"),
        pytest.param("ambiguous", "451 4.4.2 lost after the dot", "dot", {"attempts": 1}, "deferred", 5 * MINUTE, 2, "standard", id="ambiguous-is-tried-again"),
        pytest.param("tempfail", "451 4.3.0 later", "rcpt", {"retry": "otp"}, "deferred", 15, 1, "otp", id="otp"),
        pytest.param("tempfail", "451 4.3.0 later", "rcpt", {"retry": "otp", "attempts": 5, "age": HOUR}, "failed", 0, 0, "standard", id="otp-expires"),
        pytest.param("conn_error", "451 4.4.1 no answer", "connect", {"retry": "otp", "age": 120.0}, "deferred", 120, 0, "otp", id="otp-and-the-site-is-down"),
        pytest.param("conn_error", "451 4.4.1 no answer", "connect", {"retry": "otp", "age": HOUR}, "failed", 0, 0, "standard", id="otp-expires-by-a-probe"),
        pytest.param("tempfail", "450 4.7.1 greylisted, try again in 300 seconds", "rcpt", {"retry": "otp"}, "deferred", 15, 1, "otp",
                     id="otp-waits-for-no-greylist"),
        pytest.param("tempfail", "451 4.3.0 later", "rcpt", {"age": -HOUR}, "deferred", MINUTE, 1, "standard", id="clock-stepped-back"),
    ],
)
def test_state_and_time(result, words, phase, who, state, wait, attempts, retry):
    found = settled(result, words, phase, who=waiting(**who))
    assert (found.state, round(found.due - NOW) if found.due else 0, found.attempts, found.retry) == (state, wait, attempts, retry)
    assert found.attempt.result == result
    assert found.attempt.phase == phase


@pytest.mark.parametrize(
    ("result", "words", "age", "notify", "about", "report"),
    [
        pytest.param("permfail", "550 5.1.1 no", 0, "", {}, "failed", id="failure-by-default"),
        pytest.param("permfail", "550 5.1.1 no", 0, "FAILURE,DELAY", {}, "failed", id="failure-asked"),
        pytest.param("permfail", "550 5.1.1 no", 0, "SUCCESS", {}, "", id="only-success-asked"),
        pytest.param("permfail", "550 5.1.1 no", 0, "NEVER", {}, "", id="never"),
        pytest.param("permfail", "550 5.1.1 no", 0, "", {"sender": ""}, "", id="never-a-bounce-of-a-bounce"),
        pytest.param("permfail", "550 5.1.1 no", 0, "", {"protocol": "http"}, "", id="the-api-asks-for-events"),
        pytest.param("permfail", "550 5.1.1 no", 0, "", {"protocol": "broadcast"}, "", id="broadcast"),
        pytest.param("permfail", "550 5.1.1 no", 0, "", {"protocol": "sendmail"}, "failed", id="sendmail"),
        pytest.param("tempfail", "451 4.3.0 no", 2 * DAY, "", {}, "failed", id="expiry"),
        pytest.param("tempfail", "451 4.3.0 no", 5 * HOUR, "DELAY", {}, "delayed", id="delay-asked"),
        pytest.param("tempfail", "451 4.3.0 no", 5 * HOUR, "", {}, "", id="delay-not-asked"),
        pytest.param("tempfail", "451 4.3.0 no", 3 * HOUR, "DELAY", {}, "", id="not-late-yet"),
        pytest.param("tempfail", "451 4.3.0 no", 5 * HOUR, "DELAY", {"sender": ""}, "", id="delay-to-nobody"),
    ],
)
def test_who_is_told(result, words, age, notify, about, report):
    found = settled(result, words, who=waiting(age), to=person(notify), about=message(**about))
    assert found.report == report
    assert found.warned is (report == "delayed")


@pytest.mark.parametrize(("notify", "passed", "report"), [("SUCCESS", False, "relayed"), ("SUCCESS", True, ""), ("", False, ""), ("FAILURE", False, "")])
def test_a_delivery_is_confirmed_where_the_peer_cannot(notify, passed, report):
    outcome = Outcome(2, "delivered", Reply(250, "2.0.0", "ok"), "dot", dsn_passed=passed)
    found = settle.delivered(waiting(), message(), person(notify), outcome, NOW)
    assert (found.state, found.report) == ("delivered", report)
    assert [kind for kind, _ in found.events] == ["email.sent", "email.delivered"]


def test_a_deferral_is_told_once():
    assert [kind for kind, _ in settled("tempfail", "451 4.3.0 later").events] == ["email.deferred"]
    assert settled("tempfail", "451 4.3.0 later", who=waiting(tried=True)).events == ()


def test_a_delay_is_told_once():
    assert settled("tempfail", "451 4.3.0 later", who=waiting(5 * HOUR, warned=True), to=person("DELAY")).report == ""


def test_events_carry_the_category_and_the_rule():
    [(kind, data)] = settled("permfail", "550 5.1.1 no such user").events
    assert kind == "email.bounced"
    assert (data["to"], data["category"], data["rule"], data["code"]) == ("ann@example.net", "hard", "no-such-user", 550)


@pytest.mark.parametrize("age", [0.0, HOUR, 30 * DAY])
def test_our_own_faults_expire_nothing(age):
    found = settle.postponed(waiting(age, attempts=3), Reply(451, "4.3.0", "policy x failed"), NOW, 0.5)
    assert (found.state, found.attempts, found.attempt) == ("deferred", 3, None)
    assert MINUTE <= found.due - NOW <= HOUR
