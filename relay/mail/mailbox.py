"""Mailboxes in header fields: `Joe Doe <joe@example.com>`, lists of them, groups and comments (RFC 5322 §3.4, §4.4).

The forms that nearly all mail has are one match of a pattern; the rest is read token by token, in time linear in the value. What two readers could
understand differently ("a@b <c@d> e@f", two addresses without a comma) is refused rather than guessed, since the From field decides who may send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from relay.errors import Invalid
from relay.mail import address
from relay.mail.reply import Reply
from relay.mail.words import decode, encode

SHORT = 200  # characters of a value whose reading is remembered

_COMMON = re.compile(r'(?:([A-Za-z0-9!#$%&\'*+/=?^_`{|}~. -]*?) *|"([^"\\]*)" *)<([^\s<>"()\\,:;@\[\]]+@[^\s<>"()\\,:;@\[\]]+)>')
_TOKEN = re.compile(
    r'(?P<space>[ \t\r\n]+)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<literal>\[[^\[\]\\]*\])|(?P<special>[()<>,:;])|(?P<atom>[^ \t\r\n"()<>,:;\[\]\\]+)',
)
_COMMENT = re.compile(r"\\.|[()]|[^\\()]+", re.DOTALL)
_PAIR = re.compile(r"\\(.)")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """`name` decoded, "" without one; `address` as written; `domain` as lower-case A-label."""

    name: str
    address: str
    domain: str

    def __str__(self) -> str:
        return text(self.name, self.address)


def mailboxes(value: str, field: str = "From") -> tuple[Mailbox, ...]:
    """The mailboxes of an unfolded value in their order, those of groups too; raises Invalid(field) for what no reader could agree on."""
    return _remembered(value, field) if len(value) <= SHORT else _read(value, field)


def _read(value: str, field: str) -> tuple[Mailbox, ...]:
    value = value.strip()
    found = _COMMON.fullmatch(value)
    try:
        if found is not None and "=?" not in value:
            return (_mailbox(found[2] if found[1] is None else found[1], found[3]),)
        return tuple(_mailbox(name, spec) for name, spec in _Reader(value).boxes())
    except Invalid as error:
        why = f"the {field} field cannot be read: {error.text}"
        raise Invalid(field, why, Reply(550, "5.6.0", why)) from None


_remembered = lru_cache(maxsize=2_048)(_read)  # one From stands in all mail of an app, and three policies read it


def text(name: str, spec: str) -> str:
    """A mailbox as a header field has it; raises Invalid for a line break or NUL in the name or an address that is none."""
    address.parse(spec, True)
    if any(c in name for c in "\r\n\0"):
        raise Invalid("name", "a display name contains no line break or NUL")
    if not name:
        return spec
    if not name.isascii() or not name.isprintable() or "=?" in name:
        return f"{encode(name)} <{spec}>"
    if _PHRASE.fullmatch(name) and name == name.strip():
        return f"{name} <{spec}>"
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{spec}>'


def _mailbox(name: str, spec: str) -> Mailbox:
    return Mailbox(decode(name), spec, address.domain_of(spec))


class _Reader:
    """One pass over a mailbox list; `words` are the phrase or address under way as (raw, follows a space or comment)."""

    def __init__(self, value: str):
        self.value = value
        self.at = 0
        self.words: list[tuple[str, bool]] = []
        self.comment = ""
        self.grouped = False

    def boxes(self) -> Iterable[tuple[str, str]]:
        """(display name, address) of each mailbox."""
        apart, spec = False, ""
        while self.at < len(self.value):
            kind, raw = self._next()
            if kind == "space":
                apart = True
                continue
            if spec and raw not in (",", ";", "("):
                raise Invalid("", f"{raw[:40]!a} stands after the address")
            if raw == "(":
                self.comment = self._skip_comment()
                apart = True
                continue
            if raw == "<":
                spec = self._angle()
            elif raw in (",", ";"):
                yield from self._end(spec)
                spec = ""
                self._close(raw)
            elif raw == ":":
                self._open()
            elif kind == "special":
                raise Invalid("", f"{raw} stands where it may not")
            else:
                self.words.append((raw, apart))
            apart = False
        yield from self._end(spec)

    def _next(self) -> tuple[str, str]:
        found = _TOKEN.match(self.value, self.at)
        if found is None:
            raise Invalid("", f"{self.value[self.at:self.at + 20]!a} is not closed or not allowed")
        self.at = found.end()
        return found.lastgroup or "", found[0]

    def _end(self, spec: str) -> Iterable[tuple[str, str]]:
        """The mailbox that ends here, if any: words before an address in angles are its name, words alone are the address."""
        words, comment = self.words, self.comment
        self.words, self.comment = [], ""
        if spec:
            yield _phrase(words), spec
        elif words:
            yield comment.strip(), _joined(words)

    def _open(self) -> None:
        if self.grouped or not self.words:
            raise Invalid("", "a colon stands where it may not")
        self.grouped, self.words = True, []

    def _close(self, raw: str) -> None:
        if raw == ";":
            if not self.grouped:
                raise Invalid("", "a semicolon ends no group")
            self.grouped = False

    def _angle(self) -> str:
        """The address up to ">", without an obsolete route."""
        words: list[tuple[str, bool]] = []
        apart = False
        while True:
            if self.at >= len(self.value):
                raise Invalid("", "the bracket is not closed")
            kind, raw = self._next()
            if raw == ">":
                break
            if raw == "(":
                self._skip_comment()
            elif raw == ":" and words and words[0][0].startswith("@"):
                words = []
            elif raw == "," and words and words[0][0].startswith("@"):
                apart = False
            elif kind == "special":
                raise Invalid("", f"{raw} stands where it may not")
            elif kind != "space":
                words.append((raw, apart))
            apart = kind == "space" or raw == "("
        if not words:
            raise Invalid("", "the brackets are empty")
        return _joined(words)

    def _skip_comment(self) -> str:
        """The text of the comment whose "(" was just read; comments nest."""
        depth, start = 1, self.at
        while depth:
            found = _COMMENT.match(self.value, self.at)
            if found is None:
                raise Invalid("", "a comment is not closed")
            self.at = found.end()
            depth += {"(": 1, ")": -1}.get(found[0], 0)
        return self.value[start:self.at - 1]


def _phrase(words: list[tuple[str, bool]]) -> str:
    return " ".join(_PAIR.sub(r"\1", raw[1:-1]) if raw[0] == '"' else raw for raw, _ in words)


def _joined(words: list[tuple[str, bool]]) -> str:
    """An address of several tokens; a space inside is allowed only beside a dot or @ (RFC 5322 §4.4)."""
    out = ""
    for raw, apart in words:
        if out and apart and out[-1] not in ".@" and raw[0] not in ".@":
            raise Invalid("", f"{out[:40]!a} and {raw[:40]!a} stand side by side")
        out += raw
    return out
