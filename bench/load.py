"""Load and measure: Postfix's own smtp-source sends, its smtp-sink receives, and the time runs until the last message is in the sink.

Both are C programs, so what is measured is the relay between them; they share the machine with it, as in every figure that we publish. Every
run is bounded in count and time, and talks to loopback only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SESSIONS = 20  # parallel connections of the source
PATIENCE = 180.0  # seconds until a run counts as failed
TICK = os.sysconf("SC_CLK_TCK")

_COUNT = re.compile(rb"mesg=(\d+)")


@dataclass(frozen=True, slots=True)
class Load:
    """What a run sends: `count` messages of `size` octets, on a new connection each unless `reuse`, to `domains` recipient domains."""

    count: int
    size: int
    reuse: bool = False
    domains: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """Messages per second end to end, CPU seconds of the relay per message, and its peak memory in bytes."""

    rate: float
    cpu: float
    memory: int


class Sink:
    """smtp-sink on a port, counting."""

    def __init__(self, port: int):
        self.port = port
        self._out = tempfile.TemporaryFile()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = [tool("smtp-sink"), *user, "-c", f"127.0.0.1:{port}", "1024"]
        self._process = subprocess.Popen(command, stdout=self._out, stderr=subprocess.STDOUT)

    @property
    def received(self) -> int:
        end = self._out.seek(0, os.SEEK_END)
        self._out.seek(max(0, end - 200))
        found = _COUNT.findall(self._out.read())
        return int(found[-1]) if found else 0

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._out.close()


def tool(name: str) -> str:
    """The path of a Debian tool, which may live in sbin."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is missing; on Debian it comes with the package postfix")
    return found


def run(load: Load, port: int, sink: Sink, root: int | None) -> Result:
    """One measured run through the relay on `port`; `root` is the process whose tree is charged."""
    before, start = sink.received, time.monotonic()
    charged = cpu(root)
    source = _source(load, port)
    while sink.received - before < load.count:
        if time.monotonic() - start > PATIENCE or source.poll() not in (None, 0):
            source.kill()
            raise RuntimeError(f"only {sink.received - before} of {load.count} messages arrived")
        time.sleep(0.005)
    took = time.monotonic() - start
    source.wait()
    return Result(load.count / took, (cpu(root) - charged) / load.count, peak(root))


def _source(load: Load, port: int) -> subprocess.Popen[bytes]:
    fixed = [tool("smtp-source"), "-l", str(load.size), "-f", "sender@bench.example", *(["-d"] if load.reuse else [])]
    if load.domains == 1:
        return subprocess.Popen([*fixed, "-s", str(SESSIONS), "-m", str(load.count), "-t", "user@dest.example", f"127.0.0.1:{port}"])
    each = load.count // load.domains
    names = "".join(f"user@d{number}.example\n" for number in range(load.domains))
    command = ["xargs", "-P", str(SESSIONS), "-I", "{}", *fixed, "-s", "1", "-m", str(each), "-t", "{}", f"127.0.0.1:{port}"]
    source = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert source.stdin
    source.stdin.write(names.encode())
    source.stdin.close()
    return source


def tree(root: int | None) -> list[int]:
    """The process and its descendants that live now."""
    if root is None:
        return []
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def cpu(root: int | None) -> float:
    """CPU seconds of the tree, with the children it has reaped."""
    total = 0
    for pid in tree(root):
        try:
            total += sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
        except OSError:
            continue
    return total / TICK


def resident(root: int) -> int:
    """Resident bytes of the tree's processes now, added up."""
    return _status(root, "VmRSS")


def peak(root: int | None) -> int:
    """Peak resident bytes of the tree's processes, added up."""
    return _status(root, "VmHWM")


def _status(root: int | None, field: str) -> int:
    total = 0
    for pid in tree(root):
        try:
            found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        total += int(found[1]) * 1024 if found else 0
    return total


def fsync_latency(folder: Path) -> float:
    """Median seconds of writing and flushing 4 kB here; every ratio moves with it."""
    took = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            start = time.monotonic()
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - start)
    return sorted(took)[100]
