"""What remotes say and what it means; a new rule comes with a sample here."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relay import bounces
from relay.errors import ConfigError
from relay.mail.reply import Reply, parse

RULES = bounces.read()


@pytest.mark.parametrize(
    ("code", "words", "mx", "phase", "category"),
    [
        pytest.param(421, "4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP", "aspmx.l.google.com", "mail", "rate",
                     id="google-rate"),
        pytest.param(421, "4.7.0 Our system has detected an unusual rate of unsolicited mail", "mx.example", "banner", "rate", id="google-rate-by-text"),
        pytest.param(550, "5.7.1 Gmail has detected that this message is likely unsolicited mail.", "aspmx.l.google.com", "dot", "spam-content",
                     id="google-content"),
        pytest.param(450, "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages", "x.google.com", "rcpt",
                     "rate", id="google-recipient-rate"),
        pytest.param(552, "5.2.2 The email account that you tried to reach is over quota and inactive.", "", "rcpt", "mailbox-full", id="google-full"),
        pytest.param(550, "5.1.1 The email account that you tried to reach does not exist.", "", "rcpt", "hard", id="google-no-such"),
        pytest.param(550, "5.7.26 Your email has been blocked because the sender is unauthenticated. Gmail requires", "", "dot", "policy",
                     id="google-authentication"),
        pytest.param(421, "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", "mx.am0.yahoodns.net", "banner", "rate",
                     id="yahoo-tss04"),
        pytest.param(553, "5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list", "", "banner", "block",
                     id="yahoo-blocklist"),
        pytest.param(554, "delivery error: dd This user doesn't have a yahoo.com account", "", "dot", "hard", id="yahoo-no-account"),
        pytest.param(550, "5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. part of their network is on our block list (S3150).", "", "mail",
                     "block", id="outlook-blocklist"),
        pytest.param(451, "4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.", "", "mail", "rate",
                     id="outlook-rate"),
        pytest.param(550, "5.7.515 Access denied, sending domain example.com does not meet the required authentication level.", "", "dot", "policy",
                     id="outlook-authentication"),
        pytest.param(550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "", "rcpt", "hard", id="exchange-no-such"),
        pytest.param(550, "5.7.1 Mail from IP 192.0.2.1 was rejected due to listing in Spamhaus SBL", "", "rcpt", "block", id="spamhaus"),
        pytest.param(554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "", "rcpt", "block", id="postfix-dnsbl"),
        pytest.param(421, "4.7.1 : (DYN:T1) https://postmaster.example RL000010 throttled", "mx1.comcast.net", "mail", "rate", id="comcast"),
        pytest.param(450, "4.7.1 <a@b>: Recipient address rejected: Greylisted, see http://postgrey.example/", "", "rcpt", "greylist", id="postgrey"),
        pytest.param(451, "4.7.1 Please try again later", "", "rcpt", "greylist", id="greylist-by-status"),
        pytest.param(421, "4.7.0 mx.example Error: too many connections from 192.0.2.1", "", "banner", "rate", id="postfix-too-many"),
        pytest.param(421, "Service not available, closing transmission channel", "", "mail", "rate", id="a-bare-421"),
        pytest.param(550, "5.1.1 <a@b>: Recipient address rejected: User unknown in virtual mailbox table", "", "rcpt", "hard", id="postfix-unknown"),
        pytest.param(550, "No such user here", "", "rcpt", "hard", id="words-only"),
        pytest.param(550, "Administrative prohibition", "", "rcpt", "hard", id="bare-550-at-rcpt"),
        pytest.param(550, "Administrative prohibition", "", "dot", "unknown", id="bare-550-after-the-data-is-not-about-the-mailbox"),
        pytest.param(550, "5.7.1 Message rejected as spam by content filtering", "", "dot", "spam-content", id="content"),
        pytest.param(550, "5.7.1 SPF check failed", "", "mail", "policy", id="spf"),
        pytest.param(530, "5.7.0 Must issue a STARTTLS command first", "", "mail", "policy", id="starttls-required"),
        pytest.param(452, "4.2.2 Mailbox full", "", "rcpt", "mailbox-full", id="full-for-now"),
        pytest.param(452, "4.3.1 Insufficient system storage", "", "mail", "soft", id="their-disk-is-full"),
        pytest.param(452, "4.5.3 Too many recipients", "", "rcpt", "rate", id="too-many-recipients"),
        pytest.param(552, "5.3.4 Message size exceeds fixed limit", "", "mail", "policy", id="too-large"),
        pytest.param(556, "5.1.10 This domain does not accept mail", "", "dns", "hard", id="null-mx"),
        pytest.param(451, "4.3.0 Temporary lookup failure", "", "rcpt", "soft", id="temporary"),
        pytest.param(451, "4.3.2 Nobody answered", "", "connect", "soft", id="no-connection"),
        pytest.param(599, "", "", "dot", "unknown", id="nothing-said"),
    ],
)
def test_category(code, words, mx, phase, category):
    found = RULES.classify(parse(code, words), mx, phase)
    assert found.category == category, found.rule


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ("Greylisted, please try again in 300 seconds", 300.0),
        ("greylisting in action, retry after 5 minutes", 300.0),
        ("You have been greylisted; come back in 00:04:58", 298.0),
        ("greylisted, try again in 1 hour", 3600.0),
        ("greylisted, see http://example.org/60/minutes.html", None),
        ("greylisted", None),
    ],
)
def test_the_wait_that_a_peer_asks_for(words, wait):
    assert RULES.classify(Reply(451, "4.7.1", words)).wait == wait


def test_a_bad_reputation_never_suppresses_the_recipient():
    assert not RULES.classify(Reply(550, "5.7.1", "rejected: poor reputation of 192.0.2.1")).suppresses
    assert RULES.classify(Reply(550, "5.1.1", "no such user")).suppresses


@given(some.integers(200, 599), some.sampled_from(["", "4.7.1", "5.1.1", "5.999.999"]), some.text(max_size=300))
def test_any_words_get_a_category(code, enhanced, text):
    assert RULES.classify(Reply(code, enhanced, text)).category in bounces.CATEGORIES


def test_long_words_are_read_quickly():
    started = time.perf_counter()
    RULES.classify(Reply(450, "4.9.9", "user mailbox message account " * 1_000), "mx.example", "rcpt")
    assert time.perf_counter() - started < 0.05


def test_every_row_is_named_once_and_every_category_is_known():
    assert len({row.name for row in RULES.rows}) == len(RULES.rows) > 50
    assert {row.category for row in RULES.rows} <= set(bounces.CATEGORIES)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('rules = [{name = "a", category = "sofft"}]', "category 'sofft' is none of"),
        ('rules = [{name = "a", category = "soft", text = "("}]', "not a regular expression"),
        ('rules = [{name = "a", category = "soft"}, {name = "a", category = "soft"}]', "needs a name of its own"),
        ('rules = [{name = "a", category = "soft", txet = "x"}]', "has no field 'txet'"),
        ("rules = [", "cannot be read"),
    ],
)
def test_a_bad_row_is_named(tmp_path, text, says):
    (tmp_path / "bounces.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"bounces\.toml") as error:
        bounces.read(tmp_path / "bounces.toml")
    assert says in error.value.text
