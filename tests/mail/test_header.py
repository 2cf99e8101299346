"""The header: fields keep their octets, whatever they are, and no value from outside makes a second field."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.mail import header
from relay.mail.header import Header, make, split

MESSAGES = {
    # id: octets, [(name, value)], body
    "plain": (b"A: 1\r\nB: 2\r\n\r\nbody", [(b"a", "1"), (b"b", "2")], b"body"),
    "folded": (b"A: 1\r\n 2\r\n\t3\r\n\r\n", [(b"a", "1 2\t3")], b""),
    "space before the colon": (b"A \t: 1\r\n\r\n", [(b"a", "1")], b""),
    "no space after it": (b"A:1\r\n\r\n", [(b"a", "1")], b""),
    "empty value": (b"A:\r\n\r\n", [(b"a", "")], b""),
    "colons in the value": (b"A: b:c\r\n\r\n", [(b"a", "b:c")], b""),
    "UTF-8": ("A: é\r\n\r\n".encode(), [(b"a", "é")], b""),
    "Latin-1": (b"A: \xe9\r\n\r\n", [(b"a", "é")], b""),
    "several of one name": (b"A: 1\r\na: 2\r\n\r\n", [(b"a", "1"), (b"a", "2")], b""),
    "no header": (b"\r\nbody", [], b"body"),
    "no empty line": (b"A: 1\r\n", [(b"a", "1")], b""),
    "all body": (b"hello you\r\n", [], b"hello you\r\n"),
    "body begins where fields end": (b"A: 1\r\nhello you\r\n", [(b"a", "1")], b"hello you\r\n"),
    "nothing": (b"", [], b""),
    "body of empty lines": (b"A: 1\r\n\r\n\r\n\r\n", [(b"a", "1")], b"\r\n\r\n"),
}


@pytest.mark.parametrize(("octets", "fields", "body"), MESSAGES.values(), ids=MESSAGES.keys())
def test_split(octets, fields, body):
    found, rest = split(octets)
    assert [(f.name, f.value) for f in found.fields] == fields
    assert rest == body


@given(st.binary(max_size=300).map(lambda octets: octets.replace(b"x", b"\r\n").replace(b"y", b"A: ").replace(b"z", b"\r\n ")))
@example(b"A: 1\r\n\rB: 2\r\n\r\n")
def test_nothing_is_lost(octets):
    found, body = split(octets)
    raw = b"".join(found.raws())
    assert octets in (raw + body, raw + b"\r\n" + body)
    assert found.size == len(raw)


def test_an_endless_header_is_refused_and_read_in_linear_time():
    for octets in (b"A: " + b"x" * header.BLOCK + b"\r\n\r\n", b"A: 1\r\n" * (header.FIELDS + 1)):
        with pytest.raises(Invalid) as caught:
            split(octets)
        assert caught.value.reply.code == 552
    assert split(b"A" * 5_000_000)[1] == b"A" * 5_000_000
    assert split(b"A" + b" " * 2_000_000)[0].fields == ()


def test_fields_are_found_added_and_taken_out():
    found, _ = split(b"A: 1\r\nB: 2\r\nA: 3\r\n\r\n")
    assert found.value(b"a") == "1"
    assert found.value(b"c") == ""
    assert [f.value for f in found.all(b"a")] == ["1", "3"]
    assert b"".join(found.without(b"a").raws()) == b"B: 2\r\n"
    assert b"".join(found.prepend(make("C", "0")).append(make("D", "4")).raws()) == b"C: 0\r\nA: 1\r\nB: 2\r\nA: 3\r\nD: 4\r\n"


@pytest.mark.parametrize(("name", "value"), [
    ("A", "1\r\nBcc: x"), ("A", "1\n2"), ("A", "1\r2"), ("A", "1\0"), ("A", "=?utf-8?q?a=0ABcc=3A_x=40y?="), ("A", "=?utf-8?b?YQ0KQjogMQ==?="),
    ("A", "=?x-none?q?a=0Ab?="), ("A B", "1"), ("A:", "1"), ("", "1"), ("Ä", "1"), ("A\r\nB", "1"), ("A" * 77, "1"),
], ids=repr)
def test_a_value_forges_no_field(name, value):
    """Encoded words count as what they decode to, because a later reader decodes them (CVE-2024-6923)."""
    with pytest.raises(Invalid):
        make(name, value)


@given(st.text(max_size=80))
def test_what_is_made_is_one_field(value):
    try:
        field = make("X", value)
    except Invalid:
        return
    found, body = split(Header((field,)).fields[0].raw + b"\r\nbody")
    assert [f.raw for f in found.fields] == [field.raw]
    assert body == b"body"
