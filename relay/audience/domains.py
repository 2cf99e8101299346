"""Whether a domain can have mail at all: asked once per domain of an import. Nobody's fault counts against it: when DNS fails, the domain stays."""

from __future__ import annotations

from difflib import get_close_matches

from relay.delivery.dns import Resolver
from relay.delivery.mx import exchangers
from relay.errors import NoRoute

TYPOS = {  # misspellings that somebody registered, or that everybody makes
    "gmial.com": "gmail.com", "gamil.com": "gmail.com", "gmai.com": "gmail.com", "gmail.co": "gmail.com", "gmail.con": "gmail.com", "gnail.com": "gmail.com",
    "gmal.com": "gmail.com", "gmaill.com": "gmail.com", "hotmial.com": "hotmail.com", "hotmal.com": "hotmail.com", "hotmil.com": "hotmail.com",
    "hotmail.con": "hotmail.com", "outlok.com": "outlook.com", "outloo.com": "outlook.com", "outlook.con": "outlook.com", "yaho.com": "yahoo.com",
    "yahooo.com": "yahoo.com", "yahoo.con": "yahoo.com", "yhaoo.com": "yahoo.com", "iclod.com": "icloud.com", "icloud.con": "icloud.com", "gmx.ed": "gmx.de",
}
_FREE = """
    gmail.com googlemail.com outlook.com hotmail.com hotmail.co.uk hotmail.fr hotmail.de live.com live.co.uk msn.com yahoo.com yahoo.co.uk yahoo.fr yahoo.de
    yahoo.co.jp yahoo.co.in ymail.com rocketmail.com aol.com icloud.com me.com mac.com proton.me protonmail.com pm.me gmx.de gmx.net gmx.com gmx.at gmx.ch
    web.de t-online.de freenet.de mail.com mail.ru yandex.ru yandex.com qq.com 163.com 126.com sina.com naver.com daum.net orange.fr wanadoo.fr free.fr sfr.fr
    laposte.net libero.it virgilio.it tin.it zoho.com fastmail.com tutanota.com tuta.com hey.com comcast.net verizon.net att.net sbcglobal.net cox.net
    bluewin.ch terra.com.br uol.com.br bol.com.br rediffmail.com seznam.cz wp.pl o2.pl onet.pl interia.pl
"""
FREE = frozenset(_FREE.split())  # providers where anybody gets a mailbox
ALIKE = 0.85  # of 1.0: one letter of ten is another, or two are swapped


def meant(domain: str, dead: bool) -> str:
    """The well-known domain that this one was probably meant to be, "" for none; of a `dead` one, which takes no mail, it need only look like it."""
    found = get_close_matches(domain, sorted(FREE), 1, ALIKE) if dead and domain not in FREE and domain not in TYPOS else []
    return TYPOS.get(domain) or "".join(found)


async def fault(resolver: Resolver, domain: str) -> str:
    """What is wrong with a domain as the place of mailboxes, with the one that was probably meant; "" for nothing that we know of."""
    if domain.startswith("["):
        return ""
    if domain in TYPOS:
        return f"{domain} is a misspelling; did they mean {TYPOS[domain]}?"
    wrong = await _dead(resolver, domain)
    better = meant(domain, dead=True) if wrong else ""
    return f"{wrong}; did they mean {better}?" if better else wrong


async def _dead(resolver: Resolver, domain: str) -> str:
    """Why no mail can go there, "" if it can or nobody knows."""
    answer = await resolver.lookup(domain, "MX")
    try:
        found = exchangers(domain, answer)
    except NoRoute as error:
        return error.reply.text if error.reply.code >= 500 else ""
    if answer.found:
        return ""
    addresses = [await resolver.lookup(found[0].host, kind) for kind in ("A", "AAAA")]
    return "" if any(not each.absent for each in addresses) else f"the domain {domain} has no mail server"
