"""Ten files of 25 MB in one email: accepted, delivered intact and shown, with the memory of one copy of the message and while others are served."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.ports import free_port
from tests.support.running import OPEN, Running, routed
from tests.support.sink import Script, Sink

FILES, MARK = 10, 24  # a file begins with its number on so many octets, a whole number of base64's groups
BLOCK = os.urandom(25_000_000 - MARK - 1)
ENCODED = base64.b64encode(BLOCK)
MESSAGE = FILES * len(ENCODED) * 78 // 76  # octets, about: in lines of 76
GROWTH = 1.4 * MESSAGE  # octets of the relay's memory: the message once, and what else it does meanwhile


def mark(number: int) -> bytes:
    return f"{number:0{MARK}}".encode()


def request() -> Iterator[bytes]:
    """The body of POST /emails, never whole in memory."""
    told = {"from": "you@example.com", "to": ["ann@example.net"], "subject": "Ten files", "html": "<p>See the files</p>", "text": "See the files"}
    yield json.dumps(told).encode()[:-1] + b', "attachments": ['
    for number in range(FILES):
        yield b'%b{"filename": "%d.bin", "content": "' % (b", " if number else b"", number)
        yield base64.b64encode(mark(number))
        yield ENCODED
        yield b'"}'
    yield b"]}"


def memory(pid: int, name: str) -> int:
    """Octets of this process alone: VmRSS now, VmHWM at most so far."""
    return next(int(line.split()[1]) * 1_024 for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name))


class Other:
    """Somebody else who asks all the while; `slowest` in seconds."""

    def __init__(self, client: httpx.Client):
        self._client, self._done, self.slowest = client, threading.Event(), 0.0
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._done.wait(0.05):
            begun = time.monotonic()
            assert self._client.get("/project").status_code == 200
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def __enter__(self) -> Other:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def parts(content: bytes) -> Iterator[bytes]:
    """The files of the message as they stand in it."""
    for number in range(FILES):
        begin = content.index(b"\r\n\r\n", content.index(b'filename="%d.bin"' % number)) + 4
        yield content[begin:content.index(b"\r\n--", begin)]


@pytest.mark.limit(600)
def test_ten_files_of_25_mb_arrive_intact_with_the_memory_of_one(tmp_path: Path, store_url: str) -> None:
    scoring = {"RELAY_RSPAMD__URL": f"http://127.0.0.1:{free_port()}"}  # it is not asked about what it would not read
    store = {"RELAY_STORE__URL": store_url, "RELAY_SECRET_KEY": "ten large files " * 3}
    with Sink(Script(size=400_000_000)) as sink, Running(tmp_path, {**OPEN, **routed(sink.address), **scoring, **store}) as relay:
        client = httpx.Client(base_url=f"http://127.0.0.1:{relay.http}", headers={"Authorization": f"Bearer {relay.key()}"}, timeout=240)
        before = memory(relay.process.pid, "VmRSS")
        with Other(httpx.Client(base_url=client.base_url, headers=client.headers, timeout=240)) as other:
            answer = client.post("/emails", content=request(), headers={"Content-Type": "application/json"})
            assert answer.status_code == 202, answer.text
            sink.wait(1, 240)
            shown = client.get(f"/emails/{answer.json()['id']}").json()
            warnings = client.get(f"/emails/{answer.json()['id']}/insights").json()["warnings"]
        grown = memory(relay.process.pid, "VmHWM") - before
        told = relay.command("explain", answer.json()["id"])["messages"][0]
    assert (shown["html"], shown["text"]) == ("<p>See the files</p>", "See the files")
    assert "large_message" in {each["code"] for each in warnings}
    assert {"policy": "rspamd", "action": "skipped", "detail": "larger than 50 MB"} in told["decisions"]
    found = list(parts(sink.messages[0].content))
    first = hashlib.sha256(base64.b64decode(found[0])).digest()
    assert first == hashlib.sha256(mark(0) + BLOCK).digest()
    assert [base64.b64decode(each[:32]) for each in found] == [mark(number) for number in range(FILES)]
    assert all(each[32:] == found[0][32:] for each in found)
    print(f"grew by {grown / 1e6:.0f} MB for a message of {told['size'] / 1e6:.0f} MB; others waited {other.slowest:.2f} s at most")
    assert grown < GROWTH, f"grew by {grown / 1e6:.0f} MB for a message of {told['size'] / 1e6:.0f} MB"
