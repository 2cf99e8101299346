"""GET /emails by a part of `to`, `from` or `subject`, in any letter case, among the emails of the last 31 days. A whole address in `to` alone is found
natively, however old its emails are. What only the platform knows of a message is refused, rather than ignored: provider, country, device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from relay.api import emails
from relay.api.core import PER_PAGE, Relay
from relay.errors import Invalid
from relay.mail import address
from relay.mail.message import Principal
from relay.store import substrings
from relay.store.pages import Page

PARTS = ("to", "from", "subject")
UNKNOWN = ("provider", "country", "device")
LONGEST = 200  # characters of a part


def asked(query: Mapping[str, str]) -> bool:
    """Whether the native list cannot answer this."""
    given = [name for name in (*PARTS, *UNKNOWN) if query.get(name)]
    return bool(given) and not (given == ["to"] and address.valid(query["to"], True))


async def listed(here: Relay, who: Principal, query: Mapping[str, str]) -> dict[str, Any]:
    """The answer of the native list for the emails that have the parts; raises Invalid and NotFound."""
    for name in UNKNOWN:
        if query.get(name):
            raise Invalid(name, f"Relay keeps no {name} of an email to find it by")
    parts = {name: query[name] for name in PARTS if query.get(name)}
    for name, part in parts.items():
        if len(part) > LONGEST or "\0" in part:
            raise Invalid(name, f"{name} is a part of up to {LONGEST} characters")
    page = Page(_number(query, "page", 1, 1_000_000), _number(query, "per_page", 20, PER_PAGE))
    status = query.get("status") or None
    wanted = await emails.filtered(here, who, status, query.get("domain_id") or None, None, query.get("tag") or None, query.get("date_from") or None,
                                   query.get("date_to") or None)
    among = await here.store.read(substrings.among, who.project, parts, here.clock.now())
    wanted = replace(wanted, among=among if wanted.among is None else among & wanted.among)
    return await emails.found(here, who, wanted, page, status == emails.SENDING)


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= most:
        raise Invalid(name, f"{name} is a number from 1 to {most}")
    return int(text)
