"""Bounces in free form: what flufl.bounce finds is found, and is never evidence enough; its own samples, all of them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tarfile
import time
from email import message_from_bytes

import pytest

from relay import bounces
from relay.mail import dsn, freeform
from tests.support.peers import absent

RULES = bounces.read()
SAMPLES = "flufl.bounce==6.0.0"  # whose source distribution has them, unlike its wheel


@pytest.fixture(scope="module")
def archive(request):
    """The source distribution, fetched once and kept in pytest's cache."""
    directory = request.config.cache.mkdir("flufl.bounce")
    if not list(directory.glob("*.tar.gz")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "flufl.bounce", "--dest", str(directory), SAMPLES]
        if subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}).returncode:
            absent("the source distribution of flufl.bounce")
    (found,) = directory.glob("*.tar.gz")
    return found


def samples(archive):
    with tarfile.open(archive) as tar:
        return {each.name.rpartition("/")[2]: tar.extractfile(each).read() for each in tar if "/tests/data/" in each.name and each.name.endswith(".txt")}


def named(told):
    return {address.lower() for each in told for address in (each.final, each.original) if address}


def test_every_sample_of_flufl_is_classified(archive):
    """Whoever it finds in a sample we find too, by our own readers or by it; and each recipient has a class. None is hard on a guess."""
    from flufl.bounce import all_failures

    logging.getLogger("flufl.bounce").disabled = True
    found, classes = samples(archive), set()
    assert len(found) > 110
    for name, octets in found.items():
        report = dsn.read(octets)
        expected = {address.decode().strip().lower() for kind in all_failures(message_from_bytes(octets)) for address in kind}
        assert expected <= named(report.told), name
        for told in report.told:
            meant = RULES.classify(told.reply, told.mx, "report")
            meant = meant.doubted if told.guess else meant
            assert meant.category in bounces.CATEGORIES
            assert not (told.guess and meant.suppresses), name
            classes.add(meant.category)
    assert {"hard", "soft", "mailbox-full", "unknown"} <= classes


SENDMAIL = b"""From: MAILER-DAEMON@old.test\r
Subject: Returned mail: User unknown\r
\r
   ----- The following addresses had permanent fatal errors -----\r
<user@example.com>\r
\r
   ----- Transcript of session follows -----\r
550 5.1.1 <user@example.com>... User unknown\r
"""


def test_words_beside_the_address_are_the_reply_and_only_a_guess():
    (told,) = dsn.read(SENDMAIL).told
    assert (told.final, told.action, told.guess) == ("user@example.com", "failed", True)
    assert "User unknown" in told.reply.text
    meant = RULES.classify(told.reply)
    assert (meant.category, meant.doubted.category, meant.doubted.rule) == ("hard", "soft", "free-form")


@pytest.mark.parametrize("octets", [
    pytest.param(b"Hi. This is the\r\n", id="no-header"),
    pytest.param(b"X-Failed-Recipients: " + b"a (" * 5_000 + b"\r\n\r\n", id="comments-without-end"),
    pytest.param(b"From: \xff\xfe\r\nContent-Type: multipart/report; boundary=\xff\r\n\r\n--\xff\r\n", id="no-letters"),
    pytest.param(b"", id="nothing"),
])
def test_what_its_detectors_stumble_over_is_no_bounce(octets):
    assert freeform.read(octets) == []


@pytest.mark.parametrize("unit", [b"\r\n \t", b"--b\r\n", b"<a@b>:\r\n\r\n", b"<a@b.c>\r\n", b"user@example.com\r\n", b" <"], ids=lambda unit: repr(unit)[2:-1])
def test_long_repetitions_take_no_long_time(unit):
    begin = time.process_time()
    freeform.read(b"From: MAILER-DAEMON@x\r\nSubject: failure\r\n\r\n" + unit * (dsn.OCTETS // len(unit)))
    assert time.process_time() - begin < 2.0
