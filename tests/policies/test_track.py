"""track: targets and a pixel change, nothing else does, and the redirect leads exactly where the link led."""

import quopri
import re
from base64 import b64decode, b64encode, encodebytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import dkim as dkim_module
from policies import track
from relay.mail.dkim import ED25519
from relay.mail.message import Wishes, replace
from relay.mail.tokens import CLICK, OPEN, unpack
from relay.policy import Domain, SigningKey
from tests.support.dkim import dkimpy, pair, pem
from tests.support.services import SYSTEM, Kept, message, services

PUBLIC = "https://mail.relay.example"
ON = Wishes(opens=True, clicks=True)
CLICKS = Wishes(opens=False, clicks=True)
LINK = re.compile(rb"https://mail\.relay\.example/t/c/([A-Za-z0-9_-]+)")
PIXEL = re.compile(rb'<img src="https://mail\.relay\.example/t/o/([a-z2-7]+)" width="1" height="1" alt="" style="[^"]*">')


def built(kept=None):
    tools = services(kept, http={"public_url": PUBLIC})
    return track.make({}, tools), tools


def page(document, encoding="8bit", charset="utf-8", kind="text/html"):
    octets = document if isinstance(document, bytes) else document.encode(charset)
    octets = {"quoted-printable": lambda o: quopri.encodestring(o.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n"),
              "base64": lambda o: encodebytes(o).replace(b"\n", b"\r\n")}.get(encoding, lambda o: o)(octets)
    head = f"From: joe@example.com\r\nContent-Type: {kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + octets


def restored(octets, tools, recipient_id):
    """The document with every click link put back to its target and the pixel taken out."""
    def back(found):
        number, target = unpack(tools.tokens.read(CLICK, found[1].decode()))
        assert number == recipient_id
        return target

    def nothing(found):
        assert unpack(tools.tokens.read(OPEN, found[1].decode())) == (recipient_id, b"")
        return b""

    return PIXEL.sub(nothing, LINK.sub(back, octets))


async def tracked(content, wishes=ON, kept=None, *to):
    policy, tools = built(kept)
    out = await policy.apply(message(content, *to, wishes=wishes))
    return out, tools


DECODERS = {"8bit": lambda o: o, "7bit": lambda o: o, "quoted-printable": quopri.decodestring, "base64": b64decode}
DOCUMENT = ('<html><head><title><a href="https://no.example/title">t</a></title><style>a[href="https://no.example/style"]{}</style></head>\r\n<body>\r\n'
            '<!-- <a href="https://no.example/comment"> --><!--[if mso]><a href="https://no.example/mso"><![endif]-->\r\n'
            '<p>Grüße  <a class=x href="https://a.example/?x=1&amp;y=%20#z">a</a> <A HREF=\'http://b.example\'>b</A>\r\n'
            '<a href=https://c.example/unquoted>c</a> <a href="mailto:x@y.example">m</a> <a href="tel:+1">t</a> <a href="#top">#</a> <a href="cid:1">i</a>\r\n'
            '<a href="https://d.example/off" data-relay-track="off">d</a> <a href="https://mail.relay.example/u/abc">u</a> <img src="https://e.example/i.png">\r\n'
            '<script>"<a href=https://no.example/script>"</script><textarea><a href="https://no.example/area"></textarea></p>\r\n</body></html>\r\n')


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
async def test_links_and_a_pixel_whatever_the_encoding(encoding):
    (out,), tools = await tracked(page(DOCUMENT, encoding))
    octets = DECODERS[encoding](out.body)
    targets = [unpack(tools.tokens.read(CLICK, token.decode()))[1].decode() for token in LINK.findall(octets)]
    assert targets == ["https://a.example/?x=1&y=%20#z", "http://b.example", "https://c.example/unquoted"]
    assert len(PIXEL.findall(octets)) == 1
    assert octets.index(b"<img src=\"https://mail") < octets.index(b"</body>")
    number = out.recipients[0].id
    plain = restored(octets, tools, number).replace(b"https://a.example/?x=1&y", b"https://a.example/?x=1&amp;y")
    assert plain.replace(b"\r\n\r\n</body>", b"</body>" if encoding == "8bit" else b"\r\n\r\n</body>") == DOCUMENT.encode()
    assert all(len(line) <= (998 if encoding == "8bit" else 76) for line in out.body.split(b"\r\n"))


UNTOUCHED = {
    "plain text in a multipart": b"From: joe@example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee https://a.example/\r\n--b--\r\n",
    "signed": b"From: joe@example.com\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<a href=https://a.example/>\r\n--b--\r\n",
    "attached": page('<a href="https://a.example/">').replace(b"Content-Type", b"Content-Disposition: attachment\r\nContent-Type"),
    "UTF-16 that is none": page(b"x", charset="utf-16"),
}


@pytest.mark.parametrize("content", UNTOUCHED.values(), ids=UNTOUCHED.keys())
async def test_left_alone(content):
    (out,), _ = await tracked(content)
    assert out.octets() == content
    assert out.trace[-1].action == "skipped"


async def test_plain_text_is_left_alone():
    content = page("see https://a.example/", kind="text/plain")
    (out,), _ = await tracked(content)
    assert out.octets() == content


SPARED = ["mailto:a@b.example", "tel:+4512", "#x", "cid:1@x", "", "ftp://a.example/", "//a.example/x", "/relative", "javascript:alert(1)", "httpx://a",
          "https://" + "a" * 4_000, "https://mail.relay.example/u/abc", "https://mail.relay.example/t/c/abc", "https://lists.example/leave?me"]


@pytest.mark.parametrize("target", SPARED, ids=lambda target: target[:20])
async def test_targets_that_stay(target):
    content = b"List-Unsubscribe: <https://lists.example/leave?me>\r\n" + page(f'<a href="{target}">x</a>', "base64")
    (out,), _ = await tracked(content, CLICKS)
    assert out.octets() == content


async def test_a_link_that_would_overfill_a_line_stays():
    long = '<a href="https://a.example/1">' + "x" * 900 + '</a>\r\n<a href="https://b.example/2">y</a>\r\n'
    (out,), tools = await tracked(page(long), CLICKS)
    assert [unpack(tools.tokens.read(CLICK, token.decode()))[1] for token in LINK.findall(out.body)] == [b"https://b.example/2"]
    many = "".join(f'<a href="https://a.example/{n}">' for n in range(20))
    (out,), _ = await tracked(page(many), CLICKS)
    assert 3 < len(LINK.findall(out.body)) < 20
    assert max(map(len, out.body.split(b"\r\n"))) <= 998


SWITCHES = {
    # id: domain's (opens, clicks), wish, what happens (pixels, links)
    "off is off": ((False, False), (None, None), (0, 0)), "the domain switches opens": ((True, False), (None, None), (1, 0)),
    "the domain switches clicks": ((False, True), (None, None), (0, 1)), "the wish wins, on": ((False, False), (True, True), (1, 1)),
    "the wish wins, off": ((True, True), (False, False), (0, 0)), "each on its own": ((True, True), (False, None), (0, 1)),
}


@pytest.mark.parametrize(("switches", "wish", "expected"), SWITCHES.values(), ids=SWITCHES.keys())
async def test_switches(switches, wish, expected):
    kept = Kept(domains={1: {"example.com": Domain(1, "example.com", True, *switches)}})
    content = page('<p><a href="https://a.example/">x</a></p>')
    (out,), _ = await tracked(content, Wishes(opens=wish[0], clicks=wish[1]), kept)
    assert (len(PIXEL.findall(out.body)), len(LINK.findall(out.body))) == expected
    if expected == (0, 0):
        assert out.octets() == content


async def test_one_copy_each_and_the_same_each_time():
    policy, tools = built()
    given_ = message(page('<a href="https://a.example/">'), "a@example.org", "b@example.org", wishes=ON)
    first, second = await policy.apply(given_)
    assert [copy.recipients for copy in (first, second)] == [(r,) for r in given_.recipients]
    assert first.body != second.body
    for copy in (first, second):
        restored(copy.body, tools, copy.recipients[0].id)
    (again,) = await built()[0].apply(given_.with_recipients(given_.recipients[1:]))
    assert again.body == second.body


async def test_the_domains_tracking_host_is_used():
    kept = Kept(domains={1: {"example.com": Domain(1, "example.com", True, True, True, "go.example.com")}})
    (out,), _ = await tracked(page('<a href="https://a.example/">'), Wishes(), kept)
    assert out.body.count(b"https://go.example.com/t/") == 2
    assert PUBLIC.encode() not in out.body


async def test_reports_are_not_tracked():
    policy, _ = built()
    given_ = message(page('<a href="https://a.example/">'), principal=SYSTEM, wishes=ON)
    assert await policy.apply(given_) == (given_,)


async def test_utf_16_is_edited_as_text():
    text = '<p>日本 <a href="https://a.example/">x</a></p>'
    content = page(b64encode(text.encode("utf-16")), charset="utf-16").replace(b"8bit", b"base64")
    (out,), tools = await tracked(content, CLICKS)
    octets = b64decode(out.body).decode("utf-16").encode()
    assert restored(octets, tools, out.recipients[0].id).decode() == text


async def test_a_tracked_copy_is_signed_after_and_never_before():
    kept = Kept(keys={(1, "example.com"): [SigningKey("example.com", "ed25519", ED25519, pem(ED25519))]})
    policy, tools = built(kept)
    signer = dkim_module.make({}, tools)
    given_ = message(page(DOCUMENT, "quoted-printable"), wishes=ON)
    (copy,) = await policy.apply(given_)
    (signed,) = await signer.apply(copy)
    assert dkimpy(signed.octets(), pair(ED25519)[1]) == [True]
    with pytest.raises(RuntimeError, match="signed"):
        await policy.apply(signed)


TEXTS = st.lists(st.sampled_from([
    '<a href="https://a.example/x?y=1">', "<a href=https://b.example/z>", "<a href='http://c.example/é'>", "</a>", "<!-- ", " -->", "<p>", "</body>",
    "Grüße = 1\r\n", "  ", "\t\r\n", "<b", ">", '<a href="https://d.example/" data-relay-track=off>',
    "<script>", "</script>", "\r\n.\r\n", "日本語 ", "<img src=cid:1>",
]), max_size=15).map("".join)


@given(TEXTS, st.sampled_from(["8bit", "quoted-printable", "base64"]))
async def test_tracking_changes_targets_and_the_pixel_only(document, encoding):
    content = page(document, encoding)
    (out,), tools = await tracked(content)
    assert out.header == message(content).header
    octets = DECODERS[encoding](out.body)
    expected = DECODERS[encoding](message(content).body)
    assert len(PIXEL.findall(octets)) == 1
    if encoding == "8bit":
        octets = re.sub(rb"\r\n(" + PIXEL.pattern + rb")\r\n", rb"\1", octets)
    assert restored(octets, tools, out.recipients[0].id) == expected


@given(TEXTS, st.sampled_from(["8bit", "quoted-printable", "base64"]))
async def test_tracking_off_changes_nothing(document, encoding):
    given_ = message(page(document, encoding))
    (out,), _ = await tracked(given_.octets(), replace(ON, opens=False, clicks=False))
    assert out.octets() == given_.octets()
