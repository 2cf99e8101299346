"""Mail as the programs of this machine write it: bare line feeds, a lone dot at the end, names without a domain, recipients only in the header.

Everything here is forgiving, for cron and old scripts cannot be asked twice: what cannot be read is left as it is, and the door, which is strict, says what is
wrong with it. Names without a domain get the relay's hostname, as RFC 5321 §2.3.5 wants them to be whole before they travel.
"""

from __future__ import annotations

import re

ADDRESSED = (b"to", b"cc", b"bcc")
RESENT = (b"resent-to", b"resent-cc", b"resent-bcc")  # where these stand the mail goes to them alone (RFC 5322 §3.6.6)
QUALIFIED = frozenset((b"from", b"sender", b"reply-to", *ADDRESSED, b"resent-from", b"resent-sender", *RESENT))

_BEFORE, _INSIDE, _AFTER = range(3)  # angle brackets
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")
_END = re.compile(rb"\r*\n|\r")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|\\.|[<>,:;()]|[^\s"()<>,:;\\]+|\s+|.', re.DOTALL)
_BARE = re.compile(rb'[^\s"(),:;<>@\[\]\\]+|"(?:[^"\\\r\n]|\\[ -~])*"')  # a local part and nothing else


def canonical(text: bytes, dots: bool = False) -> bytes:
    """The message with CRLF line ends, ending in one; each of LF, CR and CRLF ends a line.

    dots  a line of only "." ends the message (sendmail without -i)
    """
    if dots and (end := re.search(rb"^\.\r?\n?$", text, re.MULTILINE)):
        text = text[: end.start()]
    if b"\r" in text:
        text = _END.sub(b"\n", text)
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return text.removeprefix(_mbox_line(text)).replace(b"\n", b"\r\n")


def _mbox_line(text: bytes) -> bytes:
    """The `From root Sat Nov 21 ...` line that mail readers prepend and no hop may pass on."""
    return text.partition(b"\n")[0] + b"\n" if text.startswith((b"From ", b">From ")) else b""


def fields(content: bytes) -> list[tuple[bytes, bytes]]:
    """(lower-case name, raw octets with folds and CRLF) of the header, up to the first line that is no field."""
    found, at = [], 0
    while match := _FIELD.match(content, at):
        found.append((match[1].lower(), match[0]))
        at = match.end()
    return found


def recipients(content: bytes) -> list[str]:
    """Whom the header names (sendmail -t), each once, in order."""
    header = fields(content)
    wanted = RESENT if any(name in RESENT for name, _ in header) else ADDRESSED
    specs = (raw[start:end] for name, raw in header if name in wanted for start, end in spans(raw))
    return list(dict.fromkeys(spec.decode("utf-8", "surrogateescape") for spec in specs))


def whole(address: str, hostname: str) -> str:
    """An envelope address with a domain: `root` becomes `root@hostname`; the null reverse-path stays "" ."""
    address = address.strip().removeprefix("<").removesuffix(">")
    quoted_end = address.rfind('"')
    return address if not address or "@" in address[quoted_end + 1:] else f"{address}@{hostname}"


def qualify(content: bytes, hostname: str) -> bytes:
    """The message with every address in its header made whole; all other octets stay."""
    domain, out, at = b"@" + hostname.encode(), [], 0
    for name, raw in fields(content):
        done = 0
        for start, end in spans(raw) if name in QUALIFIED else ():
            if _BARE.fullmatch(raw, start, end):
                out += (raw[done:end], domain)
                done = end
        out.append(raw[done:])
        at += len(raw)
    return b"".join((*out, content[at:]))


def spans(raw: bytes) -> list[tuple[int, int]]:
    """Where the addresses stand in a raw field: (start, end) of each, with brackets, display names, group names and comments left out."""
    found: list[tuple[int, int]] = []
    words: list[tuple[int, int]] = []  # of the list element under way
    depth, place = 0, _BEFORE
    for token in _TOKEN.finditer(raw, raw.index(b":") + 1):
        text = token[0]
        depth = max(0, depth + (text == b"(") - (text == b")"))
        if depth or text == b")" or text.isspace():
            continue
        if text == b"<":
            words, place = [], _INSIDE
        elif text == b">" and place == _INSIDE:
            found += _joined(words)
            words, place = [], _AFTER
        elif text in (b",", b";") and place != _INSIDE:
            found += _joined(words)
            words, place = [], _BEFORE
        elif text in (b":", b","):
            words = []  # what stood before names a group, or is an obsolete route
        elif place != _AFTER:
            words.append(token.span())
    return found + _joined(words)


def _joined(words: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """One address from its first word to its last, none from no words."""
    return [(words[0][0], words[-1][1])] if words else []
