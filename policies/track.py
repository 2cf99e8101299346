"""Opens and clicks: http(s) link targets in HTML parts become signed redirects, and a pixel stands before </body>; every other octet stays.

Off unless the From domain's switches or the message's wish say otherwise. Left alone: plain text, attachments, signed and encrypted parts,
`mailto:`, `tel:`, `cid:` and `#`, our own pages, what List-Unsubscribe names, and links with data-relay-track="off". The click token carries the exact target
and the recipient and is signed, so there is no open redirect and nothing to look up. A copy depends on the message and the recipient's id alone: each
attempt sends the same octets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from relay.errors import Invalid
from relay.mail import html, mailbox, parts
from relay.mail.message import Decision, Message, Recipient, replace
from relay.mail.parts import Edit, Plan, Text
from relay.mail.tokens import CLICK, MAC, OPEN, pack
from relay.policy import Domain, Services, owner
from relay.policy import options as known

PLANS = 64  # messages whose rewriting is kept for their next recipients
KEPT = 262_144  # octets of body above which it is not kept
URL = 4_000  # octets of a target; with its token a longer one would be a link that mail readers cut
LINKS = 2_000  # links of a message that are rewritten
LINE = 998  # octets of a line (RFC 5322 §2.1.1): a target that would pass it where lines cannot be folded stays as it is

OURS = ("/u/", "/t/", "/p/")  # pages of ours that mail links to: unsubscribe, tracking itself, preferences

PIXEL = '<img src="%s" width="1" height="1" alt="" style="border:0;height:1px;width:1px">'


def make(options: Mapping[str, Any], services: Services) -> Track:
    known(options)
    return Track(services)


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The plan of a body, and what its slots hold: a URL each, and where there is a pixel, the octets around it last."""

    plan: Plan
    targets: tuple[str, ...]
    around_pixel: bytes | None


class Track:
    """The policy; remembers the plans of recent messages."""

    def __init__(self, services: Services):
        self._services = services
        self._public = services.settings.http.public_url.rstrip("/")
        self._plans: dict[tuple[Any, ...], Rewriting | None] = {}

    async def apply(self, message: Message) -> Sequence[Message]:
        if message.principal.kind == "system" or not _maybe_html(message):
            return (message,)
        domain = await self._domain(message)
        opens = bool(domain and domain.opens) if message.wishes.opens is None else message.wishes.opens
        clicks = bool(domain and domain.clicks) if message.wishes.clicks is None else message.wishes.clicks
        if not (opens or clicks):
            return (message,)
        base = f"{urlsplit(self._public).scheme}://{domain.tracking_host}" if domain and domain.tracking_host else self._public
        rewriting = self._rewriting(message, opens, clicks, base)
        if rewriting is None:
            return (message.noted("track", "skipped", "no HTML part that can be rewritten"),)
        pixel = "" if rewriting.around_pixel is None else ", a pixel"
        done = Decision("track", "changed", f"{len(rewriting.targets)} links{pixel}, by {urlsplit(base).netloc}")
        return tuple(self._copy(message, recipient, rewriting, base, done) for recipient in message.recipients)

    async def _domain(self, message: Message) -> Domain | None:
        try:
            authors = mailbox.mailboxes(message.header.value(b"from"))
        except Invalid:
            return None
        return owner(await self._services.domains.of(message.principal.project), authors[0].domain) if authors else None

    def _copy(self, message: Message, recipient: Recipient, rewriting: Rewriting, base: str, done: Decision) -> Message:
        make_token = self._services.tokens.make
        values = [f"{base}/t/c/{make_token(CLICK, pack(recipient.id, target.encode()))}".encode() for target in rewriting.targets]
        if rewriting.around_pixel is not None:
            image = PIXEL % f"{base}/t/o/{make_token(OPEN, pack(recipient.id))}"
            values.append(rewriting.around_pixel + image.encode() + rewriting.around_pixel)
        envelope = replace(message.envelope, recipients=(recipient,))
        return replace(message.with_body(rewriting.plan.render(values)), envelope=envelope, trace=(*message.trace, done))

    def _rewriting(self, message: Message, opens: bool, clicks: bool, base: str) -> Rewriting | None:
        body = message.body
        key = (message.id, len(body), hash(body), opens, clicks, base)
        if key in self._plans:
            return self._plans[key]
        made = self._plan(message, opens, clicks, base)
        if len(body) <= KEPT:
            if len(self._plans) >= PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = made
        return made

    def _plan(self, message: Message, opens: bool, clicks: bool, base: str) -> Rewriting | None:
        """The rewriting of all HTML parts, or None if there is nothing to change."""
        spared = tuple(f"{host}{page}" for host in (self._public, base) for page in OURS)
        declared = message.header.value(b"list-unsubscribe")
        edits: list[tuple[Text, list[Edit]]] = []
        targets: list[str] = []
        pixel: tuple[Text, int] | None = None
        for part in parts.texts(message.header, message.body):
            text = parts.opened(message.body, part) if part.kind == "html" else None
            if text is None:
                continue
            page = html.scan(text.octets)
            mine: list[Edit] = []
            for link, target in _tracked(text, page, base) if clicks else ():
                if len(targets) < LINKS and not target.startswith(spared) and f"<{target}>" not in declared:
                    mine.append(Edit(link.start, link.end, len(targets)))
                    targets.append(target)
            if opens and pixel is None:
                pixel = text, page.end
            edits.append((text, mine))
        if pixel is None and not targets:
            return None
        if pixel is not None:
            for text, mine in edits:
                if text is pixel[0]:
                    mine.append(Edit(pixel[1], pixel[1], len(targets)))
                    mine.sort()
        plan = parts.plan(message.body, [(text, mine) for text, mine in edits if mine])
        return Rewriting(plan, tuple(targets), _around(pixel[0]) if pixel else None)


def _maybe_html(message: Message) -> bool:
    """Whether there can be an HTML part: the cheap question, since most mail of machines is plain."""
    kind = message.header.value(b"content-type").lstrip()[:10].lower()
    return kind.startswith(("text/html", "multipart/"))


def _around(text: Text) -> bytes:
    """What keeps the pixel's line short: a line break on each side where nothing folds lines, nothing elsewhere."""
    return b"" if text.whole or text.part.encoding == "quoted-printable" else b"\r\n"


def _tracked(text: Text, page: html.Page, base: str) -> list[tuple[html.Link, str]]:
    """The links of a page to rewrite, with their targets."""
    found, line, grown = [], -1, 0
    folds = text.whole or text.part.encoding == "quoted-printable"
    for link in page.links:
        target = _target(text, link)
        if not target:
            continue
        if not folds:
            start = text.octets.rfind(b"\r\n", 0, link.start) + 2 if link.start > 1 else 0
            if start != line:
                line, grown = start, 0
            end = text.octets.find(b"\r\n", link.end)
            more = _size(base, target) - (link.end - link.start)
            if (len(text.octets) if end < 0 else end) - start + grown + more > LINE:
                continue
            grown += more
        found.append((link, target))
    return found


def _target(text: Text, link: html.Link) -> str:
    """The URL that a link leads to, "" for one that is not tracked."""
    if link.attributes.get(b"data-relay-track", b"").lower() == b"off":
        return ""
    value = text.octets[link.start:link.end]
    try:
        # Outside ASCII a browser goes by the document's charset; only UTF-8 says for sure which URL is meant.
        url = html.target(value.decode("utf-8" if text.codec or text.part.charset in ("utf-8", "utf8") else "ascii"))
    except UnicodeDecodeError:
        return ""
    return url if url[:8].lower().startswith(("http://", "https://")) and len(url.encode("utf-8", "replace")) <= URL else ""


def _size(base: str, target: str) -> int:
    """Octets of the link that will stand for a target: a token of flags, id, target and MAC in base 64."""
    return len(base) + len("/t/c/") + -(-(1 + 8 + len(target.encode()) + MAC) * 4 // 3)
