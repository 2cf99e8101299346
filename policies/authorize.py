"""May this credential use this From? The domain of From, Sender and reverse-path must be one of the project's, or a sub-domain of one.

The null reverse-path is allowed with an owned From (auto-replies). A key that is bound to one domain sends from that one only, whatever else is
allowed. `[domains] require_verified = false` lifts all but that. Local users of this machine may also use its own host name, so that cron's mail
goes out on a fresh machine. Our own reports pass. RFC 6409 §6.1; the text of the refusal says what was seen, what is allowed, and what to type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from relay.errors import Refuse, RelayError
from relay.mail import address, mailbox
from relay.mail.header import Field
from relay.mail.message import Message
from relay.mail.reply import Reply
from relay.policy import Domain, Services, owner
from relay.policy import options as known

SHORT = 256  # octets of a field whose reading is remembered
SHOWN = 5  # domains named in a refusal, whose text has 500 octets


def make(options: Mapping[str, Any], services: Services) -> Authorize:
    """Option `require_verified` overrides the setting of [domains]."""
    given = known(options, require_verified=services.settings.domains.require_verified)
    return Authorize(services, bool(given["require_verified"]))


class Authorize:
    """The policy."""

    def __init__(self, services: Services, require_verified: bool):
        self._services = services
        self._strict = require_verified

    async def apply(self, message: Message) -> Sequence[Message]:
        if message.principal.kind == "system":
            return (message,)
        return (await self._allowed(message, await self._services.domains.of(message.principal.project)),)

    async def apply_each(self, messages: Sequence[Message]) -> list[Message | RelayError]:
        domains = await self._services.domains.of(messages[0].principal.project) if messages else {}
        return [await self._tried(message, domains) for message in messages]

    async def _tried(self, message: Message, domains: Mapping[str, Domain]) -> Message | RelayError:
        try:
            return await self._allowed(message, domains)
        except RelayError as error:
            return error

    async def _allowed(self, message: Message, domains: Mapping[str, Domain]) -> Message:
        """The message, noted where it will leave unsigned; raises Refuse."""
        principal, claims = message.principal, _claims(message)
        if principal.domain:
            for field, spec, domain in claims:
                if not address.within(domain, principal.domain):
                    raise _refusal(f"{field} <{spec}> is not allowed: this key sends from {principal.domain} only; use a key of another domain")
        if self._strict:
            for field, spec, domain in claims:
                self._require(message, domains, field, spec, domain)
        found = owner(domains, claims[0][2])
        if found is None or await self._services.keys.signing(principal.project, found.name):
            return message
        text = f"{found.name} has no DKIM key, so this leaves unsigned; make one with: relay domain dkim {found.name}"
        return message.noted("authorize", "warned", text)

    def _require(self, message: Message, domains: Mapping[str, Domain], field: str, spec: str, domain: str) -> None:
        found = owner(domains, domain)
        if found is not None and found.verified:
            return
        if message.principal.kind == "local" and address.within(domain, self._services.hostname):
            return
        if found is not None:
            raise _refusal(f"{field} <{spec}> is not allowed yet: {found.name} is added but not verified; "
                           f"publish its DNS records and run: relay domain verify {found.name}")
        raise _refusal(f"{field} <{spec}> is not allowed: {_allowed(domains)}; add it with: relay domain add {domain} (--project NAME unless default)")


def _claims(message: Message) -> list[tuple[str, str, str]]:
    """Who the message says it is from: (field, address, domain), From first; raises Refuse for no From or several."""
    fields = message.header.all(b"from")
    if len(fields) != 1:
        raise Refuse(Reply(550, "5.6.0", f"the message has {len(fields)} From fields; RFC 5322 wants exactly one"), "invalid_from")
    claims = [*_named("From", fields[0])]
    if not claims:
        raise Refuse(Reply(550, "5.6.0", "the From field has no address"), "invalid_from")
    for field in message.header.all(b"sender"):
        claims += _named("Sender", field)
    sender = message.envelope.sender
    if sender and sender != claims[0][1]:
        claims.append(("reverse-path", sender, address.domain_of(sender)))
    return claims


def _named(name: str, field: Field) -> tuple[tuple[str, str, str], ...]:
    return _remembered(name, field) if len(field.raw) <= SHORT else _read(name, field)


def _read(name: str, field: Field) -> tuple[tuple[str, str, str], ...]:
    return tuple((name, box.address, box.domain) for box in mailbox.mailboxes(field.value, name))


_remembered = lru_cache(2_048)(_read)  # one From stands in all mail of an app


def _allowed(domains: Mapping[str, Domain]) -> str:
    names = sorted(domain.name for domain in domains.values() if domain.verified)
    if not names:
        return "no domain of this project is verified"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the project sends from {', '.join(names[:SHOWN])}{more}"


def _refusal(text: str) -> Refuse:
    return Refuse(Reply(550, "5.7.1", text), "domain_not_verified")
