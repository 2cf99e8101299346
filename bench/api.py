"""POST /emails and /emails/batch against a relay of its own, as fast as some connections can: `python -m bench.api [SECONDS]`.

Three processes: the relay as `relay serve` starts it, smtp-sink for its deliveries, and a client that writes prepared requests on kept connections and reads no
more of an answer than its status. Requests are told apart, so nothing is replayed; every 202 is on the disk. First with the queue held, so that accepting is
all the relay does; then delivering meanwhile; then with DKIM (RSA-2048) and rspamd on as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.load import Sink, cpu
from tests.support.ports import free_port
from tests.support.rspamd import rspamd
from tests.support.running import OPEN, Running, routed

CONNECTIONS = {"/emails": 32, "/emails/batch": 4}
BATCH = 100
HTML = "<h1>Hello</h1><p>" + "The quick brown fox jumps over the lazy dog. " * 20 + "</p>"
ROWS = (("accepting", ("--hold",), False), ("and delivering", (), False), ("and DKIM, rspamd", (), True))


@dataclass(frozen=True, slots=True)
class Target:
    """A relay to be measured."""

    port: int
    key: str
    pid: int


def _email(number: int) -> dict:
    return {"from": "Bench <bench@bench.example>", "to": [f"user{number % 1000}@example.com"], "subject": f"Hello {number}", "html": HTML, "text": "Hello"}


def _request(path: str, key: str, body: object) -> bytes:
    octets = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(octets)}\r\n\r\n"
            ).encode() + octets


async def _connection(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while perf_counter() < until:
        begun = perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(head.decode())
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = await reader.readexactly(length)
        if b'"error"' in answer:
            raise RuntimeError(answer[:300].decode())
        times.append(perf_counter() - begun)
    writer.close()


async def _load(port: int, requests: list[bytes], seconds: float) -> list[float]:
    times: list[float] = []
    until = perf_counter() + seconds
    await asyncio.gather(*(_connection(port, request, until, times) for request in requests))
    return times


def _client(port: int, requests: list[bytes], seconds: float, results: multiprocessing.Queue) -> None:
    import uvloop

    results.put(uvloop.run(_load(port, requests, seconds)))


@contextlib.contextmanager
def _relay(folder: Path, sink: int, flags: tuple[str, ...], whole: bool) -> Iterator[Target]:
    """A relay with one key; `whole` with a signing domain and rspamd."""
    with contextlib.ExitStack() as stack:
        settings = {**OPEN, **routed(f"127.0.0.1:{sink}")}
        if whole:
            settings["RELAY_RSPAMD__URL"], _ = stack.enter_context(rspamd(folder / "rspamd"))
        relay = Running(folder, settings, cold=True)
        if whole:
            relay.command("domain", "add", "bench.example")
        key = relay.key()
        relay.start(*flags)
        try:
            yield Target(relay.http, key, relay.process.pid)  # type: ignore[union-attr]
        finally:
            relay.kill()  # what still waits is nobody's


def _measured(target: Target, path: str, seconds: float) -> str:
    """The row of one route: what a second and an email cost."""
    size = BATCH if path.endswith("batch") else 1
    bodies = [{"emails": [_email(n) for n in range(BATCH)]} if size > 1 else _email(number) for number in range(CONNECTIONS[path])]
    results: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
    requests = [_request(path, target.key, body) for body in bodies]
    client = multiprocessing.get_context("spawn").Process(target=_client, args=(target.port, requests, seconds, results))
    before = cpu(target.pid)
    client.start()
    times = sorted(results.get(timeout=seconds + 60))
    used = cpu(target.pid) - before
    client.join()
    return (f"POST {path:14}{len(times) / seconds:7.0f} requests/s {len(times) * size / seconds:7.0f} emails/s  p50 {times[len(times) // 2] * 1000:6.1f} ms"
            f"  p99 {times[len(times) * 99 // 100] * 1000:6.1f} ms {used / max(1, len(times) * size) * 1e6:6.0f} us CPU an email")


def main(seconds: float) -> None:
    for name, flags, whole in ROWS:
        sink = Sink(free_port())
        try:
            with tempfile.TemporaryDirectory() as directory, _relay(Path(directory), sink.port, flags, whole) as target:
                for path in CONNECTIONS:
                    print(f"{name:18}{_measured(target, path, seconds)}", flush=True)
        finally:
            sink.close()


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
    except subprocess.CalledProcessError as error:
        raise SystemExit(str(error)) from None
