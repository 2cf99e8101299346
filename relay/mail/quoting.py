"""A reply without what it answers: the part that the person wrote, above the quoted message and the signature.

Mail programs mark the quote in one of a few ways: lines with ">", "On ... wrote:" in the reader's language, Outlook's rule or block of header fields. What
looks like none of these is kept: a quote too much is better than a sentence lost.
"""

from __future__ import annotations

import re

LINES = 5_000  # of a reply that are looked at
WIDTH = 400  # characters of a line that may be an attribution
ATTRIBUTION = 3  # lines that "On ... wrote:" may be folded over

_ATTRIBUTION = re.compile(
    r"(?:on\b.{4,300}\bwrote|am\b.{4,300}\bschrieb\b.{0,200}|le\b.{4,300}\ba écrit|el\b.{4,300}\bescribió|il\b.{4,300}\bha scritto|"
    r"op\b.{4,300}\bschreef\b.{0,200}|em\b.{4,300}\bescreveu|den\b.{4,300}\bskrev\b.{0,200})\s*:\s*", re.IGNORECASE)
_ADDRESS = re.compile(r".{0,300}<[^<>\s]{3,320}>.{0,40}(?:wrote|schrieb|skrev|a écrit|escribió)\s*:\s*", re.IGNORECASE)
_RULE = re.compile(
    r"\s*(?:-{2,}\s*(?:original message|original appointment|ursprüngliche nachricht|message d'origine|mensaje original|messaggio originale|forwarded message)"
    r"\s*-{2,}|_{20,}\s*|-{20,}\s*)", re.IGNORECASE)
_FIELD = re.compile(r"\s*\*?(?:from|von|de|da|van|från|fra)\*?:\s*\S", re.IGNORECASE)
_NEXT = re.compile(
    r"\s*\*?(?:sent|to|date|subject|gesendet|an|datum|betreff|envoyé|à|objet|enviado|para|asunto|inviato|a|oggetto|verzonden|aan)\*?:\s*", re.IGNORECASE)


def stripped(text: str) -> str:
    """The reply's own words, without quote and signature."""
    lines = text.replace("\r\n", "\n").split("\n")[:LINES]
    for at, line in enumerate(lines):
        if line in ("-- ", "--") or _RULE.fullmatch(line) or _begins(lines, at):
            lines = lines[:at]
            break
    while lines and (not lines[-1].strip() or lines[-1].startswith(">")):
        lines.pop()
    return "\n".join(lines).strip()


def _begins(lines: list[str], at: int) -> bool:
    """Whether the quoted message begins with this line."""
    line = lines[at]
    if _FIELD.match(line) and any(_NEXT.match(each) for each in lines[at + 1:at + 3]):
        return True
    if not line.strip() or len(line) > WIDTH:
        return False
    return _ADDRESS.fullmatch(line) is not None or any(_attributes(lines[at:at + count]) for count in range(1, ATTRIBUTION + 1))


def _attributes(lines: list[str]) -> bool:
    return lines[-1].rstrip().endswith(":") and _ATTRIBUTION.fullmatch(" ".join(lines)[:WIDTH * ATTRIBUTION]) is not None
