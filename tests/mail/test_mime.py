"""What the builder makes must read back, by the standard library's parser, as what was given, and no value may end a field early."""

import base64
import email
import email.policy
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.mail import mime

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=3000)


def read(draft):
    return email.message_from_bytes(mime.build(draft), policy=email.policy.default)


def draft(**given):
    return mime.Draft(**{"sender": "PostStack <you@yourdomain.com>", "to": ["user@example.com"], "subject": "Hello", "text": "Hi", **given})


def b64(octets):
    return base64.b64encode(octets).decode()


PDF = mime.Attachment("invoice.pdf", b64(b"%PDF-1.7 " * 500), "application/pdf")
LOGO = mime.Attachment("logo.png", b64(b"\x89PNG"), "", "logo@inline")

SHAPES = [
    pytest.param({}, ["text/plain"], id="text"),
    pytest.param({"text": None, "html": "<p>Hi</p>"}, ["text/html"], id="html"),
    pytest.param({"html": "<p>Hi</p>"}, ["multipart/alternative", "text/plain", "text/html"], id="both"),
    pytest.param({"attachments": [PDF]}, ["multipart/mixed", "text/plain", "application/pdf"], id="text and a file"),
    pytest.param({"text": None, "html": "<img src='cid:logo@inline'>", "attachments": [LOGO]},
                 ["multipart/related", "text/html", "image/png"], id="inline image"),
    pytest.param({"html": "<p>Hi</p>", "attachments": [PDF, LOGO]},
                 ["multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png", "application/pdf"], id="everything"),
    pytest.param({"attachments": [LOGO]}, ["multipart/mixed", "text/plain", "image/png"], id="an inline image without HTML is a file"),
]


@pytest.mark.parametrize(("given", "types"), SHAPES)
def test_structure(given, types):
    assert [part.get_content_type() for part in read(draft(**given)).walk()] == types


@pytest.mark.parametrize(("text", "encoding"), [
    pytest.param("Hello", "7bit", id="plain"),
    pytest.param("x" * 999, "quoted-printable", id="a line over 998"),
    pytest.param("Grüße aus Köln, and a good deal of plain English", "quoted-printable", id="some letters outside ASCII"),
    pytest.param("こんにちは世界", "base64", id="mostly outside ASCII"),
])
def test_encoding_is_the_lightest_that_survives(text, encoding):
    message = read(draft(text=text))
    assert message["Content-Transfer-Encoding"] == encoding
    assert message.get_content().replace("\r\n", "\n") == text + "\n"


@given(text=TEXT, html=TEXT)
def test_texts_come_back(text, html):
    message = read(draft(text=text, html=html))
    plain, rich = (part.get_payload(decode=True).decode() for part in message.iter_parts())
    for got, was in ((plain, text), (rich, html)):
        wanted = was.replace("\n", "\r\n")
        # A multipart body's last line end belongs to the boundary (RFC 2046 §5.1.1).
        assert got.replace("\r\n", "\n").removesuffix("\n") == wanted.replace("\r\n", "\n").removesuffix("\n")


@given(text=TEXT, html=TEXT)
def test_lines_are_short_and_end_in_crlf(text, html):
    octets = mime.build(draft(text=text, html=html, subject=text.replace("\n", " ")))
    lines = octets.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert all(b"\r" not in line and b"\n" not in line for line in lines)


def test_names_and_subject_outside_ascii():
    message = read(draft(sender="Zoë <zoe@yourdomain.com>", to=["Jörg <j@bücher.example>", "plain@example.com"], subject="Wélcome", cc=["c@example.com"],
                         reply_to=["support@yourdomain.com"], headers={"X-Custom-Header": "välue"}))
    assert (message["subject"], message["from"].addresses[0].display_name, message["x-custom-header"]) == ("Wélcome", "Zoë", "välue")
    assert [a.addr_spec for a in message["to"].addresses] == ["j@xn--bcher-kva.example", "plain@example.com"]
    assert message["reply-to"] == "support@yourdomain.com"


def test_files_come_back_with_their_names():
    message = read(draft(attachments=[PDF, mime.Attachment("Rechnung Müller.csv", b64(b"a;b").rstrip("="))]))
    files = [(part.get_filename(), part.get_payload(decode=True)) for part in message.iter_attachments()]
    assert files == [("invoice.pdf", b"%PDF-1.7 " * 500), ("Rechnung Müller.csv", b"a;b")]


REFUSED = [
    pytest.param({"subject": "Hi\r\nBcc: x@y.example"}, "subject", id="line break in the subject"),
    pytest.param({"sender": "A\nB <you@yourdomain.com>"}, "from", id="line break in the name"),
    pytest.param({"sender": "=?utf-8?q?a=0ABcc=3A_x?= <you@yourdomain.com>"}, "from", id="line break in an encoded name"),
    pytest.param({"sender": "you@yourdomain.com, me@yourdomain.com"}, "from", id="two authors"),
    pytest.param({"to": ["not an address"]}, "to", id="no address"),
    pytest.param({"headers": {"X-A": "a\r\nBcc: x@y.example"}}, "headers.X-A", id="line break in a header"),
    pytest.param({"headers": {"X-A": "=?utf-8?q?a=0ABcc=3A_x=40y?="}}, "headers.X-A", id="line break in an encoded word of a header"),
    pytest.param({"headers": {"X A": "b"}}, "headers.X A", id="a name with a space"),
    pytest.param({"headers": {"X-A: b\r\nBcc": "c"}}, "headers.X-A: b\r\nBcc", id="a name with a line break"),
    *[pytest.param({"headers": {name: "x"}}, f"headers.{name}", id=name) for name in
      ("From", "to", "DKIM-Signature", "Content-Type", "content-transfer-encoding", "MIME-Version", "Bcc", "X-Relay-Topic", "Received", "Message-ID")],
    pytest.param({"text": None}, "html", id="neither html nor text"),
    pytest.param({"attachments": [PDF] * 11}, "attachments", id="eleven files"),
    pytest.param({"attachments": [mime.Attachment("a.txt", "not base64!")]}, "attachments[0].content", id="not base64"),
    pytest.param({"attachments": [mime.Attachment("a.txt", "QUJD=QUJD")]}, "attachments[0].content", id="padding inside"),
    pytest.param({"attachments": [mime.Attachment("a\r\nb", "QUJD")]}, "attachments[0].filename", id="line break in a file name"),
    pytest.param({"attachments": [mime.Attachment("a", "QUJD", "text/plain\r\nX: y")]}, "attachments[0].content_type", id="line break in a type"),
    pytest.param({"attachments": [mime.Attachment("a", "QUJD", "", "a\r\nb")]}, "attachments[0].content_id", id="line break in a content id"),
    pytest.param({"attachments": [mime.Attachment("a", "A" * (mime.FILE // 3 * 4 + 8))]}, "attachments[0].content", id="over 25 MB"),
]


@pytest.mark.parametrize(("given", "field"), REFUSED)
def test_refusals_name_the_field(given, field):
    with pytest.raises(Invalid) as refused:
        mime.build(draft(**given))
    assert refused.value.field == field


def test_equal_drafts_give_equal_octets():
    assert mime.build(draft(html="<p>Hi</p>", attachments=[PDF])) == mime.build(draft(html="<p>Hi</p>", attachments=[PDF]))


def test_drafts_that_are_built_together_are_those_that_are_built_apart():
    said = (("<p>Hi</p>", "Hi", ()), ("<p>Hi</p>", None, ()), (None, "Hi", ()), ("<p>Hi</p>", "Hi", [PDF]), ("<p>Ho</p>", "Hi", ()))
    drafts = [draft(html=html, text=text, to=[to], attachments=files) for to in ("a@example.com", "b@example.com") for html, text, files in said]
    alike: mime.Alike = {}
    together = [mime.composed(each, alike) for each in drafts]
    assert together == [mime.composed(each) for each in drafts]
    assert set(alike) == {("<p>Hi</p>", "Hi"), ("<p>Hi</p>", None), (None, "Hi"), ("<p>Ho</p>", "Hi")}  # none of one with files


def forged(start: bytes, wanted: int) -> bytes:
    """Four octets after which `start` has this CRC-32."""
    table = [zlib.crc32(bytes((number,))) ^ zlib.crc32(b"\0") for number in range(256)]  # crc32 is affine: its table up to one constant, which is entry 0
    rear = {entry >> 24: number for number, entry in enumerate(table)}
    register = wanted ^ 0xFFFFFFFF
    for _ in range(4):
        number = rear[register >> 24]
        register = ((register ^ table[number]) << 8 | number) & 0xFFFFFFFF
    return (register ^ zlib.crc32(start) ^ 0xFFFFFFFF).to_bytes(4, "little")


def test_no_boundary_stands_in_a_part_whoever_wrote_it():
    start = b"--=_deadbeef.relay--\r\n"
    piece = start + forged(b"alternative\r\n" + start, 0xDEADBEEF)
    assert zlib.crc32(b"alternative\r\n" + piece) == 0xDEADBEEF
    made = mime.multipart("alternative", [mime.Part(b"", (piece,))])
    boundary = re.search(rb'boundary="([^"]+)"', made.head)[1]
    assert boundary not in piece
    assert made.body.count(b"--" + boundary) == 2
