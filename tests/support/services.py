"""What policies may use, kept in dicts: the Protocols of relay/policy.py without a database, for tests that are about a policy and not about a store."""

from dataclasses import dataclass, field, replace

from relay.clock import Clock
from relay.mail import address, ids
from relay.mail.header import split
from relay.mail.message import Envelope, Message, Origin, Principal, Recipient, Wishes
from relay.mail.tokens import Tokens
from relay.policy import Domain, Services, SigningKey, Suppression
from relay.settings import Settings

NOW = 1_790_000_000.0  # Mon, 21 Sep 2026 14:13:20 +0000
KEY = Principal("key", 1, key_id=7, name="app")
SYSTEM = Principal("system", 1)
ORIGIN = Origin("smtp", "192.0.2.7", "app.example.com", "ESMTPSA", "TLSv1.3 TLS_AES_256_GCM_SHA384")
_IDS = ids.Maker(1)


@dataclass
class Kept:
    """The dicts behind the services; a test writes them and reads what a policy did."""

    suppressions: dict[tuple[int, str, str], Suppression] = field(default_factory=dict)  # by project, key, scope
    domains: dict[int, dict[str, Domain]] = field(default_factory=dict)
    keys: dict[tuple[int, str], list[SigningKey]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    lookups: int = 0
    now: float = NOW
    elapsed: float = 0.0

    async def find(self, project, key, stream, topic):
        self.lookups += 1
        scopes = ["all", *(["marketing"] if stream == "marketing" else []), *([f"topic:{topic}"] if topic else [])]
        return next((found for scope in scopes if (found := self.suppressions.get((project, key, scope)))), None)

    async def among(self, project, keys, stream, topic):
        return {key: found for key in keys if (found := await self.find(project, key, stream, topic))}

    async def of(self, project):
        return self.domains.get(project, {})

    async def signing(self, project, domain):
        return self.keys.get((project, domain), [])

    async def take(self, name, limit, period, amount=1):
        used = self.used.get(name, 0)
        if used + amount > limit:
            return period / 2
        self.used[name] = used + amount
        return 0.0

    async def give_back(self, name, amount=1):
        self.used[name] -= amount


def services(kept=None, fetch=None, hostname="relay.example", **sections):
    """Services on `kept`; sections override settings, as in services(limit={"key_per_hour": 3})."""
    kept = kept or Kept()
    settings = Settings(hostname=hostname)
    for name, values in sections.items():
        settings = replace(settings, **{name: replace(getattr(settings, name), **values)})
    clock = Clock(now=lambda: kept.now, elapsed=lambda: kept.elapsed)
    return Services(clock, hostname, settings, kept, kept, kept, kept, fetch, Tokens(("a secret of thirty-two characters",), clock))


def recipient(spec):
    return Recipient(_IDS.next(), spec, address.key(spec), address.domain_of(spec))


def message(content, *to, sender="joe@example.com", principal=KEY, origin=ORIGIN, wishes=None):
    """A message of these octets to these addresses (jane@example.org without any)."""
    header, body = split(content)
    envelope = Envelope(sender, tuple(recipient(spec) for spec in to or ("jane@example.org",)))
    return Message(_IDS.next(), principal, envelope, header, body, origin, wishes or Wishes(), received_at=NOW)
