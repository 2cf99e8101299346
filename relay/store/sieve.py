"""Whether an address may be suppressed, without asking the database: a Bloom filter that the writing process keeps and all processes of a host read.

On SQLite one process writes, so a trigger of its connection sees every entry before its commit, and marks it in memory that workers map too. What is not marked
is certainly not suppressed, from the moment an entry is committed on; what is marked is looked up. A look costs 2 us, where the read costs 40 behind a
commit (the reader's page cache is worth nothing after it). Entries that go leave their marks until the next start: they cost a read each.

The marks stand in a file beside the database that is made anew at each start; until every entry is in it, it knows nothing and everything is looked up.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from hashlib import blake2s
from pathlib import Path

from sqlalchemy import Connection, func, select

from relay.store.schema import suppressions

BITS = 16  # for each entry; with PROBES one address in 400 is looked up for nothing
PROBES = 4
APART = 64  # bits between two probes of a hash
LEAST = 1 << 17  # entries that there is room for: 256 kB; with more than expected it only looks things up more often
HEAD = 8  # octets before the marks; the first says whether all entries are there
SLICE = 5_000  # entries that one read marks at the start


class Sieve:
    """Marks of (project, address) pairs; the address in its normal form."""

    __slots__ = ("_lock", "_mask", "_memory")

    def __init__(self, memory: mmap.mmap):
        self._memory = memory
        self._mask = (len(memory) - HEAD) * 8 - 1
        self._lock = threading.Lock()

    @classmethod
    def make(cls, database: Path, entries: int) -> Sieve | None:
        """One with room for twice so many entries; None where the file system has none."""
        octets = 1 << (max(LEAST, 2 * entries) * BITS // 8 - 1).bit_length()
        path = _beside(database)
        try:
            path.unlink(missing_ok=True)  # whoever has the old one keeps it
            with path.open("x+b") as file:
                os.fchmod(file.fileno(), 0o600)
                os.posix_fallocate(file.fileno(), 0, HEAD + octets)  # a full disk shows here, not as SIGBUS at a mark
                return cls(mmap.mmap(file.fileno(), 0))
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    @classmethod
    def of(cls, database: Path) -> Sieve | None:
        """The one that the writing process keeps; None without one."""
        try:
            with _beside(database).open("rb") as file:
                return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            return None

    def mark(self, project: int, key: str) -> None:
        """From any thread: at the start one marks what was there while another writes, and a bit that is lost would be mail to somebody who wants none."""
        memory, mask, number = self._memory, self._mask, _number(project, key)
        with self._lock:
            for _ in range(PROBES):
                place = number & mask
                memory[HEAD + (place >> 3)] |= 1 << (place & 7)
                number >>= APART

    def complete(self) -> None:
        """Every entry that was there at the start is marked."""
        self._memory[0] = 1

    def passes(self, project: int, key: str) -> bool:
        """Whether there is certainly no entry of this address."""
        memory, mask, number = self._memory, self._mask, _number(project, key)
        if not memory[0]:
            return False
        for _ in range(PROBES):
            place = number & mask
            if not memory[HEAD + (place >> 3)] >> (place & 7) & 1:
                return True
            number >>= APART
        return False


def _number(project: int, key: str) -> int:
    """256 bits of which each probe takes its own."""
    return int.from_bytes(blake2s(b"%d %b" % (project, key.encode("utf-8", "surrogatepass"))).digest(), "little")


def _beside(database: Path) -> Path:
    return database.with_name(f"{database.name}-sieve")


def watched(conn: Connection, database: Path, sieve: Sieve | None) -> Sieve | None:
    """The sieve, a new one without one, that marks each suppression which this connection inserts. The trigger is the connection's own and in no schema."""
    sieve = sieve or Sieve.make(database, conn.scalar(select(func.count()).select_from(suppressions)) or 0)
    if sieve is not None:
        raw = conn.connection.dbapi_connection
        raw.create_function("relay_sieve", 2, sieve.mark)
        raw.execute("CREATE TEMP TRIGGER suppressions_sieved BEFORE INSERT ON main.suppressions BEGIN SELECT relay_sieve(NEW.project_id, NEW.key); END")
    return sieve


def fill(conn: Connection, sieve: Sieve, after: int) -> int | None:
    """Mark a slice of what was there before the connection was watched; gives the last id, None at the end."""
    statement = select(suppressions.c.id, suppressions.c.project_id, suppressions.c.key).where(suppressions.c.id > after)
    found = conn.execute(statement.order_by(suppressions.c.id).limit(SLICE)).all()
    for _, project, key in found:
        sieve.mark(project, key)
    return found[-1].id if found else None


__all__ = ["Sieve", "fill", "watched"]
