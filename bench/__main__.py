"""`make bench`: Relay and its peers on this machine, in one run, interleaved, as a table of medians and ratios.

    python -m bench [--runs 5] [--quick] [--json FILE] [--only relay,postfix] [--workers 2]

Per row: messages per second from the first connection to the last message in the sink, the ratio to Postfix in the same row, CPU per message and peak
memory of the relay's processes. Timings judge nothing here; they are printed with the flush latency of the disk, on which every ratio depends.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from bench import peers
from bench.load import Load, Result, Sink, fsync_latency, run, tool
from tests.support.rspamd import rspamd

SMALL, LARGE = 4096, 102_400

# Whom a contestant is compared with, by the first of these words that its name has.
BASES = {"rspamd": "postfix + rspamd + opendkim", "whole": "postfix + rspamd + opendkim", "opendkim": "postfix + opendkim", "signed": "postfix + opendkim",
         "": "postfix"}


def loads(quick: bool) -> dict[str, Load]:
    """The rows of the table; a quick run sends a fifth."""
    scale = 5 if quick else 1
    return {
        "4 kB new connection": Load(8000 // scale, SMALL),
        "4 kB reused": Load(8000 // scale, SMALL, reuse=True),
        "4 kB 1000 destinations": Load(8000 // scale, SMALL, domains=1000 // scale),
        "100 kB new connection": Load(2500 // scale, LARGE),
        "100 kB reused": Load(2500 // scale, LARGE, reuse=True),
    }


@contextmanager
def signed_postfix(folder: Path, sink: int) -> Iterator[peers.Peer]:
    with peers.opendkim(folder) as milter, peers.postfix(folder / "postfix", sink, milter) as peer:
        yield peer


@contextmanager
def whole_postfix(folder: Path, sink: int) -> Iterator[peers.Peer]:
    """With rspamd as a milter (its proxy, before the same scanner that Relay asks) and then opendkim."""
    port = peers.free_port()
    with rspamd(folder / "rspamd", milter=port), peers.opendkim(folder) as dkim, peers.postfix(folder / "postfix", sink, port, dkim) as peer:
        yield peer


@contextmanager
def whole_relay(folder: Path, sink: int, workers: int) -> Iterator[peers.Peer]:
    with rspamd(folder / "rspamd") as (url, _), peers.relay(folder, sink, workers, signed=True, extra=f'[rspamd]\nurl = "{url}"\n') as peer:
        yield peer


@contextmanager
def direct(folder: Path, sink: int) -> Iterator[peers.Peer]:
    """No relay: smtp-source into smtp-sink, what two C programs do on this machine."""
    yield peers.Peer(sink, None)


Start = Callable[[Path, int], AbstractContextManager[peers.Peer]]


def contestants(workers: list[int]) -> dict[str, Start]:
    found: dict[str, Start] = {"postfix": peers.postfix}
    for number in workers:
        found[_named("relay", number)] = lambda folder, sink, n=number: peers.relay(folder, sink, n)
    found["postfix + opendkim"] = signed_postfix
    for number in workers:
        found[_named("relay signed", number)] = lambda folder, sink, n=number: peers.relay(folder, sink, n, signed=True)
    found["postfix + rspamd + opendkim"] = whole_postfix
    for number in workers:
        found[_named("relay whole", number)] = lambda folder, sink, n=number: whole_relay(folder, sink, n)
    if shutil.which("npm"):
        found["haraka -w2"] = peers.haraka
    found["bare aiosmtpd"] = peers.bare
    found["no relay"] = direct
    return found


def _named(name: str, workers: int) -> str:
    return f"{name} -w{workers}" if workers else name


def measure(start: Start, load: Load, folder: Path) -> Result:
    """One run of one peer, from a fresh start with an empty queue."""
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)  # Postfix and opendkim give up root
    port = peers.free_port()
    sink = Sink(port)
    try:
        peers.wait_for(port)
        with start(place, port) as peer:
            run(Load(200, load.size), peer.port, sink, peer.root)  # warm
            return run(load, peer.port, sink, peer.root)
    finally:
        sink.close()
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs; medians are printed (default 5)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages")
    parser.add_argument("--only", default="", help="only these peers, separated by commas (as in the table)")
    parser.add_argument("--rows", default="", help="rows whose name contains one of these words, separated by commas")
    parser.add_argument("--workers", default="0,2", help="worker counts of Relay to try (default 0,2)")
    parser.add_argument("--json", type=Path, help="write every single figure to this file")
    options = parser.parse_args()
    tool("smtp-source")
    workers = [int(number) for number in options.workers.split(",")]
    chosen = {name: start for name, start in contestants(workers).items() if not options.only or name in options.only.split(",")}
    rows = {name: load for name, load in loads(options.quick).items() if _wanted(name, options.rows)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-")))
        folder.chmod(0o755)
        print(f"flush of 4 kB: {fsync_latency(folder) * 1e3:.2f} ms median; {options.runs} interleaved runs, medians\n", flush=True)
        figures = {row: _row(row, load, chosen, options.runs, folder) for row, load in rows.items()}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def _wanted(name: str, words: str) -> bool:
    return not words or any(word.strip() in name for word in words.split(","))


def _row(row: str, load: Load, chosen: dict[str, Start], runs: int, folder: Path) -> dict[str, list[tuple[float, float, int]]]:
    results: dict[str, list[Result]] = {name: [] for name in chosen}
    for _ in range(runs):
        for name, start in chosen.items():
            try:
                results[name].append(measure(start, load, folder))
            except (RuntimeError, OSError, subprocess.CalledProcessError) as fault:
                print(f"  {name}: {fault}", file=sys.stderr, flush=True)
    print(f"{row} ({load.count} messages)\n{'':28}{'msg/s':>9}{'ratio':>8}{'CPU/msg':>10}{'memory':>9}")
    base = _base(results)
    for name, found in results.items():
        if found:
            rate = statistics.median(result.rate for result in found)
            other = base.get(next((mark for mark in BASES if mark in name), ""))
            ratio = f"{rate / other:8.2f}" if other else " " * 8
            cpu = statistics.median(result.cpu for result in found) * 1e6
            memory = max(result.memory for result in found) / 1e6
            print(f"  {name:26}{rate:9.0f}{ratio}{cpu:7.0f} us{memory:6.0f} MB", flush=True)
    print(flush=True)
    return {name: [(r.rate, r.cpu, r.memory) for r in found] for name, found in results.items()}


def _base(results: dict[str, list[Result]]) -> dict[str, float]:
    return {mark: statistics.median(r.rate for r in results[name]) for mark, name in BASES.items() if results.get(name)}


if __name__ == "__main__":
    main()
