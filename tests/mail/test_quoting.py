"""Replies without what they answer."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.quoting import stripped


@pytest.mark.parametrize(("text", "own"), [
    pytest.param("Thanks!\n\nOn Mon, 3 Mar 2026 at 10:00, Joe <joe@x.test> wrote:\n> hi\n> there\n", "Thanks!", id="Gmail, Apple"),
    pytest.param("Thanks!\r\n\r\nOn Mon, 3 Mar 2026 at 10:00, A very long name\r\n<joe@x.test> wrote:\r\n> hi\r\n", "Thanks!", id="folded attribution"),
    pytest.param("Ja\n\nAm 03.03.2026 um 10:00 schrieb Jörg Meier:\n> hallo", "Ja", id="German"),
    pytest.param("Oui\n\nLe lun. 3 mars 2026 à 10:00, Anne <a@x.test> a écrit :\n> salut", "Oui", id="French"),
    pytest.param("Sí\n\nEl lun, 3 mar 2026 a las 10:00, Ana (<a@x.test>) escribió:\n> hola", "Sí", id="Spanish"),
    pytest.param("Yes.\n\n-----Original Message-----\nFrom: a\nhi", "Yes.", id="Outlook's rule"),
    pytest.param("Ja.\n\n-----Ursprüngliche Nachricht-----\nVon: a", "Ja.", id="Outlook's rule, German"),
    pytest.param("Yes.\n\n________________________________\nFrom: a", "Yes.", id="Outlook on the web"),
    pytest.param("ok\n\nFrom: Joe <a@b.test>\nSent: Monday\nTo: x\nSubject: y\n\nhi", "ok", id="Outlook's block"),
    pytest.param("ok\n\nVon: Joe\nGesendet: Montag\nAn: x\n\nhi", "ok", id="Outlook's block, German"),
    pytest.param("2026-03-03 10:00 GMT+01:00 Joe <joe@x.test> wrote:\n> hi", "", id="nothing of its own"),
    pytest.param("see\n> q1\nanswer\n> q2\nmore", "see\n> q1\nanswer\n> q2\nmore", id="answers between the lines stay"),
    pytest.param("first\n> q1\n> q2\n", "first", id="a quote at the end"),
    pytest.param("hello\n-- \nJoe\nDirector", "hello", id="signature"),
    pytest.param("On it, he wrote\nfine", "On it, he wrote\nfine", id="a sentence that begins like one"),
    pytest.param("From: here on it goes\nwell", "From: here on it goes\nwell", id="a line that looks like a field"),
    pytest.param("", "", id="empty"),
])
def test_the_persons_own_words(text, own):
    assert stripped(text) == own


@given(st.text(alphabet="On wrote:<>@a\n-_ From", max_size=400))
def test_never_more_than_was_there(text):
    assert len(stripped(text)) <= len(text)


@pytest.mark.parametrize("line", ["<a@" + "a@" * 190 + ":", "on " + "x" * 390 + ":", "> q", "on wrote " * 40 + ":", "From: x", "-" * 399])
def test_hostile_texts_take_no_longer_than_others(line):
    begun = time.process_time()
    stripped(f"x{line}\n" * 5_000)
    assert time.process_time() - begun < 5.0
