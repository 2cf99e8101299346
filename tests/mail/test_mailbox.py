"""Mailbox lists: what they say, and what is refused because two readers could differ."""

from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.mail import mailbox, words
from relay.mail.header import split
from relay.mail.mailbox import mailboxes

ROWS = {
    "bare": ("joe@example.com", [("", "joe@example.com")]),
    "name": ("Joe Doe <joe@example.com>", [("Joe Doe", "joe@example.com")]),
    "no space": ("Joe<joe@example.com>", [("Joe", "joe@example.com")]),
    "angles alone": ("<joe@example.com>", [("", "joe@example.com")]),
    "quoted name": ('"Doe, Joe" <joe@example.com>', [("Doe, Joe", "joe@example.com")]),
    "escaped quote": (r'"Joe \"x\" Doe" <joe@example.com>', [('Joe "x" Doe', "joe@example.com")]),
    "address as name": ("joe@example.com <joe@example.com>", [("joe@example.com", "joe@example.com")]),
    "other address in quotes": ('"eve@evil.example" <joe@example.com>', [("eve@evil.example", "joe@example.com")]),
    "initial with dot": ("Joe Q. Doe <joe@example.com>", [("Joe Q. Doe", "joe@example.com")]),
    "encoded name": ("=?utf-8?q?J=C3=BCrgen?= <j@example.com>", [("Jürgen", "j@example.com")]),
    "bare UTF-8": ("Jürgen <j@example.com>", [("Jürgen", "j@example.com")]),
    "comment as name": ("joe@example.com (Joe Doe)", [("Joe Doe", "joe@example.com")]),
    "nested comment": ("Joe (a (b) c) <joe@example.com>", [("Joe", "joe@example.com")]),
    "list": ("a@example.com, B <b@example.com>", [("", "a@example.com"), ("B", "b@example.com")]),
    "empty list members": (", a@example.com,,b@example.com ,", [("", "a@example.com"), ("", "b@example.com")]),
    "group": ("Team: a@example.com, B <b@example.com>; , c@example.com", [("", "a@example.com"), ("B", "b@example.com"), ("", "c@example.com")]),
    "empty group": ("undisclosed-recipients:;", []),
    "route": ("<@a.example,@b.example:joe@example.com>", [("", "joe@example.com")]),
    "spaces around dots": ("joe . doe @ example . com", [("", "joe.doe@example.com")]),
    "quoted local part": ('"joe doe"@example.com', [("", '"joe doe"@example.com')]),
    "literal": ("joe@[192.0.2.1]", [("", "joe@[192.0.2.1]")]),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("value", "expected"), ROWS.values(), ids=ROWS.keys())
def test_read(value, expected):
    assert [(box.name, box.address) for box in mailboxes(value)] == expected


BAD = {
    "two addresses without comma": "a@example.com b@example.com", "address after the angles": "A <a@example.com> b@example.com",
    "two angles": "<a@example.com> <b@example.com>", "open quote": '"Joe <a@example.com>',
    "open angle": "Joe <a@example.com", "open comment": "joe@example.com (x",
    "empty angles": "Joe <>", "closing angle alone": "joe@example.com>", "no address": "Joe Doe", "semicolon": "a@example.com; b@example.com",
    "group in a group": "A: B: a@example.com;;", "angle in angles": "<<a@example.com>>", "encoded address": "=?utf-8?q?a=40example=2Ecom?=",
    "comma in angles": "<a@example.com, b@example.com>", "backslash": "a\\@example.com", "words before an address": "joe doe@example.com",
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_refused(value):
    with pytest.raises(Invalid) as caught:
        mailboxes(value)
    assert caught.value.field == "From"
    assert caught.value.reply.code == 550


@given(st.text('ab@.<>(),;:"\\ []=?é\t', max_size=40))
def test_any_value_gives_mailboxes_or_invalid(value):
    try:
        found = mailboxes(value)
    except Invalid:
        return
    for box in found:
        assert mailboxes(str(box)) == (mailbox.Mailbox(words.decode(box.name), box.address, box.domain),)


def test_a_long_value_takes_linear_time():
    assert len(mailboxes(", ".join(f'"N {n}" <a{n}@example.com>' for n in range(5_000)))) == 5_000
    for evil in ("(" * 100_000, '"' + "\\a" * 100_000, "a." * 100_000, "a " * 100_000, "<" + "@a," * 50_000):
        with pytest.raises(Invalid):
            mailboxes(evil)


NAMES = [
    "Joe", "Joe Doe", "Doe, Joe", 'Joe "the" Doe', "back\\slash", "Jürgen Müßig", "日本語" * 30, "=?utf-8?q?x?=", "a@b", "<x@y>", " lead", "😀" * 40,
    "a\tb", "x;y:z",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_survives_its_encoding(name):
    value = mailbox.text(name, "joe@example.com")
    assert value.isascii()
    assert [(box.name, box.address) for box in mailboxes(value)] == [(name, "joe@example.com")]
    assert getaddresses([value])[0][1] == "joe@example.com"


@pytest.mark.parametrize("name", ["a\r\nBcc: eve@evil.example", "a\nb", "a\0b"])
def test_a_name_forges_no_field(name):
    with pytest.raises(Invalid):
        mailbox.text(name, "joe@example.com")


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0"), max_size=300))
@example("a" * 3_000)
@example("ab " * 1_000)
def test_a_subject_survives_its_encoding(text):
    field = words.unstructured("Subject", text)
    header, body = split(field.raw + b"\r\nbody")
    assert body == b"body"
    assert words.decode(header.value(b"subject")) == (text if b"=?" in field.raw else text.strip())
    assert all(len(line) <= 998 for line in field.raw.split(b"\r\n"))
