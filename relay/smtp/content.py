"""The octets of one message on their way in, by DATA or by BDAT.

They are searched for CRLF.CRLF as they come, each octet once, and kept in one growing block that becomes the message without being copied. Line
rules are checked on the whole block with searches that run at the speed of C. A message that cannot be accepted any more is read to its end and dropped,
because the client hears nothing before (RFC 5321 §4.2.5).

End of data is CRLF.CRLF and nothing else. A bare CR, a bare LF or a NUL anywhere refuses the message, so no sequence that another server may take for the
end of data can pass through us (CVE-2023-51764, -51765, -51766).
"""

from __future__ import annotations

import io
from time import monotonic

from relay.mail.reply import Reply
from relay.smtp.limits import Budget

LINE = 998  # octets of a text line without its CRLF (RFC 5322 §2.1.1); never folded by us
HOPS = 50  # Received fields; more is a loop
HEADER = 262_144  # octets searched for the end of the header
DOT = b"\r\n.\r\n"
DOTTED = b"\r\n."  # a line that begins with a dot
BLOCK = 262_144  # octets whose line ends are looked at in one go, which takes a copy of them

TOO_LARGE = Reply(552, "5.3.4", "message exceeds the maximum size")
NO_ROOM = Reply(452, "4.3.1", "too many bytes in flight, try again later")
BARE = Reply(550, "5.5.2", "bare CR or LF in the message; lines end in CRLF")
NUL = Reply(550, "5.6.0", "NUL in the message")
LONG = Reply(500, "5.6.0", f"line of more than {LINE} octets in the message")
LOOP = Reply(554, "5.4.6", f"more than {HOPS} Received fields: mail loop")


class Content:
    """A message being received.

    limit     octets of a message, not counting stuffed dots
    refusal   why it will be refused, None while it may be accepted
    received  octets read, kept or not
    begun     when we were ready for it, monotonic seconds
    """

    __slots__ = ("_block", "_budget", "_dots", "_held", "_last", "begun", "limit", "received", "refusal")

    def __init__(self, limit: int, budget: Budget):
        self.begun = monotonic()
        self.limit = limit
        self.refusal: Reply | None = None
        self.received = 0
        self._budget = budget
        self._held = 0  # bytes taken from the budget
        self._block: io.BytesIO | None = None  # its getvalue() gives the buffer itself: a message is in memory once
        self._dots = False  # a line may begin with a dot
        self._last = b"\r\n"  # the last four octets; DATA begins as if after a CRLF, so a lone dot is an empty message

    def reserve(self, declared: int) -> bool:
        """Whether there is room for the SIZE that was declared; taken before the first octet, so large messages do not starve each other half-way."""
        if not self._budget.take(declared):
            return False
        self._held += declared
        return True

    def release(self) -> None:
        """Drop what is kept and give its bytes back."""
        self._block = None
        self._budget.give(self._held)
        self._held = 0

    def refuse(self, reply: Reply) -> None:
        """Read on, keep nothing, answer this at the end."""
        if self.refusal is None:
            self.refusal = reply
        self.release()

    def add(self, data: bytes, start: int, stop: int) -> None:
        """Keep data[start:stop]."""
        self.received += stop - start
        if self.refusal is not None:
            return
        if self.received > self.limit + self.limit // 3:  # stuffed dots add at most a third; the exact size is checked at the end
            self.refuse(TOO_LARGE)
        elif self.received > self._held and not self.reserve(self.received - self._held):
            self.refuse(NO_ROOM)
        else:
            if self._block is None:
                self._block = io.BytesIO()
            self._block.write(data if start == 0 and stop == len(data) else memoryview(data)[start:stop])

    def until_dot(self, data: bytes, start: int) -> int:
        """Keep octets up to the end of data; where the commands go on, or -1 when the message goes on."""
        last = self._last
        seam = last + data[start:start + 4]
        if DOTTED in seam:
            self._dots = True
            found = seam.find(DOT)
            if found >= 0:
                here = start + found - len(last)
                self._cut(data, start, here + 2)
                return here + 5
        end = self._end(data, start)
        if end >= 0:
            self.add(data, start, end + 2)
            return end + 5
        self.add(data, start, len(data))
        self._last = data[-4:] if len(data) - start >= 4 else (last + data[start:])[-4:]
        return -1

    def _end(self, data: bytes, start: int) -> int:
        """Where CRLF.CRLF is, -1 if nowhere. Most packets hold no line with a dot but the last; one search backwards, the fastest there is, says so."""
        stop = len(data)
        ends = data.endswith(DOT, start)
        if data.rfind(DOTTED, start, stop - 3 if ends else stop) < 0:
            return stop - 5 if ends else -1
        self._dots = True
        return data.find(DOT, start)

    def _cut(self, data: bytes, start: int, stop: int) -> None:
        """Keep data[start:stop], where a stop before start takes back octets of the dot that came earlier."""
        if stop >= start:
            self.add(data, start, stop)
        elif self._block is not None:
            self.received += stop - start
            self._block.seek(self.received)
            self._block.truncate()

    def finish(self, stuffed: bool) -> bytes | Reply:
        """The message as its sender wrote it, or why it is refused. The bytes stay counted until `release`.

        stuffed  it came by DATA: take the dots out (RFC 5321 §4.5.2)
        """
        if self.refusal is not None:
            return self.refusal
        octets = self._block.getvalue() if self._block is not None else b""
        self._block = None
        if stuffed:
            octets = unstuffed(octets) if self._dots else octets
        elif octets and not octets.endswith(b"\r\n"):
            octets += b"\r\n"  # BDAT may end anywhere (RFC 3030); the next hop's DATA may not
        refusal = TOO_LARGE if len(octets) > self.limit else fault(octets)
        if refusal is not None:
            self.refuse(refusal)
            return refusal
        return octets


def unstuffed(octets: bytes) -> bytes:
    """Without the dot that transparency put before a leading dot."""
    octets = octets.replace(DOTTED, b"\r\n")
    return octets[1:] if octets.startswith(b".") else octets


def fault(octets: bytes) -> Reply | None:
    """Why these octets may not be a message, or None. They are empty or end in CRLF, if not in a bare CR or LF."""
    if not _only_crlf(octets):
        return BARE
    if b"\0" in octets:
        return NUL
    if _long_line(octets):
        return LONG
    end = octets.find(b"\r\n\r\n", 0, HEADER)
    header = (octets[:end] if end >= 0 else octets[:HEADER]).lower()
    if header.count(b"\nreceived:") + header.startswith(b"received:") > HOPS:
        return LOOP
    return None


def _only_crlf(octets: bytes) -> bool:
    """Whether every line ends in CRLF. The standard library's decoder of universal newlines tells which line ends it met, five times as fast as counting."""
    decoder = io.IncrementalNewlineDecoder(None, False)
    if len(octets) <= BLOCK:
        decoder.decode(octets.decode("latin-1"), True)
    else:
        view = memoryview(octets)
        for start in range(0, len(octets), BLOCK):
            decoder.decode(str(view[start:start + BLOCK], "latin-1"), start + BLOCK >= len(octets))
    return decoder.newlines in (None, "\r\n")


def _long_line(octets: bytes) -> bool:
    """Whether a line has more than LINE octets: from each line's start there must be an LF within reach, and the search goes on from the last of them."""
    start, end, reach = 0, len(octets), LINE + 2
    while start < end:
        found = octets.rfind(b"\n", start, start + reach)
        if found < 0:
            return True
        start = found + 1
    return False
