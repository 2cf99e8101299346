"""POST /emails and /emails/batch against a relay of its own, as fast as some connections can: `python -m bench.api [SECONDS]`.

The client is a process beside the relay's, writes prepared requests on kept connections and reads no more of an answer than its status; deliveries go to a
sink. Requests are told apart, so nothing is replayed; every 202 is on the disk. rspamd is off and there is no DKIM key, as issue and README say.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

CONNECTIONS = 32
BATCH = 100
HTML = "<h1>Hello</h1><p>" + "The quick brown fox jumps over the lazy dog. " * 20 + "</p>"


def _email(number: int) -> dict:
    return {"from": "Bench <bench@bench.example>", "to": [f"user{number % 1000}@example.com"], "subject": f"Hello {number}", "html": HTML, "text": "Hello"}


def _request(path: str, key: str, body: object) -> bytes:
    octets = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(octets)}\r\n\r\n"
            ).encode() + octets


async def _connection(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        begun = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(head.decode())
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - begun)
    writer.close()


async def _load(port: int, requests: list[bytes], seconds: float) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_connection(port, request, until, times) for request in requests))
    return times


def _client(port: int, key: str, seconds: float, results: multiprocessing.Queue) -> None:
    import uvloop

    single = [_request("/emails", key, _email(number)) for number in range(CONNECTIONS)]
    results.put(uvloop.run(_load(port, single, seconds)))
    batch = [_request("/emails/batch", key, {"emails": [_email(n) for n in range(BATCH)]}) for _ in range(4)]
    results.put(uvloop.run(_load(port, batch, seconds)))


def main(seconds: float) -> None:
    from tests.support.served import Served

    with tempfile.TemporaryDirectory() as directory, Served(Path(directory), "") as relay:
        tenant = relay.tenant()
        results: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
        client = multiprocessing.get_context("spawn").Process(target=_client, args=(relay.port, tenant.key, seconds, results))
        cpu = os.times().user + os.times().system
        client.start()
        for name, size in (("POST /emails", 1), ("POST /emails/batch", BATCH)):
            times = sorted(results.get(timeout=seconds + 60))
            used, cpu = os.times().user + os.times().system - cpu, os.times().user + os.times().system
            print(f"{name:20} {len(times) / seconds:8.0f} requests/s {len(times) * size / seconds:8.0f} emails/s  p50 {times[len(times) // 2] * 1000:6.1f} ms"
                  f"  p99 {times[len(times) * 99 // 100] * 1000:6.1f} ms  {used / max(1, len(times) * size) * 1e6:6.0f} us CPU an email, "
                  "delivery and sink included")
        client.join()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
