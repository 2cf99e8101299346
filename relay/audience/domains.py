"""Whether a domain can have mail at all: asked once per domain of an import. Nobody's fault counts against it: when DNS fails, the domain stays."""

from __future__ import annotations

from relay.delivery.dns import Resolver
from relay.delivery.mx import exchangers
from relay.errors import NoRoute

TYPOS = {  # misspellings that somebody registered, or that everybody makes
    "gmial.com": "gmail.com", "gamil.com": "gmail.com", "gmai.com": "gmail.com", "gmail.co": "gmail.com", "gmail.con": "gmail.com", "gnail.com": "gmail.com",
    "gmal.com": "gmail.com", "gmaill.com": "gmail.com", "hotmial.com": "hotmail.com", "hotmal.com": "hotmail.com", "hotmil.com": "hotmail.com",
    "hotmail.con": "hotmail.com", "outlok.com": "outlook.com", "outloo.com": "outlook.com", "outlook.con": "outlook.com", "yaho.com": "yahoo.com",
    "yahooo.com": "yahoo.com", "yahoo.con": "yahoo.com", "yhaoo.com": "yahoo.com", "iclod.com": "icloud.com", "icloud.con": "icloud.com", "gmx.ed": "gmx.de",
}


async def fault(resolver: Resolver, domain: str) -> str:
    """What is wrong with a domain as the place of mailboxes, "" for nothing that we know of."""
    if domain.startswith("["):
        return ""
    if domain in TYPOS:
        return f"{domain} is a misspelling; did they mean {TYPOS[domain]}?"
    answer = await resolver.lookup(domain, "MX")
    try:
        found = exchangers(domain, answer)
    except NoRoute as error:
        return error.reply.text if error.reply.code >= 500 else ""
    if answer.found:
        return ""
    addresses = [await resolver.lookup(found[0].host, kind) for kind in ("A", "AAAA")]
    return "" if any(not each.absent for each in addresses) else f"the domain {domain} has no mail server"
