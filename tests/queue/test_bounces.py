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
        pytest.param(550, "Administrative prohibition", "", "rcpt", "unknown", id="a-bare-550-may-mean-anything"),
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


GMAIL, OUTLOOK, YAHOO, ICLOUD = "gmail-smtp-in.l.google.com", "example-com.mail.protection.outlook.com", "mta5.am0.yahoodns.net", "mx01.mail.icloud.com"
SAID = (  # rule, category, what was said at RCPT (or at the phase named), by whom
    ("no-such-user", "hard", "550 5.1.1 The email account that you tried to reach does not exist. Learn more at https://support.example/?p=NoSuchUser", GMAIL),
    ("google-inactive", "hard", "550 5.2.1 The email account that you tried to reach is inactive.", GMAIL),
    ("mailbox-full", "mailbox-full", "452 4.2.2 The email account that you tried to reach is over quota.", GMAIL),
    ("mailbox-full", "mailbox-full", "552 5.2.2 The email account that you tried to reach is over quota and inactive.", GMAIL),
    ("google-low-reputation", "block", "550 5.7.1 likely suspicious due to the very low reputation of the sending domain.", GMAIL),
    ("google-not-authorized", "block", "550 5.7.1 The IP you're using to send mail is not authorized to send email directly to our servers.", GMAIL),
    ("no-reverse-dns", "policy", "550 5.7.25 The IP address sending this message does not have a PTR record setup", GMAIL),
    ("exchange-no-recipient", "hard", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient x@y.example not found by SMTP address lookup", OUTLOOK),
    ("exchange-access-denied", "hard", "550 5.4.1 Recipient address rejected: Access denied. [AM0.eurprd01.prod.outlook.com]", OUTLOOK),
    ("outlook-no-mailbox", "hard", "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", "hotmail-com.olc.protection.outlook.com"),
    ("status-protocol", "soft", "550 5.5.0 Requested action not taken: mailbox unavailable", "mx.elsewhere.example"),
    ("outlook-block-list", "block", "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", OUTLOOK),
    ("outlook-block-list", "block", "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. part of their network is on our block list.", OUTLOOK),
    ("exchange-senders-only", "policy", "550 5.7.129 RESOLVER.RST.NotAuthorized; not authorized to send to this group", OUTLOOK),
    ("authentication", "policy", "550 5.1.8 Access denied, bad outbound sender", OUTLOOK),
    ("outlook-recipient-rate", "rate", "550 5.2.122 The recipient has exceeded their limit for the number of messages received", OUTLOOK),
    ("exchange-quota", "mailbox-full", "554 5.2.0 STOREDRV.Deliver; delivery result: QuotaExceededException", OUTLOOK),
    ("outlook-rate", "rate", "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77712)", OUTLOOK),
    ("yahoo-no-account", "hard", "554 delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]", YAHOO),
    ("mailbox-disabled", "hard", "554 30 Sorry, your message to x@yahoo.com cannot be delivered. This mailbox is disabled (554.30).", YAHOO),
    ("yahoo-policy", "policy", "554 Message not allowed - [PH01] Email not accepted for policy reasons.", YAHOO),
    ("yahoo-rate", "rate", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints", YAHOO),
    ("no-such-user", "hard", "550 5.1.1 <x@icloud.com>: user lookup success but no user record found, unknown user", ICLOUD),
    ("apple-content", "spam-content", "554 5.7.1 [CS01] Message rejected due to local policy.", ICLOUD),
    ("apple-reputation", "block", "550 5.7.0 [HM08] Message could not be accepted.", ICLOUD),
    ("proofpoint-block", "block", "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", "mx1.pphosted.com"),
    ("no-such-user", "hard", "550 5.1.1 User Unknown - psmtp", "x.psmtp.com"),
    ("no-such-user", "hard", "550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550", "eu-smtp-inbound-1.mimecast.com"),
    ("mimecast-greylist", "greylist", "451 Internal resource temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451", "x.mimecast.com"),
    ("mimecast-policy", "policy", "550 Rejected by header based manually Blocked Senders - https://community.mimecast.com/", "x.mimecast.com"),
    ("mimecast-content", "spam-content", "554 Email rejected due to security policies - MCSpamSignature.x.1", "x.mimecast.com"),
    ("barracuda-block", "block", "550 permanent failure for one or more recipients (x@y.example:blocked)", "d1.ess.barracudanetworks.com"),
    ("orange-no-recipient", "hard", "550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR204_416 [416]", "smtp-in.orange.fr"),
    ("orange-full", "mailbox-full", "552 5.1.1 OFR204_417 [417]", "smtp-in.orange.fr"),
    ("orange-rate", "rate", "421 mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration. OFR_104", "smtp-in.orange.fr"),
    ("gmx-no-mailbox", "hard", "550 Requested action not taken: mailbox unavailable", "mx00.gmx.net"),
    ("gmx-policy", "policy", "550 Requested action not taken: mailbox unavailable. invalid DNS MX or A/AAAA resource record", "mx-ha02.web.de"),
    ("gmx-rate", "rate", "450 Requested mail action not taken: mailbox unavailable. Mail rate exceeded limit", "mx00.gmx.net"),
    ("code-refused", "unknown", "550 Requested action not taken: mailbox unavailable", "mx.elsewhere.example"),
    ("t-online-block", "block", "554 IP=192.0.2.1 - A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de)", "mx00.t-online.de"),
    ("mailru-no-mailbox", "hard", "550 Message was not accepted -- invalid mailbox. Local mailbox x@mail.ru is unavailable: user not found", "mxs.mail.ru"),
    ("mailru-spam", "spam-content", "550 spam message rejected. Please visit https://help.mail.ru/notspam-support/id?c=1", "mxs.mail.ru"),
    ("no-such-user", "hard", "550 5.7.1 No such user!", "mx.yandex.ru"),
    ("comcast-no-customer", "hard", "550 5.1.0 Not our Customer", "mx2h1.comcast.net"),
    ("charter-block", "block", "554 IP_ADDRESS 192.0.2.1 AUP#In-1310", "mx1.charter.net"),
    ("att-block", "block", "553 5.3.0 flpd575 DNSBL:ATTRBL 521< 192.0.2.1 >_is_blocked. For assistance forward this", "al-ip4-mx-vip1.prodigy.net"),
    ("tencent-content", "spam-content", "550 Mail content denied. https://service.mail.qq.com/", "mx3.qq.com"),
    ("netease-content", "spam-content", "554 DT:SPM 163 mx12,QMCowAD3", "163mx01.mxmail.netease.com"),
    ("no-such-user", "hard", "550 #5.1.0 Address rejected.", "esa1.iphmx.com"),
    ("no-such-user", "hard", "550-'5.1.1 <x@y.example>: user unknown'", ""),
    ("no-such-user", "hard", "553 5.3.0 <x@y.example>... User unknown", ""),
    ("no-such-user-localised", "hard", "550 5.1.1 Empfänger existiert nicht", ""),
    ("no-such-user-localised", "hard", "550 Usuario desconocido", ""),
    ("no-such-user-localised", "hard", "550 5.1.1 用户不存在", ""),
    ("mailbox-full", "mailbox-full", "552 5.2.2 Boîte pleine", ""),
    ("temporarily-unavailable", "soft", "550 5.2.1 The account is temporarily disabled", ""),
    ("temporarily-unavailable", "soft", "550 Account suspended by its provider", ""),
    ("list-members-only", "policy", "550 5.7.1 posting restricted to subscribers only", ""),
    ("loop", "soft", "554 5.4.6 Too many hops 26 (25 max)", ""),
    ("bad-hello", "policy", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", ""),
    ("authentication", "policy", "550 5.1.8 <me@mine.example>: Sender address rejected: Domain not found", ""),
    ("no-such-user", "hard", "550 5.1.1 <spam@example.com>: Recipient address rejected: User unknown", ""),
    ("blocklisted", "block", "550 5.1.1 User unknown (your IP is on the Spamhaus blocklist)", ""),
    ("before-a-recipient", "policy", "550 5.1.1 no such user", "", "mail"),
    ("code-refused", "unknown", "554 no SMTP service here for <no.such.user@example.com>", ""),
    ("no-mail-host", "hard", "521 host does not accept mail", "", "banner"),
)


@pytest.mark.parametrize(("rule", "category", "said", "mx", "phase"), [(*row, "rcpt")[:5] for row in SAID], ids=[row[2][:60] for row in SAID])
def test_what_providers_say(rule, category, said, mx, phase):
    code, _, words = said.partition(" " if said[3:4] == " " else "-")
    found = RULES.classify(parse(int(code), words), mx, phase)
    assert (found.rule, found.category) == (rule, category)


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
    started = time.process_time()
    RULES.classify(Reply(450, "4.9.9", "user mailbox message account " * 1_000), "mx.example", "rcpt")
    assert time.process_time() - started < 0.05


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
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.toml") as error:
        bounces.read(str(tmp_path / "mine.toml"))
    assert says in error.value.text or says in str(error.value)


def test_a_rule_of_ones_own_is_asked_before_the_shipped_ones(tmp_path):
    (tmp_path / "mine.toml").write_text('rules = [{name = "our-partner", category = "soft", text = "user unknown", mx = ".partner.example other.example"}]')
    rules = bounces.read(str(tmp_path / "mine.toml"))
    said = Reply(550, "5.1.1", "user unknown")
    assert [rules.classify(said, mx, "rcpt").rule for mx in ("mx.partner.example", "other.example", "mx.elsewhere.example")] == [
        "our-partner", "our-partner", "no-such-user"]


def test_rules_of_ones_own_cannot_take_a_shipped_name(tmp_path):
    (tmp_path / "mine.toml").write_text('rules = [{name = "no-such-user", category = "soft"}]')
    with pytest.raises(ConfigError, match="no-such-user"):
        bounces.read(str(tmp_path / "mine.toml"))
