"""Guesses which addresses a bounce in free form is about, by the detectors of flufl.bounce; the words beside an address are the remote's.

Such texts are as people wrote them, and a guess may be wrong: what it says of an address is hearsay that suppresses nobody. Only the first OCTETS are read,
since the detectors look at every line many times.
"""

from __future__ import annotations

import logging
from email import message_from_bytes
from typing import NamedTuple

OCTETS = 32_768  # 0.1 s of detectors at worst; free-form bounces name their addresses in the first screenful
LINES = 6  # after the address that belong to it
WORDS = 1_000  # characters


class Guess(NamedTuple):
    """`words` what stands behind the address, on one line."""

    address: str
    permanent: bool
    words: str


def read(octets: bytes) -> list[Guess]:
    """The addresses that a bounce names, in order; empty for mail that is none."""
    from flufl.bounce import all_failures  # 20 ms, which only a relay that takes mail waits for, and once

    logging.getLogger("flufl.bounce").disabled = True  # it logs each defect of a message with its traceback; a defect of a stranger's mail is no news
    seen = octets[:OCTETS]
    try:
        temporary, permanent = all_failures(message_from_bytes(seen))
    except Exception:  # its detectors raise what they like (IndexError, RecursionError) at mail that nobody would write: not a bounce then
        return []
    text = seen.decode("utf-8", "replace").replace("\r\n", "\n")
    named = [(each.decode("utf-8", "replace").strip(), True) for each in sorted(permanent)]
    named += [(each.decode("utf-8", "replace").strip(), False) for each in sorted(temporary)]
    return [Guess(address[:320], lasting, _words(text, address)) for address, lasting in named if address]


def _words(text: str, address: str) -> str:
    at = text.lower().find(address.lower(), text.find("\n\n") + 1)
    return " ".join("\n".join(text[at:at + 2 * WORDS].split("\n")[:LINES]).split())[:WORDS] if at >= 0 else ""
