"""The inbound listener: what it takes, what it refuses and in which words, STARTTLS, no AUTH, never a relay."""

import smtplib
import ssl

import pytest

from relay.mail.tokens import BOUNCE, OPEN, UNSUBSCRIBE, pack
from tests.support.running import Running


def refusal(served, to, sender=""):
    with pytest.raises(smtplib.SMTPResponseException) as caught:
        served.post(to, b"Subject: hello\r\n\r\nhello\r\n", sender)
    return caught.value.smtp_code, caught.value.smtp_error.decode()


def made(served, kind=UNSUBSCRIBE, number=1, expires=None):
    return served.relay.tools.services.tokens.make(kind, pack(number), expires)


@pytest.mark.parametrize(("to", "words"), [
    pytest.param("user@example.com", "5.7.1 relaying denied", id="another-domain"),
    pytest.param("user%example.com@relay.test", "5.7.1 no mailbox", id="source-route-by-percent"),
    pytest.param("user@relay.test", "5.7.1 no mailbox", id="nobody"),
    pytest.param("postmaster@relay.test", "5.1.1 nobody reads postmaster", id="postmaster"),
    pytest.param("Abuse@relay.test", "5.1.1 nobody reads abuse", id="abuse"),
    pytest.param("unsub@relay.test", "5.7.1 no mailbox", id="no-token"),
    pytest.param("unsub+@relay.test", "5.1.1 this address is not one of ours", id="empty-token"),
    pytest.param("unsub+abcdefgh@relay.test", "5.1.1 this address is not one of ours", id="forged"),
    pytest.param("bounce+abcdefgh@relay.test", "5.1.1 this address is not one of ours", id="forged-return-path"),
])
@pytest.mark.parametrize("sender", ["", "user@example.com"], ids=["null", "person"])
def test_what_is_not_ours_is_refused_at_rcpt(served, to, words, sender):
    code, said = refusal(served, to, sender)
    assert (code, said.startswith(words)) == (550, True), said


def test_a_token_of_another_kind_is_forged(served):
    assert refusal(served, f"unsub+{made(served, OPEN)}@relay.test") == (550, "5.1.1 this address is not one of ours")
    assert refusal(served, f"unsub+{made(served, BOUNCE)}@relay.test") == (550, "5.1.1 this address is not one of ours")


def test_an_expired_token_says_so(served):
    code, said = refusal(served, f"unsub+{made(served, expires=1_000_000_000)}@relay.test")
    assert (code, "has expired" in said) == (550, True)


def test_a_true_token_of_a_recipient_that_is_gone_is_refused(served):
    assert refusal(served, f"unsub+{made(served, number=5)}@relay.test")[0] == 550


def test_a_true_token_at_another_domain_is_no_relay(served):
    code, said = refusal(served, f"unsub+{made(served)}@example.com")
    assert (code, said) == (550, "5.7.1 relaying denied: example.com is not served here")


def test_nobody_can_authenticate_and_everybody_can_encrypt(served):
    with served.dial() as line:
        line.ehlo()
        assert not line.has_extn("auth")
        assert line.docmd("AUTH PLAIN AGEAYg==")[0] in (502, 503)
        line.starttls(context=ssl._create_unverified_context())
        line.ehlo()
        assert not line.has_extn("auth")
        assert line.mail("")[0] == 250
        assert line.rcpt("user@example.com")[0] == 550


def test_guessing_tokens_ends_the_connection(served):
    with served.dial() as line:
        line.ehlo()
        line.mail("")
        codes = []
        try:
            for number in range(30):
                codes.append(line.rcpt(f"unsub+guess{number}@relay.test")[0])
        except smtplib.SMTPServerDisconnected:
            pass
        assert len(codes) < 30 or 421 in codes
        line.close()


def test_with_workers_the_main_process_takes_mail_to_us(tmp_path, free_port):
    port = free_port()
    with Running(tmp_path, {"RELAY_SMTP__INBOUND": f"127.0.0.1:{port}"}, workers=2), smtplib.SMTP("127.0.0.1", port, "far.test", timeout=60) as line:
        line.ehlo()
        assert line.mail("")[0] == 250
        assert line.rcpt("user@example.com")[0] == 550
