"""Bare line ends are found wherever they hide."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.lines import clean


@pytest.mark.parametrize(("octets", "expected"), [
    (b"", True), (b"a", True), (b"\r\n", True), (b"a\r\nb", True),
    (b"a\r\n\r\nb\r\n", True), (b"a\nb", False), (b"a\rb", False), (b"a\r", False), (b"\n", False),
    (b"a\r\n\n", False), (b"a\r\r\n", False), (b"a\n\r", False), (b"a\r\n" * 50_000 + b"\r", False), (b"a\0b", False), (b"\x85\x0b\x0c\x1c\xff\r\n", True),
])
def test_clean(octets, expected):
    assert clean(octets) is expected


@given(st.binary() | st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\0"])).map(b"".join))
def test_clean_agrees_with_the_definition(octets):
    assert clean(octets) == (re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets) is None)
