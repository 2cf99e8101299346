"""One-click unsubscribe (RFC 8058, RFC 2369) for mail that asks for it, names a topic, or is marketing; one copy for each recipient.

    List-Unsubscribe: <mailto:unsub+TOKEN@relay.example>, <https://relay.example/u/TOKEN>
    List-Unsubscribe-Post: List-Unsubscribe=One-Click

The token names the recipient, from whom ledger, project and topic follow; it lasts 60 days from departure, and the same recipient always gets the same.
The mailto is left out where nobody listens for it (`[smtp] inbound`). An author places the link with {{unsubscribe_url}}, and that of the page with all
topics with {{preferences_url}}; marketing mail without the first gets a footer with link, project and postal address in its HTML and its text, in the
language of the contact (their property `locale`), else of the project. Fields of the same names are replaced as a pair; marketing mail that asks for nothing
and brings its own keeps them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from relay.mail import html, parts
from relay.mail.header import Field, Header
from relay.mail.message import MARKETING, Decision, Message, Recipient, replace
from relay.mail.parts import Edit, Plan, Text
from relay.mail.tokens import UNSUBSCRIBE, pack
from relay.policy import Sender, Services
from relay.policy import options as known

LIFE = 60 * 86_400.0  # seconds that a link works (contract §2.10; CAN-SPAM wants 30 days)
FIELDS = (b"list-unsubscribe", b"list-unsubscribe-post")
WORDS = {"en": "Unsubscribe", "de": "Abmelden", "fr": "Se désabonner", "es": "Darse de baja", "da": "Afmeld"}

LEAVE, PREFERENCES = 0, 4  # slots

_PLACED = re.compile(rb"\{\{-?\s*(unsubscribe|preferences)_url\s*-?\}\}")


def make(options: Mapping[str, Any], services: Services) -> Unsubscribe:
    """Options: mailto, "auto" (where [smtp] inbound is set), true or false; mail_host, the domain of its address (hostname)."""
    given = known(options, mailto="auto", mail_host=services.hostname)
    mailto = bool(services.settings.smtp.inbound) if given["mailto"] == "auto" else bool(given["mailto"])
    return Unsubscribe(services, given["mail_host"] if mailto else "")


class Unsubscribe:
    """The policy."""

    def __init__(self, services: Services, mail_host: str):
        self._services = services
        self._mail_host = mail_host
        self._public = services.settings.http.public_url.rstrip("/")

    async def apply(self, message: Message) -> Sequence[Message]:
        wishes = message.wishes
        marketing = wishes.stream == MARKETING
        asked = wishes.unsubscribe or bool(wishes.topic)
        if message.principal.kind == "system" or not (asked or marketing):
            return (message,)
        plan = self._plan(message, marketing and wishes.footer)
        ours = asked or message.header.first(b"list-unsubscribe") is None
        rest = message.header.without(*FIELDS).fields if ours else message.header.fields
        return tuple([self._copy(message, recipient, rest, ours, plan, await self._sender(message, recipient, marketing)) for recipient in message.recipients])

    async def _sender(self, message: Message, recipient: Recipient, marketing: bool) -> Sender:
        """Who the footer says has written, to this reader."""
        if not marketing or self._services.senders is None:
            return Sender()
        return await self._services.senders.of(message.principal.project, recipient.key)

    def _copy(self, message: Message, recipient: Recipient, rest: tuple[Field, ...], ours: bool, plan: Plan | None, sender: Sender) -> Message:
        token = self._services.tokens.make(UNSUBSCRIBE, pack(recipient.id), max(message.received_at, message.wishes.send_at or 0.0) + LIFE)
        link = f"{self._public}/u/{token}"
        copy = message.with_header(Header((*self._fields(token, link), *rest) if ours else rest))
        if plan:
            copy = copy.with_body(plan.render((link.encode(), _html_footer(link, sender), *_text_footers(link, sender), f"{self._public}/p/{token}".encode())))
        done = Decision("unsubscribe", "changed", f"a link for {recipient.address}{', shown in the text' if plan else ''}")
        return replace(copy, envelope=replace(message.envelope, recipients=(recipient,)), trace=(*message.trace, done))

    def _fields(self, token: str, link: str) -> tuple[Field, Field]:
        mail = f"<mailto:unsub+{token}@{self._mail_host}>,\r\n " if self._mail_host else ""
        return (Field(FIELDS[0], f"List-Unsubscribe: {mail}<{link}>\r\n".encode()),
                Field(FIELDS[1], b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"))

    def _plan(self, message: Message, marketing: bool) -> Plan | None:
        """The links where the author placed them, and for marketing the footers unless the first is there; None to leave the body alone.

        Slots: 0 the link, 1 the HTML footer, 2 and 3 the text footer in UTF-8 and in ASCII, 4 the link of the preference page.
        """
        found = [text for part in parts.texts(message.header, message.body) if (text := parts.opened(message.body, part)) is not None]
        placed = [(text, _placed(text)) for text in found]
        if marketing and not any(edit.slot == LEAVE for _, edits in placed for edit in edits) and not self._linked(found):
            first = {text.part.kind: text for text in reversed(found)}
            placed = [(text, _with_footer(text, edits) if first[text.part.kind] is text else edits) for text, edits in placed]
        placed = [(text, edits) for text, edits in placed if edits]
        return parts.plan(message.body, placed) if placed else None

    def _linked(self, found: Sequence[Text]) -> bool:
        """Whether a text has such a link already."""
        return any(f"{self._public}/u/".encode() in text.octets for text in found)


def _placed(text: Text) -> list[Edit]:
    return [Edit(*match.span(), LEAVE if match[1] == b"unsubscribe" else PREFERENCES) for match in _PLACED.finditer(text.octets)]


def _with_footer(text: Text, edits: Sequence[Edit]) -> list[Edit]:
    return sorted([*edits, _footer(text)], key=lambda edit: edit.start)


def _footer(text: Text) -> Edit:
    """Where a part's footer goes, and which of the three it is."""
    if text.part.kind == "html":
        end = html.scan(text.octets).end
        return Edit(end, end, 1)
    utf8 = text.codec or (text.part.charset in ("utf-8", "utf8") and text.part.encoding in ("8bit", "binary", "base64", "quoted-printable"))
    end = len(text.octets)
    return Edit(end, end, 2 if utf8 else 3)


def _html_footer(link: str, sender: Sender) -> bytes:
    lines = [escape(line) for line in (sender.title, *sender.postal_address.splitlines()) if line]
    lines.append(f'<a href="{escape(link)}">{_word(sender)}</a>')
    text = "<br>\r\n".join(lines)
    return f'\r\n<p style="font-size:12px;line-height:18px;text-align:center;color:#666">{text}</p>\r\n'.encode("ascii", "xmlcharrefreplace")


def _text_footers(link: str, sender: Sender) -> tuple[bytes, bytes]:
    """The footer of a plain part, below the line that marks a signature (RFC 3676 §4.3): in UTF-8, and in ASCII for parts that cannot hold more."""
    lines = [line for line in (sender.title, *sender.postal_address.splitlines()) if line]
    text = "\r\n".join(("", "-- ", *lines, f"{_word(sender)}: {link}", ""))
    return text.encode("utf-8", "replace"), unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore")


def _word(sender: Sender) -> str:
    return WORDS.get(sender.language.partition("-")[0].lower(), WORDS["en"])
