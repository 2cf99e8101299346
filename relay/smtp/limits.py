"""What the listener gives out in bounded amounts: connections, and bytes of messages in flight.

Both are plain counters that the connections of a process share; they never wait. Who asks and is told no answers 4yz, so the client comes back.
"""

from __future__ import annotations

IN_FLIGHT = 128 * 1024 * 1024  # bytes of messages being received or committed
CONNECTIONS = 1_000  # at once, of everybody
PER_ADDRESS = 50  # at once of one address, before it has authenticated
RESERVE = 0.1  # of all connections, kept for clients that have authenticated or are trusted
STRESS = 0.5  # of the places of unknown clients; once as many are taken, quiet ones among them leave sooner (as Postfix does under stress)


class Budget:
    """Bytes in flight, shared by all connections of a listener."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = IN_FLIGHT):
        self.limit = limit
        self.used = 0

    def take(self, amount: int) -> bool:
        """Whether `amount` bytes were free; they are taken then."""
        if self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def give(self, amount: int) -> None:
        """Give back bytes taken before."""
        self.used -= amount


class Connections:
    """Counts open connections, in all and of each address that has not proved itself.

    A known client (trusted network, or authenticated) counts in all only. Behind a container gateway all apps share one address, so addresses that
    may AUTH in the clear are not counted by address either: the caller passes `exempt`.
    """

    __slots__ = ("by_address", "limit", "open", "per_address", "reserve", "unknown")

    def __init__(self, limit: int = CONNECTIONS, per_address: int = PER_ADDRESS, reserve: float = RESERVE):
        self.limit = limit
        self.per_address = per_address
        self.reserve = int(limit * reserve)
        self.open = 0
        self.unknown = 0
        self.by_address: dict[str, int] = {}

    def admit(self, address: str, known: bool, exempt: bool) -> str | None:
        """None and counted, or the reason of the refusal: "total" | "reserve" | "address"."""
        if self.open >= self.limit:
            return "total"
        if not known:
            if self.unknown >= self.limit - self.reserve:
                return "reserve"
            if not exempt:
                here = self.by_address.get(address, 0)
                if here >= self.per_address:
                    return "address"
                self.by_address[address] = here + 1
            self.unknown += 1
        self.open += 1
        return None

    @property
    def stressed(self) -> bool:
        """Whether places for unknown clients become scarce."""
        return self.unknown >= (self.limit - self.reserve) * STRESS

    def proved(self, address: str, exempt: bool) -> None:
        """A connection admitted as unknown has authenticated."""
        self.unknown -= 1
        if not exempt:
            here = self.by_address[address] - 1
            if here:
                self.by_address[address] = here
            else:
                del self.by_address[address]

    def leave(self, address: str, known: bool, exempt: bool) -> None:
        """An admitted connection has ended; `known` as it is by now."""
        self.open -= 1
        if not known:
            self.proved(address, exempt)
