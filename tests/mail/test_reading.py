"""Messages read as their readers see them, and messages made to break who reads them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Refuse, RelayError
from relay.mail import entities
from relay.mail.reading import read


def mime(*parts, kind="mixed", boundary="b"):
    inner = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary=\"{boundary}\"\r\n\r\npreamble\r\n{inner}--{boundary}--\r\nepilogue\r\n"


def message(body, *fields):
    return ("From: =?utf-8?q?J=C3=B6rg?= <joe@a.test>\r\n" + "".join(f"{each}\r\n" for each in fields) + body).encode("utf-8", "surrogateescape")


TEXT, HTML = "Content-Type: text/plain\r\n\r\nhello", "Content-Type: text/html\r\n\r\n<p>hello</p>"


@pytest.mark.parametrize(("body", "text", "html", "files"), [
    pytest.param("\r\nhello", "hello", "", [], id="plain"),
    pytest.param("Content-Type: text/html\r\n\r\n<p>", "", "<p>", [], id="html"),
    pytest.param(mime(TEXT, HTML, kind="alternative"), "hello", "<p>hello</p>", [], id="alternative"),
    pytest.param(mime(mime(TEXT, HTML, kind="alternative", boundary="c"), "Content-Type: image/png; name=a.png\r\n\r\nX"), "hello", "<p>hello</p>",
                 [("a.png", "image/png", 1)], id="mixed"),
    pytest.param(mime(TEXT, "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nnot for reading"), "hello", "", [("", "text/plain", 15)],
                 id="text-as-a-file"),
    pytest.param(mime(TEXT, "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner"), "hello", "", [("message.eml", "message/rfc822", 23)],
                 id="a-message-within"),
    pytest.param(mime("no header at all", "\r\nplain two"), "no header at all\nplain two", "", [], id="parts-without-header"),
    pytest.param(mime(TEXT)[:-19], "hello", "", [], id="never-closed"),
    pytest.param("Content-Type: multipart/mixed\r\n\r\nhello", "", "", [("", "multipart/mixed", 5)], id="no-boundary"),
    pytest.param("Content-Type: multipart/mixed; boundary=b\r\n\r\nnothing", "", "", [], id="no-parts"),
    pytest.param("Content-Type: nonsense\r\n\r\nhello", "hello", "", [], id="no-type"),
    pytest.param(mime("Content-Type: image/png\r\nContent-Disposition: attachment; filename=\"../../etc/passwd\"\r\n\r\nX"), "", "",
                 [(".._.._etc_passwd", "image/png", 1)], id="a-path-as-a-name"),
    pytest.param(mime("Content-Type: image/png\r\nContent-Disposition: attachment; filename*0*=utf-8''%C3%A4; filename*1=\"b.png\"\r\n\r\nX"), "", "",
                 [("äb.png", "image/png", 1)], id="RFC 2231"),
    pytest.param(mime("Content-Type: image/png\r\nContent-Disposition: attachment; filename=\"=?utf-8?q?=C3=A4?=.png\"\r\n\r\nX"), "", "",
                 [("ä.png", "image/png", 1)], id="an-encoded-word-as-a-name"),
    pytest.param(mime("Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nQU!\r\n*JD="), "", "", [("", "image/png", 3)], id="broken-base64"),
])
def test_what_a_reader_sees(body, text, html, files):
    found = read(message(body))
    assert (found.text, found.html) == (text, html)
    assert [(each.filename, each.content_type, each.size) for each in found.attachments] == files
    assert (found.from_name, found.from_address) == ("Jörg", "joe@a.test")


@pytest.mark.parametrize(("charset", "octets"), [
    ("iso-8859-1", b"gr\xfc\xdfe"), ("utf-8", "grüße".encode()), ("windows-1252", b"gr\xfc\xdfe"), ("", "grüße".encode()), ("x-unknown", b"gr\xfc\xdfe"),
    ("us-ascii", "grüße".encode()), ("utf-16", "grüße".encode("utf-16")),
])
def test_charsets(charset, octets):
    kind = f"; charset=\"{charset}\"" if charset else ""
    head = f"From: a@b.test\r\nContent-Type: text/plain{kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert read(head.encode() + base64.b64encode(octets)).text == "grüße"


def nested(depth, body="x", kind="multipart"):
    if kind == "message":
        return ("Content-Type: message/rfc822\r\n\r\n" * depth + body).encode()
    heads = (f"Content-Type: multipart/mixed; boundary=\"b{number}\"\r\n\r\n--b{number}\r\n" for number in range(depth))
    return ("".join(heads) + f"\r\n{body}").encode()


def test_nesting_is_bounded():
    assert read(nested(entities.DEPTH)).text == "x"
    with pytest.raises(Refuse) as caught:
        read(nested(entities.DEPTH + 1))
    assert caught.value.reply.code == 554


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_a_tower_of_parts_ends_no_process(depth):
    """A parser that recursed would take the process with it."""
    with pytest.raises(Refuse):
        read(nested(depth))


def test_a_tower_of_messages_is_one_file():
    assert [each.content_type for each in read(nested(50_000, kind="message")).attachments] == ["message/rfc822"]


@pytest.mark.parametrize("part", ["\r\nx\r\n", "Content-Type: image/png\r\n\r\nx\r\n", "Content-Type: multipart/mixed; boundary=c\r\n\r\n", ""])
def test_a_crowd_of_parts_is_cut(part):
    found = read(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + f"--b\r\n{part}".encode() * 100_000)
    assert len(found.attachments) <= 100
    assert len(found.text) <= 2 * entities.PARTS


def test_nothing_of_a_reading_has_a_nul():
    found = read(message(mime("Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAAAA==")))
    assert "\0" not in found.text


@given(st.binary(max_size=2_000))
def test_any_octets_are_read_or_refused(octets):
    try:
        found = read(octets)
    except RelayError:
        return
    assert len(found.attachments) <= 100


PIECES = (
    "--b", "--b--", "--c", "\r\n", "\r\n\r\n", "\r\n--b\r\n", "Content-Type: multipart/mixed; boundary=b", "Content-Type: multipart/mixed; boundary=c",
    "Content-Type: text/html", "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable", "=3D=\r\n", "QUJD",
    "Content-Type: message/rfc822", "Content-Disposition: attachment; filename*=utf-8''%ff%0d%0a", "filename*99999999999999999999=x", "From: a@b.test",
    "\udcff", "\0",
)


@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_any_pieces_of_mime_are_read_or_refused(pieces):
    try:
        found = read("".join(pieces).encode("utf-8", "surrogateescape"))
    except RelayError:
        return
    for each in found.attachments:
        assert "/" not in each.filename
        assert "\n" not in each.filename
