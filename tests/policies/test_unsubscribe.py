"""unsubscribe: the pair of fields for those who asked, a footer for marketing, one copy each, and nothing for anybody else."""

import quopri
import re
from base64 import b64decode
from dataclasses import replace

import pytest

from policies import dkim as dkim_module
from policies import unsubscribe
from relay.mail.dkim import ED25519
from relay.mail.message import MARKETING, Wishes
from relay.mail.tokens import UNSUBSCRIBE, unpack
from relay.policy import Sender, SigningKey
from tests.support.dkim import dkimpy, pair, pem
from tests.support.services import NOW, SYSTEM, Kept, message, services

ASKED = Wishes(unsubscribe=True)
CAMPAIGN = Wishes(stream=MARKETING)
DAY = 86_400.0
PLAIN = b"From: joe@example.com\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhello\r\n"
HTML = b"From: joe@example.com\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<body>hello</body>\r\n"
BOTH = (b"From: joe@example.com\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
        b"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>gr=C3=BC=C3=9Fe</p>\r\n--b--\r\n")


class Us:
    def __init__(self, **said):
        self.said = Sender(**said)

    async def of(self, project, key=""):
        assert project == 1
        assert "@" in key
        return self.said


SENDER = Us(title="Müller & Söhne", language="de", postal_address="Große Straße 1\n12345 Berlin")


def built(senders=SENDER, kept=None, inbound="127.0.0.1:2500", **options):
    tools = replace(services(kept, http={"public_url": "https://mail.relay.example/"}, smtp={"inbound": inbound}), senders=senders)
    return unsubscribe.make(options, tools), tools


async def one(content, wishes, **more):
    policy, tools = built(**more)
    (out,) = await policy.apply(message(content, wishes=wishes))
    return out, tools


async def test_both_fields_of_rfc_8058():
    out, tools = await one(PLAIN, ASKED)
    found = re.fullmatch(r"<mailto:unsub\+(\w+)@relay\.example>, <https://mail\.relay\.example/u/(\w+)>", out.header.value(b"list-unsubscribe"))
    assert found[1] == found[2]
    assert len(f"unsub+{found[1]}") <= 64
    assert unpack(tools.tokens.read(UNSUBSCRIBE, found[1].upper())) == (out.recipients[0].id, b"")
    assert out.header.value(b"list-unsubscribe-post") == "List-Unsubscribe=One-Click"
    assert out.octets().endswith(PLAIN)


@pytest.mark.parametrize(("wishes", "expected"), [
    (Wishes(), 0), (ASKED, 1), (Wishes(topic="7"), 1), (CAMPAIGN, 1), (Wishes(stream="transactional"), 0),
], ids=["nothing asked", "asked", "a topic", "marketing", "transactional"])
async def test_who_gets_them(wishes, expected):
    out, _ = await one(PLAIN, wishes)
    assert len(out.header.all(b"list-unsubscribe")) == expected
    if not expected:
        assert out.octets() == PLAIN


async def test_reports_do_not():
    policy, _ = built()
    given = message(PLAIN, principal=SYSTEM, wishes=ASKED)
    assert await policy.apply(given) == (given,)


@pytest.mark.parametrize(("options", "inbound", "host"), [
    ({}, "", ""), ({}, "0.0.0.0:25", "relay.example"), ({"mailto": True}, "", "relay.example"), ({"mailto": False}, "0.0.0.0:25", ""),
    ({"mail_host": "unsubscribe.relay.example"}, "0.0.0.0:25", "unsubscribe.relay.example"),
], ids=["nobody listens", "listening", "asked for", "not wanted", "a host of its own"])
async def test_the_mailto_is_there_where_somebody_listens(options, inbound, host):
    out, _ = await one(PLAIN, ASKED, inbound=inbound, **options)
    value = out.header.value(b"list-unsubscribe")
    assert (f"@{host}>, <https" in value) if host else value.startswith("<https")


async def test_the_link_lasts_sixty_days_from_departure():
    kept = Kept()
    policy, tools = built(kept=kept)
    (out,) = await policy.apply(message(PLAIN, wishes=Wishes(unsubscribe=True, send_at=NOW + 100 * DAY)))
    token = out.header.value(b"list-unsubscribe").rpartition("/")[2][:-1]
    kept.now = NOW + 159 * DAY
    tools.tokens.read(UNSUBSCRIBE, token)
    kept.now = NOW + 161 * DAY
    with pytest.raises(Exception, match="expired"):
        tools.tokens.read(UNSUBSCRIBE, token)


async def test_one_copy_each_and_the_same_each_time():
    policy, _ = built()
    given = message(PLAIN, "a@example.org", "b@example.org", wishes=CAMPAIGN)
    copies = await policy.apply(given)
    assert [copy.recipients for copy in copies] == [(r,) for r in given.recipients]
    assert copies[0].octets() != copies[1].octets()
    assert [copy.octets() for copy in await built()[0].apply(given)] == [copy.octets() for copy in copies]


OWN = b"List-Unsubscribe: <https://own.example/>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" + PLAIN


async def test_the_authors_own_pair_is_replaced_when_ours_is_asked_for_and_else_kept():
    out, _ = await one(OWN, ASKED)
    assert b"own.example" not in out.octets()
    assert len(out.header.all(b"list-unsubscribe-post")) == 1
    out, _ = await one(OWN, CAMPAIGN)
    assert [field.value for field in out.header.all(b"list-unsubscribe")] == ["<https://own.example/>"]
    assert b"/u/" in out.body


async def test_the_footer_says_who_where_and_how():
    out, _ = await one(HTML, CAMPAIGN)
    assert re.fullmatch(
        rb'<body>hello\r\n<p style="[^"]+">M&#252;ller &amp; S&#246;hne<br>\r\nGro&#223;e Stra&#223;e 1<br>\r\n12345 Berlin<br>\r\n'
        rb'<a href="https://mail\.relay\.example/u/\w+">Abmelden</a></p>\r\n</body>\r\n', out.body)
    out, _ = await one(PLAIN, CAMPAIGN)
    expected = "hello\r\n\r\n-- \r\nMüller & Söhne\r\nGroße Straße 1\r\n12345 Berlin\r\nAbmelden: https://mail\\.relay\\.example/u/\\w+\r\n"
    assert re.fullmatch(expected, out.body.decode())


async def test_the_footer_goes_into_both_alternatives_in_their_encodings():
    out, _ = await one(BOTH, CAMPAIGN)
    _, plain, html, _ = out.body.split(b"--b")
    assert re.search(rb"hello\r\n-- \r\nMuller & Sohne\r\nGrosse Strasse 1\r\n12345 Berlin\r\nAbmelden: https://\S+\r\n\r\n$", plain)
    assert plain.isascii()
    text = quopri.decodestring(html.partition(b"\r\n\r\n")[2]).decode()
    assert text.startswith("<p>grüße</p>")
    assert text.count("/u/") == 1
    assert all(len(line) <= 76 for line in html.split(b"\r\n"))


@pytest.mark.parametrize(("language", "word"), [
    ("en", "Unsubscribe"), ("de-AT", "Abmelden"), ("fr", "Se désabonner"), ("es", "Darse de baja"), ("da", "Afmeld"), ("xx", "Unsubscribe"),
])
async def test_languages(language, word):
    out, _ = await one(PLAIN, CAMPAIGN, senders=Us(language=language))
    assert f"-- \r\n{word}: https".encode() in out.body


async def test_without_a_sender_the_footer_is_the_link():
    out, _ = await one(PLAIN, CAMPAIGN, senders=None)
    assert re.fullmatch(rb"hello\r\n\r\n-- \r\nUnsubscribe: https://\S+\r\n", out.body)


@pytest.mark.parametrize("wishes", [ASKED, CAMPAIGN], ids=["asked", "marketing"])
async def test_the_authors_place_is_taken_and_no_footer_added(wishes):
    out, _ = await one(HTML.replace(b"hello", b'<a href="{{ unsubscribe_url }}">bye</a>'), wishes)
    assert re.fullmatch(rb'<body><a href="https://mail\.relay\.example/u/\w+">bye</a></body>\r\n', out.body)


async def test_the_page_with_all_topics_has_a_place_too_and_marketing_keeps_its_footer():
    content = HTML.replace(b"hello", b'<a href="{{ preferences_url }}">choose</a>')
    out, _ = await one(content, CAMPAIGN)
    preferences, left = re.search(rb'href="https://mail\.relay\.example/p/(\w+)">choose.*/u/(\w+)">Abmelden', out.body, re.DOTALL).groups()
    assert preferences == left
    asked, _ = await one(content, ASKED)
    assert re.search(rb'<body><a href="https://mail\.relay\.example/p/\w+">choose</a></body>', asked.body)


async def test_a_place_inside_base64_is_found():
    content = b"From: joe@example.com\r\nContent-Transfer-Encoding: base64\r\n\r\nYnllOiB7e3Vuc3Vic2NyaWJlX3VybH19Cg==\r\n"
    out, _ = await one(content, ASKED)
    assert re.fullmatch(rb"bye: https://mail\.relay\.example/u/\w+\n", b64decode(out.body))


async def test_mail_that_is_not_marketing_gets_no_footer():
    for content in (PLAIN, HTML, BOTH):
        out, _ = await one(content, ASKED)
        assert out.octets().endswith(content)


async def test_the_fields_are_covered_by_dkim():
    kept = Kept(keys={(1, "example.com"): [SigningKey("example.com", "ed25519", ED25519, pem(ED25519))]})
    policy, tools = built(kept=kept)
    (copy,) = await policy.apply(message(PLAIN, wishes=ASKED))
    (out,) = await dkim_module.make({}, tools).apply(copy)
    records = pair(ED25519)[1]
    assert dkimpy(out.octets(), records) == [True]
    assert dkimpy(out.octets().replace(b"/u/", b"/v/"), records) == [False]
    assert dkimpy(out.octets().replace(b"=One-Click", b"=No"), records) == [False]
