"""DKIM: what we sign, other people's verifiers accept, and what somebody changes on the way, they refuse."""

import hashlib

import dkim as peer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.mail import dkim
from relay.mail.header import Field, Header, split
from tests.support.dkim import DOMAIN, dkimpy, mail_dkim, pair

NOW = 1_790_000_000.0
PLAIN = (b"From: Joe <joe@example.com>\r\nTo: jane@example.org\r\nSubject: a  test\r\n\tfolded \r\nDate: Mon, 21 Sep 2026 10:00:00 +0000\r\n"
         b"Message-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n")


def signed(message, *algorithms):
    header, body = split(message)
    keys, records = [], {}
    for algorithm in algorithms or (dkim.RSA, dkim.ED25519):
        key, record = pair(algorithm)
        keys.append(key)
        records |= record
    fields = dkim.sign(header, dkim.body_hash(body), keys, NOW)
    return b"".join(f.raw for f in fields) + message, records


BODIES = {
    "empty": b"",
    "one empty line": b"\r\n",
    "only empty lines": b"\r\n" * 5,
    "only spaces": b"  \t \r\n \r\n",
    "one line": b"hello\r\n",
    "trailing spaces": b"hello \t \r\nworld\t\r\n",
    "runs of spaces": b"a  b\t\tc \t d\r\n   indented\r\n\tby tab\r\n",
    "trailing empty lines": b"hello\r\n\r\n \r\n\t\r\n",
    "long run": b"a" + b" " * 9_999 + b"b\r\n",
    "eight bit": "Grüße an alle\r\n".encode(),
    "dots": b".\r\n..\r\n.x\r\n",
    "NBSP is no space": b"a\xa0 \xa0\r\n",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_both_signatures_verify_whatever_the_body(body):
    message, records = signed(PLAIN + body)
    assert dkimpy(message, records) == [True, True]


HEADERS = {
    "no header at all": b"",
    "only From": b"From: joe@example.com\r\n",
    "folds and runs": b"From:\tJoe \r\n  <joe@example.com>  \r\nSubject:\r\n =?utf-8?q?a?=\r\n\t =?utf-8?q?b?=\r\n",
    "several of one name": b"From: joe@example.com\r\nTo: a@b.example\r\nTo: c@d.example\r\nList-Unsubscribe: <https://x.example/1>\r\n",
    "UTF-8": "From: Jürgen <joe@example.com>\r\nSubject: Grüße\r\n".encode(),
    "empty values": b"From: joe@example.com\r\nSubject:\r\nCc: \r\n",
    "very long": b"From: joe@example.com\r\nTo: " + b",\r\n ".join(b"someone%d@example.org" % n for n in range(1_000)) + b"\r\n",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_both_signatures_verify_whatever_the_header(header):
    message, records = signed((header or b"X: y\r\n") + b"\r\nhello\r\n")
    assert dkimpy(message, records) == [True, True]


def test_rsa_comes_first():
    message, _ = signed(PLAIN)
    header, _ = split(message)
    assert [f.value.split(";")[1].strip() for f in header.all(b"dkim-signature")] == ["a=rsa-sha256", "a=ed25519-sha256"]


@pytest.mark.parametrize("body", [BODIES["runs of spaces"], BODIES["trailing empty lines"], BODIES["empty"]], ids=["runs", "empty lines", "empty"])
def test_mail_dkim_accepts_the_rsa_signature(body):
    message, records = signed(PLAIN + body)
    assert ("pass", "rsa-sha256") in mail_dkim(message, records)
    assert ("pass", "rsa-sha256") not in mail_dkim(message + b"more\r\n", records)


def test_a_space_before_the_colon_is_no_part_of_the_name():
    """RFC 5322 §4.5 lets old mail write it so; dkimpy cannot read such a field, so Mail::DKIM judges."""
    message, records = signed(b"From : joe@example.com\r\nSubject \t: x\r\n\r\nhello\r\n")
    assert ("pass", "rsa-sha256") in mail_dkim(message, records)


CHANGES = {
    "the body": lambda m: m + b"more\r\n",
    "the subject": lambda m: m.replace(b"Subject: a", b"Subject: b"),
    "a second From": lambda m: b"From: eve@evil.example\r\n" + m,
    "a Cc where none was": lambda m: b"Cc: eve@evil.example\r\n" + m,
    "a Reply-To where none was": lambda m: b"Reply-To: eve@evil.example\r\n" + m,
    "a second Content-Type": lambda m: b"Content-Type: text/html\r\n" + m,
    "a transfer encoding": lambda m: b"Content-Transfer-Encoding: base64\r\n" + m,
    "List-Unsubscribe-Post": lambda m: m.replace(b"One-Click", b"No-Click"),
    "List-Unsubscribe": lambda m: m.replace(b"relay.example/u/", b"relay.example/v/"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_on_the_way_breaks_both_signatures(change):
    mail = b"List-Unsubscribe: <https://relay.example/u/T>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" + PLAIN + b"hello\r\n"
    message, records = signed(mail)
    changed = change(message)
    assert changed != message
    assert dkimpy(message, records) == [True, True]
    assert dkimpy(changed, records) == [False, False]


@pytest.mark.parametrize("change", [
    lambda m: m.replace(b"a  test\r\n\tfolded", b"a test  folded"), lambda m: m + b"\r\n\r\n", lambda m: b"Received: from a by b\r\nX-Spam: no\r\n" + m,
], ids=["refolded", "empty lines added", "trace fields added"])
def test_what_relays_do_to_mail_breaks_nothing(change):
    message, records = signed(PLAIN + b"hello\r\n")
    assert dkimpy(change(message), records) == [True, True]


def test_lines_are_short_and_there_is_no_length_tag():
    message, _ = signed(PLAIN + b"hello\r\n")
    fields = split(message)[0].all(b"dkim-signature")
    assert max(len(line) for f in fields for line in f.raw.split(b"\r\n")) <= 80
    assert not any("l=" in part.strip()[:2] for f in fields for part in f.value.split(";"))


def test_the_same_input_gives_the_same_octets():
    assert signed(PLAIN + b"hello\r\n") == signed(PLAIN + b"hello\r\n")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["", " ", "\t ", "a", "a  b ", ".c\t"]), max_size=12), st.integers(1, 20), st.booleans())
def test_a_large_body_is_hashed_by_pieces_as_by_itself(lines, piece, ended):
    body = "\r\n".join(lines).encode() + b"\r\n" * ended
    assert dkim.body_hash(body, piece) == hashlib.sha256(dkim.canonical_body(body)).digest()


@given(st.lists(st.text("ab \t.\xe9", max_size=12), max_size=8))
@example(["", " ", ""])
def test_the_canonical_body_is_dkimpys(lines):
    body = "".join(f"{line}\r\n" for line in lines).encode()
    algorithm = peer.canonicalization.CanonicalizationPolicy.from_c_value(b"relaxed/relaxed")
    assert dkim.canonical_body(body) == algorithm.canonicalize_body(body)


names = st.sampled_from(["From", "To", "Subject", "Date", "X-Other", "List-Unsubscribe", "Content-Type", "subject"])
values = st.text("abc \t,;:=<>\xe9", max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, values, values), max_size=8), st.lists(values, max_size=4))
def test_dkimpy_accepts_every_signature(rows, lines):
    fields = tuple(Field(n.lower().encode(), f"{n}: {a}\r\n {b}.\r\n".encode()) for n, a, b in (("From", "", "joe@example.com"), *rows))
    message = Header(fields)
    body = "".join(f"{line}\r\n" for line in lines).encode()
    key, records = pair(dkim.ED25519)
    top = dkim.sign(message, dkim.body_hash(body), [key], NOW)
    octets = b"".join((*(f.raw for f in (*top, *fields)), b"\r\n", body))
    assert dkimpy(octets, records) == [True]


def test_dns_values():
    key, records = pair(dkim.RSA)
    assert key.domain == DOMAIN
    assert records["rsa._domainkey.example.com"].startswith("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A")
    key, records = pair(dkim.ED25519)
    assert len(records["ed25519._domainkey.example.com"]) == len("v=DKIM1; k=ed25519; p=") + 44


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"], ids=["empty", "nonsense", "torn"])
def test_a_bad_key_is_invalid(pem):
    with pytest.raises(Invalid):
        dkim.key(DOMAIN, "s", pem)


def test_an_unknown_algorithm_is_invalid():
    with pytest.raises(Invalid, match="rsa-sha1"):
        dkim.generate("rsa-sha1")
