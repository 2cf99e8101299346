"""An SMTP reply as a value: code, enhanced status and text (RFC 5321 §4.2, RFC 3463, RFC 2034).

The same value is what our listener says, what a remote said to us, and what an error means.
"""

from __future__ import annotations

import re

from msgspec import Struct

LINE = 500  # octets of text on a reply line; a whole line is at most 512 with code and CRLF (RFC 5321 §4.5.3.1.5)
LINES = 50  # lines of a reply that we keep; servers that send more are cut, not obeyed

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")


class Reply(Struct, frozen=True, gc=False):
    """`code` 200-599; `enhanced` "2.0.0" or ""; `text` without codes, lines separated by "\\n"."""

    code: int
    enhanced: str = ""
    text: str = ""

    @property
    def positive(self) -> bool:
        """2yz or 3yz: the command worked."""
        return 200 <= self.code < 400

    @property
    def transient(self) -> bool:
        """4yz: the client may try the same again later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz: the client must not try the same again."""
        return self.code >= 500

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text.replace("\n", " ")) if part)

    def wire(self) -> bytes:
        """The reply as octets, one line per line of text, each ending in CRLF.

        Control characters and what is not ASCII become "?", so that no text can forge a second reply.
        """
        lines = self.text.split("\n")[:LINES]
        prefix = f"{self.enhanced} " if self.enhanced else ""
        out = []
        for number, line in enumerate(lines, 1):
            separator = " " if number == len(lines) else "-"
            clean = "".join(c if " " <= c <= "~" else "?" for c in line) if not (line.isascii() and line.isprintable()) else line
            out.append(f"{self.code}{separator}{prefix}{clean[:LINE]}\r\n")
        return "".join(out).encode("ascii")


def parse(code: int, text: str) -> Reply:
    """The reply of a remote server; the enhanced status is taken off the front of each line.

    code  the three digits
    text  the rest, lines separated by "\\n" (RFC 2034 §4 repeats the status on every line)
    """
    found = _ENHANCED.match(text)
    if found is None or found[1][0] != str(code)[0]:
        return Reply(code, "", text)
    status = found[1]
    lines = [line[len(status):].lstrip() if line.startswith(status) else line for line in text.split("\n")]
    return Reply(code, status, "\n".join(lines))
