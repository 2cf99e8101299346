"""One destination site: who waits there, whose turn it is, and how much it can take. Plain state changes, no I/O, no clock of its own.

A site is a provider of config/shaping.toml, a set of MX hosts, or a configured route. Its mail is ordered by stream (transactional first), then project by
project in turns, and inside a project by place: the MX set (`Route.key`) that a connection can serve, since a provider's tenants have hosts of their own.

How much at once: `window` connections, between 1 and the table's number. It starts at START, grows by 1/N for each message delivered while it is full, and
shrinks by 1/N for each connection or command that the site answers with 421 or a rate refusal (Postfix's feedback, which deferred a third of what fixed
steps did). FAILS connections in a row that came to nothing make the site unreachable: one probe at a time, at growing distance, while its mail waits on
disk. Replies may slow it further: a rate, fewer messages on a connection, or no attempts until a time, which the store keeps (`sites`).

Times are seconds of the monotonic clock, as `now` in every argument: a clock that steps suspends nobody.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from relay.queue.waiting import TOGETHER, Turn, Waiting, turn
from relay.schedule import HOUR, MINUTE
from relay.shaping import Limits, Rate, Reaction

START = 5.0  # connections that a new site is given at first
FAILS = 3  # connections in a row that failed before the site counts as unreachable
PROBES = (1 * MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE, 1 * HOUR)  # between probes of an unreachable site
PAUSE = 5.0  # seconds without a new connection after the site refused one while others stood
RUN = 20  # transactions on one connection after which another place of the site may have its turn


@dataclass(slots=True)
class Slowed:
    """A limit that a reply brought on, with its end."""

    until: float
    rate: Rate | None = None
    connections: int | None = None
    messages: int | None = None


class Fair:
    """Turns of one stream: project by project, place by place, first come first served."""

    __slots__ = ("projects", "size")

    def __init__(self) -> None:
        self.projects: OrderedDict[int, OrderedDict[str, deque[Turn]]] = OrderedDict()
        self.size = 0

    def add(self, key: str, item: Turn, front: bool = False) -> None:
        places = self.projects.setdefault(item.project, OrderedDict())
        queue = places.get(key)
        if queue is None:
            queue = places[key] = deque()
        if front:
            queue.appendleft(item)
        else:
            queue.append(item)
        self.size += 1

    def take(self, key: str | None = None) -> tuple[str, Turn] | None:
        """The next turn and its place, of any place or of this one; its project goes to the end of the line."""
        for project, places in self.projects.items():
            place = key if key is not None else next(iter(places))
            queue = places.get(place)
            if queue is None:
                continue
            item = queue.popleft()
            if not queue:
                del places[place]
            else:
                places.move_to_end(place)
            if places:
                self.projects.move_to_end(project)
            else:
                del self.projects[project]
            self.size -= 1
            return place, item
        return None


@dataclass(slots=True, eq=False)
class Site:
    """The state of one site.

    limits      its table
    provider    label for metrics
    open        connections that stand or are being made
    window      connections it can take just now
    failures    connections in a row that failed; `probe_at` when the next may be tried
    suspended   no attempts until then, `reason` why
    count       recipients in memory, in line or with a courier
    idle        couriers that wait with an open connection, by place; `places` the domains that lead here, `short` those of them that have mail on disk
                only, `timer` the next look: all the runner's
    """

    name: str
    limits: Limits
    provider: str
    urgent: Fair = field(default_factory=Fair)
    other: Fair = field(default_factory=Fair)
    joinable: dict[tuple[int, str], Turn] = field(default_factory=dict)
    open: int = 0
    window: float = START
    failures: int = 0
    probe_at: float = 0.0
    paused_until: float = 0.0
    suspended: float = 0.0
    reason: str = ""
    slowed: list[Slowed] = field(default_factory=list)
    seen: dict[str, deque[float]] = field(default_factory=dict)
    next_at: float = 0.0  # when the rate allows the next message
    count: int = 0
    idle: dict[str, list[Any]] = field(default_factory=dict)
    short: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    places: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    timer: Any = None

    @property
    def size(self) -> int:
        """Turns that wait."""
        return self.urgent.size + self.other.size

    # who is next

    def add(self, waiting: Waiting, key: str, now: float) -> Turn | None:
        """Put a recipient in line; the new turn, or None if it joined one of the same message since the last `seal`."""
        self.count += 1
        waiting.site = self
        place = (waiting.message_id, key)
        joined = self.joinable.get(place)
        if joined is not None and len(joined.waiting) < TOGETHER:
            joined.waiting.append(waiting)
            return None
        new = self.joinable[place] = turn(waiting, now)
        (self.urgent if new.urgent else self.other).add(key, new)
        return new

    def seal(self) -> None:
        """Those who came together are in line: later recipients of their messages have turns of their own."""
        self.joinable.clear()

    def leaves(self, waiting: Waiting) -> None:
        """It is not in memory any more."""
        self.count -= 1
        waiting.site = None

    def put_back(self, key: str, item: Turn) -> None:
        """A turn that came to nothing goes to the front."""
        (self.urgent if item.urgent else self.other).add(key, item, front=True)

    def take(self, key: str | None = None) -> tuple[str, Turn] | None:
        """The next turn, of any place or of this one; skips those whose recipients are all gone."""
        while True:
            taken = (self.urgent.take(key) if self.urgent.size else None) or (self.other.take(key) if self.other.size else None)
            if taken is None:
                return None
            if taken[1].live():
                return taken

    # how much

    def blocked(self, now: float) -> float:
        """Until when no attempt may start, 0.0 if one may: suspended, or unreachable and probed already."""
        if self.suspended > now:
            return self.suspended
        return self.probe_at if self.failures >= FAILS and self.probe_at > now else 0.0

    def allowed(self, now: float) -> int:
        """Connections that it may hold now, those that stand included."""
        if self.blocked(now):
            return 0
        if self.failures >= FAILS:
            return 1
        if self.paused_until > now and self.open:
            return self.open
        return min(self.connections(now), max(1, int(self.window)))

    def connections(self, now: float) -> int:
        return min((s.connections for s in self._slowed(now) if s.connections is not None), default=self.limits.connections)

    def messages(self, now: float) -> int:
        """Transactions for one connection."""
        if not self.slowed:
            return self.limits.messages
        return min(self.limits.messages, min((s.messages for s in self._slowed(now) if s.messages is not None), default=self.limits.messages))

    def rate(self, now: float) -> Rate | None:
        rates = [s.rate for s in self._slowed(now) if s.rate is not None]
        if self.limits.rate is not None:
            rates.append(self.limits.rate)
        return max(rates, key=lambda rate: rate.gap, default=None)

    def _slowed(self, now: float) -> list[Slowed]:
        if self.slowed and any(s.until <= now for s in self.slowed):
            self.slowed = [s for s in self.slowed if s.until > now]
        return self.slowed

    def grant(self, now: float) -> float:
        """0.0 and a message may leave, or the seconds until the rate allows one."""
        if not self.slowed and self.limits.rate is None:
            return 0.0
        rate = self.rate(now)
        if rate is None:
            return 0.0
        if self.next_at > now:
            return self.next_at - now
        self.next_at = max(self.next_at, now - rate.gap) + rate.gap if self.next_at else now + rate.gap
        return 0.0

    def limit(self, now: float) -> tuple[str, float | None]:
        """What holds its mail back, for people: the reason and until when, None where that depends on the answers of the site."""
        if self.suspended > now:
            return f"site suspended: {self.reason}", self.suspended
        if self.failures >= FAILS:
            return "site unreachable, next probe", max(self.probe_at, now)
        if self.next_at > now:
            return "site's rate", self.next_at
        if self.open >= self.allowed(now):
            return f"{self.open} of {self.allowed(now)} connections in use", None
        return "", None

    # what answers change

    def connected(self) -> None:
        """A connection stands: the site is reachable."""
        self.failures = 0
        self.probe_at = 0.0

    def delivered(self) -> None:
        """A message was taken."""
        if self.window < self.limits.connections and self.open >= int(self.window):
            self.window = min(float(self.limits.connections), self.window + 1.0 / self.window)

    def refused(self, now: float) -> None:
        """The site said 421, or that we send too fast or too much."""
        self.window = max(1.0, self.window - 1.0 / self.window)
        self.paused_until = max(self.paused_until, now + PAUSE)

    def failed(self, now: float) -> bool:
        """A connection came to nothing while no other stood; whether the site has become, or stays, unreachable."""
        self.failures += 1
        if self.failures < FAILS:
            return False
        self.probe_at = now + PROBES[min(self.failures - FAILS, len(PROBES) - 1)]
        self.window = 1.0
        return True

    def suspend(self, until: float, reason: str) -> bool:
        """No attempts until then; False if that was so already."""
        if until <= self.suspended:
            return False
        self.suspended, self.reason = until, reason
        return True

    def resume(self) -> None:
        """Forget every slowness: an operator says that it is over."""
        self.suspended = self.probe_at = self.paused_until = self.next_at = 0.0
        self.failures, self.reason = 0, ""
        self.slowed.clear()
        self.seen.clear()
        self.window = max(self.window, START)

    def react(self, reaction: Reaction, now: float) -> bool:
        """Count a reply; when it is one too many, apply what follows. True if the site is suspended by it."""
        times = self.seen.setdefault(reaction.name, deque(maxlen=reaction.times))
        times.append(now)
        if len(times) < reaction.times or times[0] < now - reaction.within:
            return False
        times.clear()
        if reaction.suspend:
            return self.suspend(now + reaction.seconds, reaction.name)
        self.slowed = [s for s in self._slowed(now) if (s.rate, s.connections, s.messages) != (reaction.rate, reaction.connections, reaction.messages)]
        self.slowed.append(Slowed(now + reaction.seconds, reaction.rate, reaction.connections, reaction.messages))
        return False
