"""Reading delivery reports: a table of real-world shapes, and anything at all."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import bounces
from relay.mail import dsn
from tests.inbound.samples import FOLDER, sample

USER = "user@example.com"
RULES = bounces.read()

TABLE = {  # sample -> kind, reporter, rows of (final, action, code, enhanced, mx, category)
    "postfix": ("report", "mx.far.test", [(USER, "failed", 550, "5.1.1", "mail.example.com", "hard")]),
    "postfix_delayed": ("report", "mx.far.test", [(USER, "delayed", 450, "4.4.1", "", "soft")]),
    "postfix_several": ("report", "mx.far.test", [
        ("gone@example.com", "failed", 550, "5.1.1", "mail.example.com", "hard"),
        ("full@example.com", "failed", 552, "5.2.2", "mail.example.com", "mailbox-full"),
        ("slow@example.com", "failed", 450, "4.4.7", "", "soft"),
    ]),
    "postfix_relayed": ("report", "mx.far.test", [(USER, "delivered", 250, "2.0.0", "", "unknown")]),
    "exim": ("report", "exim.far.test", [(USER, "failed", 550, "5.0.0", "mail.example.com", "hard")]),
    "qmail": ("report", "qmail.far.test", [
        (USER, "failed", 550, "5.1.1", "", "hard"),
        ("other@qmail.far.test", "failed", 550, "5.1.1", "", "hard"),
        ("late@example.com", "failed", 450, "4.4.1", "", "soft"),
    ]),
    "exchange": ("report", "am0pr01mb1234.eurprd01.prod.exchange.test", [("User@Example.com", "failed", 550, "5.1.10", "", "hard")]),
    "exchange_reputation": ("report", "mx.outlook.test", [(USER, "failed", 550, "5.7.1", "mail.example.com", "block")]),
    "gmail": ("report", "googlemail.test", [(USER, "failed", 550, "5.1.1", "mail.example.com", "hard")]),
    "ironport": ("report", "ironport.far.test", [(USER, "failed", 550, "5.1.1", "[192.0.2.25]", "hard")]),
    "one_group_no_types": ("report", "old.far.test", [(USER, "failed", 550, "5.2.1", "", "hard")]),
    "nothing_said": ("report", "old.far.test", [("", "failed", 550, "", "", "unknown")]),
    "forward_broken": ("report", "mx.far.test", [("old.account@elsewhere.test", "failed", 550, "5.1.1", "mx.elsewhere.test", "hard")]),
    "sendmail": ("report", "sendmail.far.test", [(USER, "failed", 550, "5.1.1", "mail.example.com", "hard")]),
    "sendmail_freeform": ("report", "", [(USER, "failed", 550, "", "", "soft")]),
    "microsoft365": ("report", "am7pr01mb0001.eurprd01.prod.outlook.test", [
        (USER, "failed", 550, "5.4.1", "example-com.mail.protection.outlook.com", "hard")]),
    "exchange_full": ("report", "am0pr01mb1234.eurprd01.prod.exchange.test", [(USER, "failed", 554, "5.2.2", "", "mailbox-full")]),
    "yahoo": ("report", "", [(USER, "failed", 550, "", "", "soft")]),
    "lotus": ("report", "domino.far.test", [(USER, "failed", 550, "5.1.1", "", "hard")]),
    "courier": ("report", "courier.far.test", [(USER, "failed", 552, "5.2.2", "mail.example.com", "mailbox-full")]),
    "japanese": ("report", "mail.far.test", [(USER, "failed", 550, "5.0.0", "", "hard")]),
    "spanish_qmail": ("report", "correo.far.test", [(USER, "failed", 550, "", "", "hard")]),
    "no_final_recipient": ("report", "old.far.test", [("", "failed", 550, "5.1.1", "", "hard")]),
    "vacation": ("auto-reply", "", []),
    "person": ("other", "", []),
}


COMPLAINTS = {"arf", "arf_redacted", "arf_not_spam", "arf_authentication", "hotmail"}


def test_every_sample_is_in_the_table():
    assert {path.stem for path in FOLDER.glob("*.eml")} == set(TABLE) | COMPLAINTS


@pytest.mark.parametrize("name", sorted(COMPLAINTS))
def test_a_complaint_is_no_delivery_report(name):
    assert dsn.read(sample(name)).told == ()


def meant(told):
    """The category, as far as it is believed."""
    found = RULES.classify(told.reply, told.mx, "report")
    return (found.doubted if told.guess else found).category


@pytest.mark.parametrize("ends", ["crlf", "lf"])
@pytest.mark.parametrize("name", TABLE)
def test_samples(name, ends):
    octets = sample(name)
    found = dsn.read(octets if ends == "crlf" else octets.replace(b"\r\n", b"\n"))
    rows = [(t.final, t.action, t.reply.code, t.reply.enhanced, t.mx, meant(t)) for t in found.told]
    assert (found.kind, found.reporter, rows) == TABLE[name]


def test_a_reply_of_several_lines_is_one_text():
    (told,) = dsn.read(sample("gmail")).told
    assert told.reply.text.startswith("The email account that you tried to reach does not exist. Please try double-checking")
    assert "550" not in told.reply.text


def test_what_is_inside_the_returned_mail_says_nothing():
    for name in ("exchange", "qmail"):
        assert all("inside" not in told.final for told in dsn.read(sample(name)).told)


def report(status, head=b"Content-Type: message/delivery-status\r\n\r\n"):
    return head + status.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(("fields", "expected"), [
    pytest.param("Final-Recipient: rfc822; a@b.test\nStatus: 5.1.1", ("failed", "550 5.1.1"), id="no-action"),
    pytest.param("Final-Recipient: rfc822; a@b.test\nStatus: 4.2.2", ("delayed", "450 4.2.2"), id="no-action-temporary"),
    pytest.param("Final-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 2.0.0", ("failed", "550 5.0.0"), id="failed-with-a-status-of-success"),
    pytest.param("Final-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 5.4.7\nDiagnostic-Code: smtp; 421 try later", ("failed", "550 5.4.7 try later"),
                 id="gave-up-on-a-temporary-reply"),
    pytest.param("Final-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 4.4.7\nDiagnostic-Code: smtp; 451 4.7.1 greylisted",
                 ("failed", "451 4.7.1 greylisted"), id="expired"),
    pytest.param("Final-Recipient: a@b.test\nAction: FAILED (bounced)\nDiagnostic-Code: X-Notes; no such user", ("failed", "550 no such user"), id="no-status"),
    pytest.param("Final-Recipient: rfc822; a@b.test\nAction: exploded\nStatus: five", ("failed", "550"), id="words-that-mean-nothing"),
])
def test_missing_and_odd_fields(fields, expected):
    (told,) = dsn.read(report(fields.encode())).told
    assert (told.action, str(told.reply), told.final) == (*expected, "a@b.test")


def test_bounds():
    group = b"Final-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 5.1.1\n\n"
    assert len(dsn.read(report(b"Reporting-MTA: dns; x\n\n" + group * 5_000)).told) <= dsn.GROUPS
    nested = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(5_000))
    assert dsn.read(nested + report(group)).kind == "other"
    many = b"Content-Type: multipart/report; boundary=b\r\n\r\n" + b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" * 50_000 + b"--b\r\n" + report(group)
    assert dsn.read(many).kind == "other"


@pytest.mark.parametrize("unit", [b"\r\n \t", b"--b\r\n", b"Diagnostic-Code: smtp; 550-\r\n ", b"said: ", b"550 ", b"<a@b>:\r\n\r\n", b"=", b"(#5."],
                         ids=lambda unit: repr(unit)[2:-1])
def test_long_repetitions_take_no_long_time(unit):
    for head in (b"Content-Type: message/delivery-status\r\n\r\nFinal-Recipient: a;", b"Hi. This is the x at y.\r\n\r\n<a@b>:\r\n",
                 b"Content-Type: multipart/report; boundary=b\r\n\r\n"):
        begin = time.process_time()
        dsn.read(head + unit * (dsn.OCTETS // len(unit)))
        assert time.process_time() - begin < 1.0


@given(st.binary(max_size=400), st.sampled_from([path.stem for path in FOLDER.glob("*.eml")]), st.integers(0, 3_000), st.integers(0, 300))
def test_any_octets_give_a_report(noise, name, start, cut):
    octets = sample(name)
    for each in (noise, octets[:start] + noise + octets[start + cut:], report(noise)):
        found = dsn.read(each)
        assert found.kind in ("report", "auto-reply", "other")
        assert all(told.action in dsn.ACTIONS and 200 <= told.reply.code < 600 for told in found.told)
