"""Addresses: which are taken, what they become, and that nothing but Invalid ever comes out."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.mail import address

ROWS = [
    # id, given, utf8, local, domain
    ("plain", "joe@Example.COM", False, "joe", "example.com"),
    ("case of the local part stays", "Joe.Doe@example.com", False, "Joe.Doe", "example.com"),
    ("every atext", "!#$%&'*+/=?^_`{|}~-@example.com", False, "!#$%&'*+/=?^_`{|}~-", "example.com"),
    ("one label", "root@localhost", False, "root", "localhost"),
    ("underscore in a host", "root@app_web_1.internal", False, "root", "app_web_1.internal"),
    ("quoted", '"joe blow"@example.com', False, '"joe blow"', "example.com"),
    ("quoted at", '"a@b"@example.com', False, '"a@b"', "example.com"),
    ("quoted pair", r'"a\"b"@example.com', False, r'"a\"b"', "example.com"),
    ("empty quoted", '""@example.com', False, '""', "example.com"),
    ("IPv4 literal", "joe@[192.0.2.1]", False, "joe", "[192.0.2.1]"),
    ("IPv6 literal", "joe@[IPv6:2001:DB8:0::1]", False, "joe", "[IPv6:2001:db8::1]"),
    ("A-label", "joe@XN--bcher-KVA.example", False, "joe", "xn--bcher-kva.example"),
    ("U-label", "joe@Bücher.example", True, "joe", "xn--bcher-kva.example"),
    ("UTF-8 local part", "jürgen@example.com", True, "jürgen", "example.com"),
    ("UTF-8 quoted", '"jür gen"@example.com', True, '"jür gen"', "example.com"),
    ("64 octets", "a" * 64 + "@example.com", False, "a" * 64, "example.com"),
    ("254 octets", "a" * 64 + "@" + ".".join(["b" * 62] * 3), False, "a" * 64, ".".join(["b" * 62] * 3)),
]


@pytest.mark.parametrize(("given_", "utf8", "local", "domain"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_taken(given_, utf8, local, domain):
    assert address.parse(given_, utf8) == (local, domain)


BAD = {
    "nothing": "", "no at": "joe", "no local part": "@example.com", "no domain": "joe@", "two dots": "a..b@example.com", "leading dot": ".a@example.com",
    "trailing dot": "a.@example.com", "space": "a b@example.com", "two ats": "a@b@example.com",
    "newline": "a@example.com\n", "CRLF inside": "a\r\nb@example.com",
    "NUL": "a\0@example.com", "brackets": "<a@example.com>", "hyphen first": "a@-example.com", "hyphen last": "a@example-.com", "empty label": "a@example..com",
    "domain ends in a dot": "a@example.com.", "numbers are no domain": "a@192.0.2.1", "65 octets": "a" * 65 + "@example.com",
    "label of 64": "a@" + "b" * 64 + ".com", "255 octets": "a" * 64 + "@" + ".".join(["b" * 62] * 2) + "." + "c" * 62 + "d.d", "open quote": '"a@example.com',
    "CR in quotes": '"a\rb"@example.com',
    "bare quote in quotes": '"a"b"@example.com', "bad literal": "a@[300.1.1.1]", "zone in a literal": "a@[IPv6:fe80::1%eth0]", "open literal": "a@[192.0.2.1",
    "lone surrogate": "a\udc80@example.com", "C1 control": "a\x85@example.com", "line separator": "a\u2028b@example.com", "bad U-label": "a@\u0301.example",
    "comment": "a(b)@example.com", "percent in domain": "a@b%c.example", "huge": "a" * 100_000 + "@example.com", "huge in UTF-8": "ü" * 100_000,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_refused(text):
    with pytest.raises(Invalid) as caught:
        address.parse(text, True)
    assert caught.value.reply.code == 501
    assert caught.value.reply.enhanced == "5.1.3"


@pytest.mark.parametrize("text", ["jürgen@example.com", "joe@bücher.example"])
def test_outside_ascii_needs_smtputf8(text):
    with pytest.raises(Invalid) as caught:
        address.parse(text, False)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (553, "5.6.7")


SAME = {
    "case": ("Joe@Example.Com", "joe@example.com"),
    "needless quotes": ('"Joe"@example.com', "joe@example.com"),
    "needless backslash": (r'"j\oe x"@example.com', '"joe x"@example.com'),
    "U-label and A-label": ("joe@BÜCHER.example", "joe@xn--bcher-kva.example"),
    "composed and decomposed": ("ju\u0308rgen@example.com", "j\u00fcrgen@example.com"),
    "upper case outside ASCII": ("JÜRGEN@example.com", "jürgen@example.com"),
    "literal": ("joe@[IPv6:2001:db8:0:0::1]", "joe@[IPv6:2001:DB8::1]"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_two_spellings_of_one_address_have_one_key(one, other):
    assert address.key(one) == address.key(other)


@pytest.mark.parametrize(("one", "other"), [("a+b@example.com", "a@example.com"), ("a.b@gmail.com", "ab@gmail.com"), ("a@b.example.com", "a@example.com")])
def test_different_addresses_stay_different(one, other):
    assert address.key(one) != address.key(other)


@pytest.mark.parametrize(("domain", "parent", "expected"), [
    ("example.com", "example.com", True), ("mail.example.com", "example.com", True), ("badexample.com", "example.com", False), ("com", "example.com", False),
    ("example.com", "mail.example.com", False),
])
def test_within(domain, parent, expected):
    assert address.within(domain, parent) is expected


@given(st.text(max_size=300))
@example("İ@example.com")
@example('"\\ "@a')
def test_any_text_gives_an_address_or_invalid(text):
    try:
        local, domain = address.parse(text, True)
    except Invalid:
        assert not address.valid(text)
        return
    assert domain.isascii()
    assert not any(c in f"{local}{domain}" for c in "\r\n\0")
    normal = address.key(text)
    assert address.key(normal) == normal


@given(st.from_regex(r"[a-zA-Z0-9_.+-]{1,30}", fullmatch=True), st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,20}(\.[a-z]{2,5}){0,3}", fullmatch=True))
def test_upper_case_changes_no_key(local, domain):
    text = f"{local}@{domain}"
    if address.valid(text):
        assert address.key(text.upper()) == address.key(text)
