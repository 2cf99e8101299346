"""The Postfix of the tests itself, so that a failure of it does not look like one of ours."""

from __future__ import annotations

import smtplib

import pytest
import trustme

from tests.support import postfix
from tests.support.sink import Script, Sink

MESSAGE = b"From: a@example.com\r\nTo: joe@example.net\r\nSubject: x\r\n\r\n.dot\r\nlast\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def chain(authority, tmp_path):
    path = tmp_path / "chain.pem"
    authority.issue_cert("mx.postfix.test").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def test_the_mx_takes_what_is_for_it_and_nothing_else(authority, chain):
    with postfix.mx(["example.net"], chain=chain) as mx, smtplib.SMTP(mx.host, mx.port) as line:
        line.starttls()
        refused = line.sendmail("a@example.com", ["joe@example.net", "nobody@example.net", "x@elsewhere.example"], MESSAGE)
        (mail,) = mx.wait(1)
    assert (mail.recipient, mail.sent) == ("joe@example.net", MESSAGE)
    assert "using TLSv1.3" in mail.received
    assert {address: code for address, (code, _) in refused.items()} == {"nobody@example.net": 550, "x@elsewhere.example": 554}


def test_the_client_authenticates_at_its_relay():
    with Sink(Script(auth="app:secret")) as sink, postfix.client("127.0.0.1", sink.port, "app", "secret") as client:
        with smtplib.SMTP("127.0.0.1", client.port) as line:
            line.sendmail("a@example.com", ["joe@example.net"], MESSAGE)
        client.wait_log("status=sent")
        assert len(sink.messages) == 1
        assert sink.messages[0].content.endswith(b"Subject: x\r\n\r\n.dot\r\nlast\r\n")
