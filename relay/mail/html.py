"""Where the links of an HTML document are, by octet offset, so that a target can be replaced and every other octet stays (WHATWG HTML §13.2.5).

A tokenizer for one question. It knows what a browser would not read as a tag: comments (MSO conditionals too), script, style, title, textarea and their like;
and what it would: unquoted, single-quoted and doubled attributes, `<a/href=...>`, entities in values, tags that are never closed. Linear in the document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.entities import html5
from typing import NamedTuple

LINKING = frozenset((b"a", b"area"))
RAW = frozenset((b"script", b"style", b"title", b"textarea", b"xmp", b"iframe", b"noembed", b"noframes"))

_S = rb"\t\n\x0c\r "  # what HTML calls white space
_MARKUP = re.compile(rb"<[A-Za-z/!?]")
_TAG = re.compile(rb"</?([A-Za-z][^%b/>]*)" % _S)
_ATTRIBUTE = re.compile(rb"[%b/]*(?:(>)|(=?[^%b/>=]*)(?:[%b]*(=)[%b]*(?:\"([^\"]*)\"|'([^']*)'|([^%b>\"'][^%b>]*)?))?)" % (_S, _S, _S, _S, _S, _S))
_REFERENCE = re.compile(r"&(?:#([0-9]{1,8});?|#[xX]([0-9A-Fa-f]{1,7});?|([A-Za-z][A-Za-z0-9]{0,31};?))")
_C1 = {number: bytes([number]).decode("cp1252", "replace") for number in range(0x80, 0xA0)}  # what browsers read &#128; and the like as
_LONGEST = max(map(len, html5))


class Link(NamedTuple):
    """The value of an href at [start, end), its tag's attributes by lower-case name, and where its tag began."""

    start: int
    end: int
    tag: int
    attributes: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """`links` in their order; `end` is the offset of the last </body>, else </html>, else of the white space that ends the document."""

    links: tuple[Link, ...]
    end: int


def scan(document: bytes) -> Page:
    """The links of a document whose charset is a superset of ASCII."""
    links: list[Link] = []
    body = html = -1
    at = 0
    while at >= 0 and (found := _MARKUP.search(document, at)) is not None:
        at, following = found.start(), found[0][1:]
        if following in (b"!", b"?"):
            at = _after_markup(document, at)
        elif (tag := _TAG.match(document, at)) is not None:
            name, closing = tag[1].lower(), following == b"/"
            end, attributes, href = _attributes(document, tag.end())
            if end < 0:
                break
            if closing:
                body, html = (at if name == b"body" else body), (at if name == b"html" else html)
            elif name in LINKING and href is not None:
                links.append(Link(*href, at, attributes))
            at = _after_raw(document, end, name) if name in RAW and not closing else end
        else:
            at = document.find(b">", at)
    return Page(tuple(links), next((offset for offset in (body, html) if offset >= 0), len(document.rstrip())))


def target(value: str) -> str:
    """The URL that an href value stands for: references read as in an attribute, spaces around and line breaks inside gone (WHATWG URL §4.4)."""
    text = _REFERENCE.sub(_refer, value) if "&" in value else value
    return text.strip("".join(map(chr, range(0x21)))).translate({9: None, 10: None, 13: None})


def _after_markup(document: bytes, at: int) -> int:
    """Where a comment, doctype, conditional or processing instruction that starts here ends; -1 for never."""
    if not document.startswith(b"<!--", at):
        end = document.find(b">", at)
        return end + 1 if end >= 0 else -1
    for abrupt in (b"<!-->", b"<!--->"):
        if document.startswith(abrupt, at):
            return at + len(abrupt)
    ends = [(end, len(mark)) for mark in (b"-->", b"--!>") if (end := document.find(mark, at + 4)) >= 0]
    return sum(min(ends)) if ends else -1


def _after_raw(document: bytes, at: int, name: bytes) -> int:
    """Where the end tag of an element that holds no tags begins; -1 for never."""
    found = _RAW_ENDS[name].search(document, at)
    return found.start() if found else -1


_RAW_ENDS = {name: re.compile(rb"</%b[%b/>]" % (name, _S), re.IGNORECASE) for name in RAW}


def _attributes(document: bytes, at: int) -> tuple[int, dict[bytes, bytes], tuple[int, int] | None]:
    """The end of a tag (-1 if it has none), its attributes, the first of a name counting, and where the value of href is."""
    attributes: dict[bytes, bytes] = {}
    href = None
    while True:
        found = _ATTRIBUTE.match(document, at)
        if found is None or found.end() == at:
            return -1, attributes, None
        at = found.end()
        if found[1] is not None:
            return at, attributes, href
        name = found[2].lower()
        group = found.lastindex or 2  # 2: a name alone, 3: an equals sign with nothing behind it, 4 to 6: a value in its kind of quotes
        if group == 3 and document[at:at + 1] in (b'"', b"'"):
            return -1, attributes, None
        if name and name not in attributes:
            attributes[name] = found[group] if group > 3 else b""
            if name == b"href" and group > 3:
                href = found.span(group)


def _refer(found: re.Match[str]) -> str:
    """A character reference in an attribute value (WHATWG HTML §13.2.5.72-80)."""
    decimal, hexadecimal, name = found.groups()
    if name is None:
        number = int(decimal) if decimal else int(hexadecimal, 16)
        if number in _C1:
            return _C1[number]
        return chr(number) if 0 < number < 0xD800 or 0xDFFF < number < 0x110000 else "\ufffd"
    for length in range(min(len(name), _LONGEST), 1, -1):
        meant = html5.get(name[:length])
        if meant is None:
            continue
        after = name[length:length + 1] or found.string[found.end():found.end() + 1]
        if name[length - 1] != ";" and (after == "=" or (after.isascii() and after.isalnum())):
            return found[0]  # "&copy=1" in a URL is a parameter, and no browser reads it as a sign
        return meant + name[length:]
    return found[0]
