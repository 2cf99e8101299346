"""Policies: what one is, what it may use, and how a chain of them runs.

A policy is a file in `policies/` (or anywhere importable) with

    def make(options: dict, services: Services) -> Policy

named in relay.toml by its dotted path. Three chains run at three moments:

    admit    at the door, before the 250 or 2xx    headers authorize suppress limit rspamd      [[policies.submit]]
    copy     when a recipient first comes due      unsubscribe track verp                       [[policies.copy]]
    depart   connection open, just before MAIL     suppress dkim                                [[policies.attempt]]

`apply` takes a message and gives the messages to go on with (one, several after a split by recipient, or none when it dropped everyone).
It refuses single recipients with `message.drop(recipient, reply)`, all of them by raising Refuse or Defer. `recipient`, where a policy has it, runs at
RCPT and once per recipient of an API call, before any octet of the message; its Reply refuses that recipient. `undo`, where a policy has it, takes back
what `apply` used up (a place under a limit), when a later policy refuses, the commit fails or the message turns out to be a replay.

What a policy may have besides, for the many emails of a batch: `recipients`, which answers for many with one question to the store; `apply_each`, which takes
messages of one principal and gives for each one message or the RelayError that `apply` would have raised, and waits for nobody but the store. `idle`, where
it is not None, is the policy's line in every trace: as it is configured it has nothing to do, and is not run.

A policy keeps no state that must be right across processes: with `--workers N` each worker has its own instance. What must be shared goes
through Services.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import perf_counter
from typing import Any, Protocol

from relay.clock import Clock
from relay.errors import ConfigError, Defer, Refuse, RelayError
from relay.mail.message import Decision, Envelope, Message, Principal, Recipient, replace
from relay.mail.reply import Reply
from relay.metrics import POLICY_DECISIONS, POLICY_SECONDS

ADMIT = ("policies.headers", "policies.authorize", "policies.suppress", "policies.limit", "policies.rspamd")
COPY = ("policies.unsubscribe", "policies.track", "policies.verp")
DEPART = ("policies.suppress", "policies.dkim")


@dataclass(frozen=True, slots=True)
class Suppression:
    """Why an address gets no mail: reason of relay.store.suppressions or "rule", whose name is `rule`; scope all | marketing | topic:<id>."""

    reason: str
    scope: str
    created_at: float
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A sending domain of a project, with its switches."""

    id: int
    name: str
    verified: bool
    opens: bool = False
    clicks: bool = False
    tracking_host: str = ""
    return_path: str = ""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A DKIM key in use: algorithm "rsa-sha256" | "ed25519-sha256", `pem` PKCS#8."""

    domain: str
    selector: str
    algorithm: str
    pem: bytes


LANGUAGES = ("en", "de", "fr", "es", "da")  # of footers, pages and letters of ours


@dataclass(frozen=True, slots=True)
class Sender:
    """What a project says of itself in footers: `title` shown to people, `language` "en", `postal_address` with line breaks; "" where not said."""

    title: str = ""
    language: str = "en"
    postal_address: str = ""


class Suppressions(Protocol):
    async def find(self, project: int, key: str, stream: str, topic: str) -> Suppression | None:
        """The entry that stops mail of this stream and topic to the address with this normal form, read now, never from a cache."""

    async def among(self, project: int, keys: Sequence[str], stream: str, topic: str) -> Mapping[str, Suppression]:
        """What `find` gives for each of these, by address, without those that nothing stops."""


class Domains(Protocol):
    async def of(self, project: int) -> Mapping[str, Domain]:
        """The project's domains by name; at most one second old."""


class Keys(Protocol):
    async def signing(self, project: int, domain: str) -> Sequence[SigningKey]:
        """The keys that sign for this domain, RSA first; empty without one. At most one second old."""


class Senders(Protocol):
    async def of(self, project: int, key: str = "") -> Sender:
        """What the project says of itself, at most one second old; to the contact with this normal form of an address in their own language."""


class Counters(Protocol):
    async def take(self, name: str, limit: int, period: float, amount: int = 1) -> float:
        """0.0 and `amount` counted, or the seconds until there is room; never more than `limit` in `period` across all processes."""

    async def give_back(self, name: str, amount: int = 1) -> None:
        """Undo a take, for mail that was refused, replayed or suppressed."""


class Fetch(Protocol):
    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
        """Status and body (at most 1 MB); raises OSError or TimeoutError."""


class Tokens(Protocol):
    def make(self, kind: str, data: bytes, expires: float | None = None) -> str: ...
    def read(self, kind: str, token: str) -> bytes: ...
    def lapsed(self, kind: str, token: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Services:
    """All that a policy may use from outside, given by relay.app. A worker's are read-only views of the same."""

    clock: Clock
    hostname: str
    settings: Any  # relay.settings.Settings, frozen
    suppressions: Suppressions
    domains: Domains
    keys: Keys
    counters: Counters
    fetch: Fetch
    tokens: Tokens
    senders: Senders | None = None  # without it footers have the link alone


class Policy(Protocol):
    async def apply(self, message: Message) -> Sequence[Message]: ...


@dataclass(frozen=True, slots=True, eq=False)  # one is itself alone: policies are other people's, and may not be hashable
class Chain:
    """Policies in their order, run one after the other; what each did goes to the message's trace and to the metrics."""

    policies: tuple[tuple[str, Policy], ...] = ()
    at_recipient: tuple[tuple[str, Any], ...] = field(default=())

    async def recipient(self, principal: Principal, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """The first refusal of this recipient, or None."""
        for name, check in self.at_recipient:
            reply = await check(principal, envelope, recipient)
            if reply is not None:
                POLICY_DECISIONS.labels(name, "refused" if reply.permanent else "deferred").inc()
                return reply
        return None

    async def recipients(self, principal: Principal, asked: Sequence[tuple[Envelope, Recipient]]) -> list[Reply | None]:
        """What `recipient` gives for each; a policy that can is asked once for all."""
        replies: list[Reply | None] = [None] * len(asked)
        for name, check in self.at_recipient:
            left = [number for number, reply in enumerate(replies) if reply is None]
            together = getattr(getattr(check, "__self__", None), "recipients", None)
            if together is not None:
                answers = await together(principal, [asked[number] for number in left])
            else:
                answers = [await check(principal, *asked[number]) for number in left]
            for number, reply in zip(left, answers, strict=True):
                if reply is not None:
                    POLICY_DECISIONS.labels(name, "refused" if reply.permanent else "deferred").inc()
                    replies[number] = reply
        return replies

    def without(self, name: str) -> Chain:
        """The chain without the policies of this name."""
        return _without(self, name)

    async def apply(self, message: Message) -> Sequence[Message]:
        """The messages after every policy; raises Refuse or Defer for all. A fault of a policy is a Defer that says whose it is, so nothing is lost."""
        messages: Sequence[Message] = (message,)
        done, name, began = 0, "", perf_counter()
        try:
            for name, policy in _awake(self):
                if len(messages) == 1:
                    messages = await policy.apply(messages[0])
                else:
                    messages = [after for each in messages for after in await policy.apply(each)]
                ended = perf_counter()
                POLICY_SECONDS.counts[name,] += ended - began
                began = ended
                done += 1
        except BaseException as error:  # a refusal, a fault or the door's patience: the message does not go on
            POLICY_SECONDS.counts[name,] += perf_counter() - began
            for each in messages:
                await self.undo(each, done)
            _count(name, error)
            if isinstance(error, RelayError) or not isinstance(error, Exception):
                raise
            raise _failed(name, error) from error
        return [_traced(self, each, len(message.trace)) for each in messages]

    @property
    def prompt(self) -> bool:
        """Whether messages that came together may go through it together: no policy waits for anybody outside."""
        return _prompt(self)

    async def apply_each(self, messages: Sequence[Message]) -> list[Message | RelayError]:
        """What `apply` gives for each of these messages of one principal, or what it raises; of a chain that is prompt."""
        out: list[Message | RelayError] = list(messages)
        for done, (name, policy) in enumerate(_awake(self)):
            began, left = perf_counter(), [number for number, each in enumerate(out) if not isinstance(each, RelayError)]
            answers = await self._together(done, name, policy, [out[number] for number in left])  # type: ignore[misc]
            for number, answer in zip(left, answers, strict=True):
                out[number] = answer
            POLICY_SECONDS.counts[name,] += perf_counter() - began
        return [after if isinstance(after, RelayError) else _traced(self, after, len(before.trace)) for before, after in zip(messages, out, strict=True)]

    async def _together(self, done: int, name: str, policy: Any, messages: Sequence[Message]) -> Sequence[Message | RelayError]:
        """One policy's answers; the `done` policies before it take back what the messages that it refuses used up."""
        try:
            answers = await policy.apply_each(messages)
            ended = [(message, answer) for message, answer in zip(messages, answers, strict=True) if isinstance(answer, RelayError)]
        except BaseException as error:  # a fault or the door's patience: none of them goes on
            answers, ended = [_failed(name, error)] * len(messages), [(message, error) for message in messages]
        for message, error in ended:
            await self.undo(message, done)
            _count(name, error)
            if not isinstance(error, Exception):
                raise error
        return answers

    async def undo(self, message: Message, done: int | None = None) -> None:
        """Let the first `done` policies that run (all without it) take back what this message used up; for a message that the door did not keep."""
        for _, policy in reversed(_awake(self)[:done]):
            take_back = getattr(policy, "undo", None)
            if take_back is not None:
                await take_back(message)


@lru_cache(16)
def _without(chain: Chain, name: str) -> Chain:
    return Chain(tuple(each for each in chain.policies if each[0] != name), tuple(each for each in chain.at_recipient if each[0] != name))


@lru_cache(16)
def _awake(chain: Chain) -> tuple[tuple[str, Policy], ...]:
    """The policies that have something to do."""
    return tuple(each for each in chain.policies if getattr(each[1], "idle", None) is None)


@lru_cache(16)
def _prompt(chain: Chain) -> bool:
    return all(hasattr(policy, "apply_each") for _, policy in _awake(chain))


def _traced(chain: Chain, message: Message, before: int) -> Message:
    """The message with a line in its trace for each policy that had nothing to say, in the order of the chain."""
    return replace(message, trace=message.trace[:before] + _lines(chain, message.trace[before:]))


@lru_cache(1_024)  # nearly all messages leave a chain with one of a few traces
def _lines(chain: Chain, said: tuple[Decision, ...]) -> tuple[Decision, ...]:
    spoken: dict[str, list[Decision]] = {}
    for decision in said:
        spoken.setdefault(decision.policy, []).append(decision)
    trace = [line for name, policy in chain.policies for line in spoken.pop(name, None) or (getattr(policy, "idle", None) or Decision(name, "passed"),)]
    return (*trace, *(line for lines in spoken.values() for line in lines))


def _failed(name: str, error: BaseException) -> Defer:
    """What a sender hears of a policy's fault."""
    deferred = Defer(Reply(451, "4.3.0", f"policy {name} failed, try again later"))
    deferred.__cause__ = error
    return deferred


def _count(name: str, error: BaseException) -> None:
    """What ended a chain; a policy is other people's code, so faults are counted too."""
    if isinstance(error, Exception):
        ended = "refused" if isinstance(error, Refuse) else "deferred" if isinstance(error, RelayError) else "fault"
        POLICY_DECISIONS.labels(name, ended).inc()


def load(chain: str, entries: Sequence[Mapping[str, Any]], services: Services) -> Chain:
    """The chain that relay.toml names; raises ConfigError naming the entry at fault.

    chain    "policies.submit", "policies.copy" or "policies.attempt", for the error
    entries  tables with `use` (dotted path of a module with `make`, or of a callable) and the policy's own options
    """
    loaded = []
    for number, entry in enumerate(entries):
        options = dict(entry)
        path = options.pop("use", "")
        loaded.append((path.rpartition(".")[2], _build(f"{chain}[{number}]", path, options, services)))
    return Chain(tuple(loaded), tuple((name, p.recipient) for name, p in loaded if hasattr(p, "recipient")))


def _build(key: str, path: str, options: dict[str, Any], services: Services) -> Policy:
    if not path:
        raise ConfigError(f"{key}.use", 'is missing; name a policy by its dotted path, such as use = "policies.headers"')
    try:
        target = importlib.import_module(path)
    except ModuleNotFoundError as missing:
        module, _, name = path.rpartition(".")
        if missing.name != path or not module:
            raise ConfigError(f"{key}.use", f"{path!r} cannot be imported: {missing}") from missing
        try:
            target = getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError) as error:
            raise ConfigError(f"{key}.use", f"there is no module or callable {path!r}; it must be importable by the relay's Python") from error
    except Exception as error:  # an import runs other people's code
        raise ConfigError(f"{key}.use", f"{path!r} failed at import: {error}") from error
    make = getattr(target, "make", target)
    if not callable(make):
        raise ConfigError(f"{key}.use", f"{path!r} has no make(options, services)")
    try:
        policy = make(options, services)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error.key}" if error.key else key, error.text.removeprefix(f"{error.key}: ")) from error
    except TypeError as error:
        raise ConfigError(key, f"{path!r} could not be built from the options {sorted(options)}: {error}") from error
    if not callable(getattr(policy, "apply", None)):
        raise ConfigError(f"{key}.use", f"{path!r} made a {type(policy).__name__}, which has no apply(message)")
    return policy


def options(given: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """The known options with their defaults, overridden by the given; an unknown name raises ConfigError naming the right ones."""
    for name in given:
        if name not in known:
            raise ConfigError(name, f"is not an option of this policy; it takes {', '.join(sorted(known)) or 'none'}")
    return {**known, **given}


def owner(domains: Mapping[str, Domain], name: str) -> Domain | None:
    """The project's domain that this name is or is a sub-domain of, the nearest of several."""
    while name:
        found = domains.get(name)
        if found is not None:
            return found
        name = name.partition(".")[2]
    return None


__all__ = ["ADMIT", "COPY", "DEPART", "Chain", "Decision", "Domain", "Policy", "Sender", "Services", "SigningKey", "Suppression", "load", "options", "owner"]
