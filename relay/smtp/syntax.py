"""Arguments of MAIL and RCPT: the path in its brackets and the parameters after it (RFC 5321 §4.1.2, RFC 1870, 6152, 6531, 3461, 4954).

A parameter is a row: its keyword, the field it fills, and the function that reads its value. Values are kept as they were given; nothing is
upper-cased that the sender may want back (ENVID, ORCPT).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from relay.errors import Invalid, Refuse
from relay.mail import address
from relay.mail.reply import Reply

# A source route is accepted and ignored (RFC 5321 §4.1.2, appendix C); a space after the colon is common and harmless.
_PATH = r":[ ]*<(?:@[^\s:<>\"]*:)?((?:\"(?:[^\"\\]|\\.)*\")?[^\s<>\"]*)>(?:[ \t]+(\S.*))?"
_FROM = re.compile("FROM" + _PATH, re.IGNORECASE)
_TO = re.compile("TO" + _PATH, re.IGNORECASE)
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,60};(?:[!-*,-<>-~]|\+[0-9A-F]{2}|[^\x00-\x9f])+")
_HELO = re.compile(r"[!#-'*+\-./0-9:=?A-Z\[\]^_`a-z{|}~]{1,255}")

ENVID = 100  # characters (RFC 3461 §4.4)
ORCPT = 500  # characters (RFC 3461 §4.2)


def reverse_path(argument: str) -> tuple[str, str]:
    """Address ("" for the null one) and parameters of `FROM:<...> ...`; raises Refuse."""
    found = _FROM.fullmatch(argument)
    if found is None:
        raise Refuse(Reply(501, "5.5.4", "syntax: MAIL FROM:<address> [parameters]"))
    return found[1], found[2] or ""


def forward_path(argument: str) -> tuple[str, str]:
    """Address and parameters of `TO:<...> ...`; raises Refuse. The address is never empty."""
    found = _TO.fullmatch(argument)
    if found is None:
        raise Refuse(Reply(501, "5.5.4", "syntax: RCPT TO:<address> [parameters]"))
    if not found[1]:
        raise Refuse(Reply(501, "5.1.3", "a recipient may not be empty"))
    return found[1], found[2] or ""


def check_sender(text: str, utf8: bool) -> None:
    """Raises Refuse with 5.1.7 unless this is the null reverse-path or an address."""
    if text:
        try:
            address.parse(text, utf8)
        except Invalid as error:
            status = "5.1.7" if error.reply.enhanced == "5.1.3" else error.reply.enhanced
            raise Refuse(Reply(error.reply.code, status, error.reply.text)) from None


def recipient(text: str, utf8: bool) -> tuple[str, str]:
    """Normal form and A-label domain of a recipient's address; raises Invalid with 5.1.3."""
    local, domain = address.parse(text, utf8)
    if local[0] != '"' and local.isascii():
        return f"{local.lower()}@{domain}", domain
    return address.key(text), domain


def parameters(text: str, table: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    """Fields that the parameters fill; raises Refuse with 555 for one that is not in the table, 501 for a bad value or one given twice."""
    fields: dict[str, Any] = {}
    for token in text.split():
        keyword, _, value = token.partition("=")
        row = table.get(keyword) or table.get(keyword.upper())
        if row is None:
            raise Refuse(Reply(555, "5.5.4", f"parameter {keyword[:40]} is not supported"))
        name, read = row
        if name in fields:
            raise _bad(f"parameter {keyword} is given twice")
        fields[name] = read(value if len(token) > len(keyword) else None)
    return fields


def helo(text: str) -> bool:
    """Whether this may stand as the name of a client: a domain or literal, or the odd names that machines give themselves, but nothing that a Received
    field could not carry."""
    return _HELO.fullmatch(text) is not None


def _bad(text: str) -> Refuse:
    return Refuse(Reply(501, "5.5.4", text))


def _size(value: str | None) -> int:
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise _bad("SIZE takes a number of octets")
    return int(value)


def _body(value: str | None) -> str:
    folded = (value or "").upper()
    if folded == "BINARYMIME":  # we do not convert, so we do not take it (RFC 3030 §3)
        raise Refuse(Reply(555, "5.6.3", "BODY=BINARYMIME is not supported"))
    if folded not in ("7BIT", "8BITMIME"):
        raise _bad("BODY is 7BIT or 8BITMIME")
    return folded


def _flag(value: str | None) -> bool:
    if value is not None:
        raise _bad("SMTPUTF8 takes no value")
    return True


def _ret(value: str | None) -> str:
    folded = (value or "").upper()
    if folded not in ("FULL", "HDRS"):
        raise _bad("RET is FULL or HDRS")
    return folded


def _envid(value: str | None) -> str:
    if value is None or len(value) > ENVID or not _XTEXT.fullmatch(value):
        raise _bad(f"ENVID is 1 to {ENVID} characters of xtext")
    return value


def _auth(value: str | None) -> str:
    if value is None or not (value == "<>" or _XTEXT.fullmatch(value)):
        raise _bad("AUTH is <> or an address in xtext")
    return value


def _notify(value: str | None) -> str:
    folded = (value or "").upper()
    wishes = folded.split(",")
    if folded != "NEVER" and (len(set(wishes)) != len(wishes) or not set(wishes) <= {"SUCCESS", "FAILURE", "DELAY"}):
        raise _bad("NOTIFY is NEVER or a list of SUCCESS, FAILURE and DELAY")
    return folded


def _orcpt(value: str | None) -> str:
    if value is None or len(value) > ORCPT or not _ORCPT.fullmatch(value):
        raise _bad("ORCPT is a type, a semicolon and an address in xtext")
    return value


MAIL = {
    "SIZE": ("size", _size),
    "BODY": ("body", _body),
    "SMTPUTF8": ("smtputf8", _flag),
    "AUTH": ("auth", _auth),
    "RET": ("ret", _ret),
    "ENVID": ("envid", _envid),
}
RCPT = {
    "NOTIFY": ("notify", _notify),
    "ORCPT": ("orcpt", _orcpt),
}
