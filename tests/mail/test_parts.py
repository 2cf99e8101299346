"""Text parts: which are found, and that an edit changes what it says and nothing else, whatever the encoding."""

import quopri
from base64 import b64decode, b64encode, encodebytes
from email import message_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail import parts
from relay.mail.header import split
from relay.mail.parts import Edit, opened, plan, quoted, texts


def crlf(text):
    return text.replace("\n", "\r\n").encode()


NESTED = crlf("""\
Content-Type: multipart/mixed; boundary="out er"

preamble
--out er
Content-Type: multipart/alternative; boundary=in

--in
Content-Type: text/plain; charset=utf-8

plain
--in
Content-Type: TEXT/HTML; charset="ISO-8859-1"
Content-Transfer-Encoding: Quoted-Printable

<p>html
--in--
--out er  \t
Content-Type: text/html
Content-Disposition: attachment; filename=x.html

<p>attached
--out er

no header
--out er--
<p>epilogue
""")

FOUND = {
    "nothing said": (b"", b"hello", [("plain", b"hello", "", "")]),
    "html": (b"Content-Type: text/html; charset=utf-8\r\n", b"<p>", [("html", b"<p>", "", "utf-8")]),
    "a comment in the type": (b"Content-Type: text/html (really); charset=x\r\n", b"<p>", [("html", b"<p>", "", "x")]),
    "unreadable type": (b"Content-Type: html\r\n", b"<p>", [("plain", b"<p>", "", "")]),
    "image": (b"Content-Type: image/png\r\n", b"x", []),
    "attached": (b"Content-Type: text/html\r\nContent-Disposition: attachment\r\n", b"<p>", []),
    "signed": (b"Content-Type: multipart/signed; boundary=b\r\n", b"--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n", []),
    "encrypted": (b"Content-Type: multipart/encrypted; boundary=b\r\n", b"--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n", []),
    "forwarded": (b"Content-Type: message/rfc822\r\n", b"Content-Type: text/html\r\n\r\n<p>", []),
    "no boundary": (b"Content-Type: multipart/mixed\r\n", b"--b\r\n\r\nx\r\n--b--\r\n", []),
    "never closed": (b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n\r\nx\r\n", [("plain", b"x\r\n", "", "")]),
    "boundary that is only begun": (b"Content-Type: multipart/mixed; boundary=b\r\n", b"--bx\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--", [("plain", b"y", "", "")]),
    "empty part": (b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n\r\n\r\n--b--", [("plain", b"", "", "")]),
    "boundary with pattern signs": (b'Content-Type: multipart/mixed; boundary="a.*(+"\r\n', b"--a.*(+\r\n\r\nx\r\n--a.*(+--", [("plain", b"x", "", "")]),
}


@pytest.mark.parametrize(("header", "body", "expected"), FOUND.values(), ids=FOUND.keys())
def test_found(header, body, expected):
    fields, body = split(header + b"\r\n" + body)
    assert [(p.kind, body[p.start:p.end], p.encoding, p.charset) for p in texts(fields, body)] == expected


def test_a_tree_of_parts():
    fields, body = split(NESTED)
    assert [(p.kind, body[p.start:p.end], p.encoding, p.charset) for p in texts(fields, body)] == [
        ("plain", b"plain", "", "utf-8"), ("html", b"<p>html", "quoted-printable", "iso-8859-1"), ("plain", b"no header", "", "")]


def test_a_hall_of_mirrors_ends():
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(500))
    fields, body = split(deep + b"Content-Type: text/html\r\n\r\n<p>")
    assert texts(fields, body) == []
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 5_000
    assert len(texts(*split(many))) == parts.PARTS


@given(st.binary(max_size=300), st.sampled_from([b"multipart/mixed; boundary=b", b"text/html; charset=utf-16", b"text/plain", b"multipart/x; boundary=\"\""]))
def test_any_octets_are_walked(body, kind):
    fields, body = split(b"Content-Type: " + kind + b"\r\n\r\n" + body.replace(b"x", b"\r\n--b\r\n"))
    for part in texts(fields, body):
        assert 0 <= part.start <= part.end <= len(body)
        text = opened(body, part)
        if text is not None and not text.whole:
            assert plan(body, [(text, [])]).render([]) == body


def edited(encoding, charset, raw, octets, marks):
    """The body after replacing each [start, end) of the text by its value, as `plan` does it, and the text as it should read then."""
    header, body = split(b"Content-Type: text/html; charset=%b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (charset, encoding, raw))
    (part,) = texts(header, body)
    text = opened(body, part)
    assert text.octets == octets
    edits, values, expected, at = [], [], [], 0
    for start, end, value in marks:
        edits.append(Edit(start, end, len(values)))
        values.append(value)
        expected += (octets[at:start], value)
        at = end
    return plan(body, [(text, edits)]).render(values), b"".join((*expected, octets[at:]))


content = st.text("ab=é \t<>.日-", max_size=120).map(lambda text: text.replace("-", "\r\n").encode())


@st.composite
def marks_on(draw, text):
    spots = sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=6).map(lambda found: found[:len(found) // 2 * 2])))
    values = st.sampled_from([b"NEW", b"http://x.example/" + b"y" * 200, b"a = b\r\nc ", b""])
    return [(start, end, draw(values)) for start, end in zip(spots[::2], spots[1::2], strict=True)]


@settings(max_examples=300)
@given(st.data())
def test_quoted_printable_changes_where_it_should(data):
    octets = data.draw(content)
    raw = quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    octets = quopri.decodestring(raw)
    body, expected = edited(b"quoted-printable", b"utf-8", raw, octets, data.draw(marks_on(octets)))
    assert quopri.decodestring(body) == expected
    assert all(len(line) <= 76 for line in body.split(b"\r\n"))


@given(st.data())
def test_base64_changes_where_it_should(data):
    octets = data.draw(content)
    raw = encodebytes(octets).replace(b"\n", b"\r\n")
    body, expected = edited(b"base64", b"utf-8", raw, octets, data.draw(marks_on(octets)))
    assert b64decode(body) == expected
    assert all(len(line) <= 76 for line in body.split(b"\r\n"))
    assert body.endswith(b"\r\n") == raw.endswith(b"\r\n")


@given(st.data())
def test_eight_bit_changes_where_it_should(data):
    octets = data.draw(content)
    body, expected = edited(b"8bit", b"utf-8", octets, octets, data.draw(marks_on(octets)))
    assert body == expected


ODD = {
    "UTF-16": ("utf-16", b"base64"), "UTF-32": ("utf-32-le", b"base64"), "ISO-2022-JP": ("iso-2022-jp", b"7bit"), "UTF-7": ("utf-7", b"7bit"),
    "Shift_JIS": ("shift_jis", b"8bit"),
}


@pytest.mark.parametrize(("charset", "encoding"), ODD.values(), ids=ODD.keys())
def test_odd_charsets(charset, encoding):
    text = "日本語 <a href=XX>日本</a>"
    raw = text.encode(charset)
    header, body = split(b"Content-Type: text/html; charset=%b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        charset.encode(), encoding, b64encode(raw) if encoding == b"base64" else raw))
    (part,) = texts(header, body)
    seen = opened(body, part)
    if seen is None:
        assert charset == "utf-7"
        return
    at = seen.octets.index(b"XX")
    out = plan(body, [(seen, [Edit(at, at + 2, 0)])]).render([b"https://new.example/"])
    octets = b64decode(out) if encoding == b"base64" else out
    assert octets.decode(charset) == text.replace("XX", "https://new.example/")


@pytest.mark.parametrize(("encoding", "charset", "raw"), [
    (b"base64", b"utf-8", b"no base 64!"), (b"x-uuencode", b"utf-8", b"x"), (b"quoted-printable", b"utf-16", b"x"),
    (b"8bit", b"utf-8", b"x" * (parts.TEXT + 1)), (b"7bit", b"x-unheard-of", b"\x1b$B"),
], ids=["torn base 64", "unknown encoding", "UTF-16 quoted", "too large", "unknown charset with escapes"])
def test_what_cannot_be_edited_is_left_alone(encoding, charset, raw):
    header, body = split(b"Content-Type: text/html; charset=%b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (charset, encoding, raw))
    (part,) = texts(header, body)
    assert opened(body, part) is None


def test_long_runs_of_spaces_are_read_in_linear_time():
    part = parts.Part("html", 0, 2_000_000, "quoted-printable", "")
    assert len(opened(b" x" + b" " * 1_999_998, part).octets) == 2


@given(st.binary(max_size=300).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"\r\n")))
def test_what_is_quoted_reads_as_it_was(value):
    octets = b"a" + quoted(value) + b"=\r\nb"
    assert quopri.decodestring(octets) == b"a" + value + b"b"
    assert message_from_bytes(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + octets).get_payload(decode=True) == b"a" + value + b"b"


def test_a_quoted_part_does_not_end_in_a_soft_line_break():
    part = parts.Part("html", 0, 3, "quoted-printable", "")
    text = opened(b"abc", part)
    assert plan(b"abc", [(text, [Edit(3, 3, 0)])]).render([b"d=e\r\n"]) == b"abc=\r\nd=3De\r\n"
    assert plan(b"abc", [(text, [Edit(1, 2, 0)])]).render([b"x"]) == b"a=\r\nx=\r\nc"
