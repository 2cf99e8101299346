"""How fast a site may be fed, and what its answers change: config/shaping.toml read into plain values.

`Shaping.provider(hosts)` names the site of a set of MX hosts, `Shaping.limits(site)` gives its table, `Shaping.reactions(site, reply, category)` the
rows that a reply touches; relay.queue.site counts them and applies what follows. Nothing here keeps state.

Precedent: KumoMTA's shipped shaping files, whose facts these priors are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from relay.errors import ConfigError
from relay.kinds import duration
from relay.mail.reply import Reply
from relay.shipped import shipped

ROUTE = "route:"  # sites of [[delivery.route]] begin with it; the operator owns both ends, so nothing but connections slows them
READ = 1_000  # characters of a reply that reactions look at


@dataclass(frozen=True, slots=True)
class Rate:
    """`messages` in `seconds`."""

    messages: int
    seconds: float

    @property
    def gap(self) -> float:
        """Seconds from one message to the next."""
        return self.seconds / self.messages


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a kind of reply brings on.

    text, category   which replies; an empty one matches all
    times, within    how many of them in how many seconds
    suspend          no attempts at all; else the limits that are not None replace the site's
    seconds          for how long
    """

    name: str
    text: re.Pattern[str] | None
    category: str
    times: int
    within: float
    seconds: float
    suspend: bool = False
    rate: Rate | None = None
    connections: int | None = None
    messages: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """A site's table: `connections` at once (from each of our addresses, where `per_source`), `messages` on each, `idle` seconds kept, `tls` "required"
    or "", `rate` None = unlimited."""

    connections: int = 10
    per_source: bool = False
    messages: int = 100
    idle: float = 60.0
    tls: str = ""
    rate: Rate | None = None
    reactions: tuple[Reaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Shaping:
    """The whole file. `suffixes` is in the file's order: (".google.com", "google")."""

    default: Limits
    sites: Mapping[str, Limits]
    suffixes: tuple[tuple[str, str], ...]

    @classmethod
    def load(cls, total: int, path: Path | None = None, sources: int = 1) -> Self:
        """The shaping of this file, by default the shipped one, for a relay of `total` connections from `sources` addresses.

        No site gets more than a quarter of all connections.
        """
        found, most = read(path), max(1, total // 4)
        return cls(fitted(found.default, most, sources), {name: fitted(limits, most, sources) for name, limits in found.sites.items()}, found.suffixes)

    def provider(self, hosts: Sequence[str]) -> str | None:
        """The name of the provider that all these MX hosts belong to, None if there is none."""
        names = {self._owner(host.lower().rstrip(".")) for host in hosts}
        return names.pop() if len(names) == 1 else None

    def _owner(self, host: str) -> str | None:
        for suffix, name in self.suffixes:
            if host.endswith(suffix) and (suffix[0] == "." or host == suffix):
                return name
        return None

    def limits(self, site: str) -> Limits:
        """The table of this site (a provider's name, an MX set or a route)."""
        return self.sites.get(site, self.default)

    def reactions(self, site: str, reply: Reply, category: str) -> Iterable[Reaction]:
        """The rows that this reply counts towards, the site's own first; none for a configured route."""
        if site.startswith(ROUTE):
            return ()
        own = self.limits(site).reactions
        rows = own if own is self.default.reactions else (*own, *self.default.reactions)
        text = reply.text[:READ]
        return [row for row in rows if row.category in ("", category) and (row.text is None or row.text.search(text))]


def fitted(limits: Limits, most: int, sources: int) -> Limits:
    """The table for a relay with so many sources, with at most `most` connections."""
    return replace(limits, connections=min(limits.connections * (max(1, sources) if limits.per_source else 1), most))


def read(path: Path | None = None) -> Shaping:
    """The shaping of this file, by default the shipped one; raises ConfigError naming the entry at fault."""
    path = path or shipped("shaping.toml")
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(path.name, f"cannot be read: {error}") from error
    default = _limits(f"{path.name}: default", tree.get("default", {}), Limits())
    sites: dict[str, Limits] = {}
    suffixes: list[tuple[str, str]] = []
    for number, given in enumerate(tree.get("site", ())):
        at = f"{path.name}: site[{number}]"
        table = dict(given)
        name, hosts = table.pop("name", ""), table.pop("mx", ())
        if not name or name in sites or not hosts:
            raise ConfigError(at, f"needs a name of its own and mx suffixes, not {name!r}")
        sites[name] = _limits(f"{at} ({name})", table, default)
        suffixes.extend((suffix.lower(), name) for suffix in hosts)
    return Shaping(default, sites, tuple(suffixes))


def _limits(at: str, given: dict[str, Any], default: Limits) -> Limits:
    _known(at, given, {"connections", "per_source", "messages", "idle", "tls", "rate", "reactions"})
    if given.get("tls", "") not in ("", "required"):
        raise ConfigError(at, 'tls is "required" or not there')
    if not isinstance(per_source := given.get("per_source", default.per_source and "connections" not in given), bool):
        raise ConfigError(at, f"per_source is true or false, not {per_source!r}")
    return Limits(
        connections=_whole(at, "connections", given.get("connections", default.connections)), per_source=per_source,
        messages=_whole(at, "messages", given.get("messages", default.messages)),
        idle=_seconds(at, "idle", given["idle"]) if "idle" in given else default.idle,
        tls=given.get("tls", default.tls),
        rate=_rate(at, given.get("rate")) or default.rate,
        reactions=tuple(_reaction(f"{at}: reactions[{n}]", row) for n, row in enumerate(given.get("reactions", ()))),
    )


def _reaction(at: str, given: dict[str, Any]) -> Reaction:
    _known(at, given, {"text", "category", "times", "within", "for", "suspend", "rate", "connections", "messages"})
    if not (given.get("text") or given.get("category")) or not ({"suspend", "rate", "connections", "messages"} & set(given)):
        raise ConfigError(at, "needs text or category, and what it brings on: suspend, rate, connections or messages")
    try:
        text = re.compile(given["text"], re.IGNORECASE) if given.get("text") else None
    except re.error as error:
        raise ConfigError(at, f"text is not a regular expression: {error}") from error
    return Reaction(
        name=given.get("text") or given["category"], text=text, category=given.get("category", ""),
        times=_whole(at, "times", given.get("times", 1)), within=_seconds(at, "within", given.get("within", "1h")),
        seconds=_seconds(at, "for", given.get("for", "1h")), suspend=bool(given.get("suspend", False)), rate=_rate(at, given.get("rate")),
        connections=_whole(at, "connections", given["connections"]) if "connections" in given else None,
        messages=_whole(at, "messages", given["messages"]) if "messages" in given else None,
    )


def _known(at: str, given: Mapping[str, Any], names: set[str]) -> None:
    for name in given:
        if name not in names:
            raise ConfigError(at, f"has no key {name!r}; it takes {', '.join(sorted(names))}")


def _whole(at: str, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(at, f"{name} is a whole number, 1 or more, not {value!r}")
    return value


def _seconds(at: str, name: str, value: Any) -> float:
    try:
        return float(duration(value))
    except (ValueError, TypeError):
        raise ConfigError(at, f'{name} is a duration such as "30m", not {value!r}') from None


def _rate(at: str, value: str | None) -> Rate | None:
    """"10/1m"."""
    if value is None:
        return None
    count, _, period = str(value).partition("/")
    if not count.isdigit() or int(count) < 1:
        raise ConfigError(at, f'rate is messages in a time such as "10/1m", not {value!r}')
    return Rate(int(count), _seconds(at, "rate", period))
