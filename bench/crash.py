"""A thousand deaths: the crash suite of tests/crash at length, on four relays side by side: both databases, without and with two workers.

    python -m bench.crash [--kills 1000] [--seed N]

Prints the seed, what each relay's books came to and how often it was killed where; ends with 1 when they do not balance.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.crash.suite import together
from tests.support import postgres


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1_000, help="of all relays together")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-crash-") as place, postgres.server() as server:
        urls = [asyncio.run(server.create()) for _ in range(2)]
        kills = -(-asked.kills // 4)
        relays = [(Path(place) / f"{n}", workers, url, kills) for n, (workers, url) in enumerate(((0, ""), (2, ""), (0, urls[0]), (2, urls[1])))]
        books = together(relays, asked.seed)
        for url in urls:
            asyncio.run(server.drop(url))
    for each in books:
        each.check()
    print(f"{sum(each.kills.total() for each in books)} kills, {sum(each.acknowledged for each in books)} messages acknowledged, none lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
