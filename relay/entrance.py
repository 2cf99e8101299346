"""What the main process and every worker have in common: policies' services, the door, and the SMTP listeners in front of it.

The main process opens or inherits all listening sockets and keeps them, so a worker that is replaced loses no connection that waits to be accepted. With
workers each has sockets of its own (SO_REUSEPORT) unless the service manager handed over a single one, which all then share.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay import bounces, policy
from relay.clock import Clock
from relay.consent import Terms
from relay.desks import Large, SubmissionDesk
from relay.fetch import Fetch
from relay.inbound.authentication import Checks
from relay.inbound.bounce import Hearing
from relay.inbound.desk import Forget, InboundDesk
from relay.inbound.mailboxes import Mailboxes, hosts
from relay.inbound.pace import Pace
from relay.inbound.receiving import Receiving
from relay.inbound.returning import Returning
from relay.mail.header import Header
from relay.mail.ids import Maker
from relay.mail.message import Wishes
from relay.mail.tokens import Tokens
from relay.policy import Chain, Services
from relay.scoring import Scorer
from relay.services import Doorkeeper, StoredDomains, StoredKeys, StoredSenders, StoredSuppressions
from relay.settings import Settings
from relay.shaping import Shaping
from relay.smtp.auth import Guard
from relay.smtp.limits import PER_ADDRESS, Budget, Connections
from relay.smtp.server import Listener, ListenerOptions
from relay.smtp.tls import Certificate
from relay.store.engine import Store
from relay.store.secrets import vault
from relay.submission import Commit, CommitEach, Door, Fill

NAMES = ("submission", "submissions")
INBOUND = "inbound"
BACKLOG = 1_024
FEW = 20  # recipients of one message to us: a report comes to one address, a person leaves a handful of lists at once


@dataclass(frozen=True, slots=True)
class Tools:
    """The services of policies, and what stands behind them."""

    services: Services
    keeper: Doorkeeper
    domains: StoredDomains
    keys: StoredKeys
    suppressions: StoredSuppressions
    fill: Fill

    def changed(self, kind: str) -> None:
        """Drop what is remembered of "domains" (and so of signing keys) or "rules"; API keys are never remembered."""
        if kind in ("domains", "domain", "dkim"):
            self.domains.changed()
            self.keys.changed()
        if kind == "rules":
            self.suppressions.changed()


def tools(settings: Settings, store: Store, secrets: Sequence[str], clock: Clock, counters: Any, fetch: policy.Fetch | None = None) -> Tools:
    """What policies use; `fetch` is the client that they had before, whose connections go on."""
    domains, keys = StoredDomains(store, clock), StoredKeys(store, vault(secrets, "dkim"), clock)
    suppressions = StoredSuppressions(store, clock)
    services = Services(
        clock, settings.hostname, settings, suppressions, domains, keys, counters,
        fetch or Fetch(allow_private=True), Tokens(tuple(secrets), clock), StoredSenders(store, clock),
    )
    return Tools(services, Doorkeeper(store, clock), domains, keys, suppressions, _filler(store))


def _filler(store: Store) -> Fill:
    """What fills templates; Liquid is loaded by the first message that names one."""

    async def fill(project: int, fields: Header, wishes: Wishes) -> tuple[Header, bytes]:
        from relay.filling import Filler

        return await Filler(store).fill(project, fields, wishes)

    return fill


def door(settings: Settings, tools: Tools, commit: Commit, maker: Maker, commit_each: CommitEach | None = None) -> Door:
    """The door with the chains of relay.toml; raises ConfigError for a policy that cannot be loaded."""
    services = tools.services
    system = policy.load("policies.submit", [{"use": "policies.headers"}], services)
    return Door(admit(settings, services), system, commit, maker, services.clock, tools.fill, commit_each, services.tokens)


def admit(settings: Settings, services: Services) -> Chain:
    return policy.load("policies.submit", settings.policies.submit, services)


def listeners(settings: Settings, desk: SubmissionDesk, maker: Maker, guard: Guard, processes: int = 1) -> dict[str, Listener]:
    """The submission listeners that relay.toml switches on, by name; they share their guard and limits.

    processes  how many such processes there are: each has its share of connections and octets in flight
    """
    smtp = settings.smtp
    certificate = Certificate(smtp.tls_cert, smtp.tls_key) if smtp.tls_cert else None
    budget = Budget(max(smtp.max_in_flight // processes, smtp.max_size))
    connections = Connections(max(smtp.max_connections // processes, 2), max(PER_ADDRESS // processes, 2))
    return {
        name: Listener(desk, ListenerOptions(
            name, settings.hostname, max_size=smtp.max_size, certificate=certificate, plaintext_auth=[str(n) for n in smtp.plaintext_auth],
            trusted_networks=[str(n) for n in smtp.trusted_networks], proxy_from=[str(n) for n in smtp.proxy_from], budget=budget,
            connections=connections, guard=guard, ids=maker,
        ))
        for name in NAMES if getattr(smtp, name)
    }


def inbound(settings: Settings, tools: Tools, store: Store, forget: Forget, maker: Maker, beside: Mapping[str, Listener], checks: Checks) -> Listener:
    """The listener for mail to us; it takes from the same limits as those beside it. Raises ConfigError for bounce rules that cannot be read."""
    smtp, desk = settings.smtp, inbound_desk(settings, tools, store, forget, maker, checks)
    shared = next((each.options for each in beside.values()), ListenerOptions(INBOUND, settings.hostname))
    return Listener(desk, ListenerOptions(
        INBOUND, settings.hostname, max_size=smtp.max_size, certificate=Certificate(smtp.tls_cert, smtp.tls_key) if smtp.tls_cert else None,
        plaintext_auth=(), proxy_from=[str(n) for n in smtp.proxy_from], recipients_unknown=FEW, budget=shared.budget, connections=shared.connections,
        guard=shared.guard, ids=maker,
    ))


def inbound_desk(settings: Settings, tools: Tools, store: Store, forget: Forget, maker: Maker, checks: Checks) -> InboundDesk:
    services, proven, rspamd = tools.services, settings.domains.require_verified, settings.rspamd
    hearing = Hearing(bounces.read(settings.suppress.rules), Terms.of(settings.suppress))
    returning = Returning(store, services.tokens, hearing, Shaping.load(settings.delivery.connections).provider, services.clock, forget, proven)
    pace = Pace(settings.inbound.per_sender, services.counters if store.dialect == "postgresql" else None)
    scorer = Scorer(services.fetch, services.clock, rspamd.url, rspamd.timeout)
    receiving = Receiving(
        store, services.tokens, checks, pace, services.clock, maker, settings.hostname, proven, settings.inbound.dmarc == "reject", scorer, rspamd.block)
    return InboundDesk(store, Mailboxes(services.tokens, hosts(settings)), settings.suppress.unsubscribe, services.clock, maker, forget, returning, receiving)


async def desk(the_door: Door, keeper: Doorkeeper, store: Store, large: Large | None = None) -> SubmissionDesk:
    """The desk of the submission listeners; SQLite answers point reads at once, and so do the policies we ship."""
    quick = store.dialect == "sqlite" and all(type(check.__self__).__module__.startswith("policies.") for _, check in the_door.admit.at_recipient)
    return SubmissionDesk(the_door, keeper, await keeper.local("trusted"), quick, large)


def bound(address: str, reuse_port: bool = False) -> socket.socket:
    """A listening socket on "host:port"; raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only where the protocol is named
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
    try:
        sock.bind((host or "0.0.0.0", int(port)))  # noqa: S104 "0.0.0.0:587" is what an operator writes for all addresses
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def sockets(settings: Settings, count: int, inherited: Mapping[str, socket.socket]) -> list[dict[str, socket.socket]]:
    """For each of `count` processes its listening sockets by listener name; raises OSError naming the address."""
    found: list[dict[str, socket.socket]] = [{} for _ in range(count)]
    for name in NAMES:
        address = getattr(settings.smtp, name)
        if not address:
            continue
        for place in found:
            place[name] = inherited[name] if name in inherited else named(f"smtp.{name}", address, count > 1)
    return found


def named(key: str, address: str, reuse_port: bool = False) -> socket.socket:
    """A listening socket for the address of this key; raises OSError naming both."""
    try:
        return bound(address, reuse_port)
    except OSError as error:
        raise OSError(error.errno, f"{key} = \"{address}\" cannot be listened on: {error.strerror}") from error
