"""A hundred clients with 25 MB each: the relay's memory does not grow with their number, and nobody loses mail."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from bench.load import tree
from tests.support.running import OPEN, TRUSTING, Running, routed
from tests.support.sink import Script, Sink

CLIENTS = 100
OCTETS = 25_000_000
GROWTH = 256_000_000  # bytes of resident memory, all processes together


def resident(root: int) -> int:
    """Resident bytes of the process and its children."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in tree(root))


def send(port: int, number: int, replies: list[bytes], line: bytes = b"x" * 76 + b"\r\n") -> None:
    """One message of OCTETS, written as fast as the relay takes it; the answer to the final dot, or to DATA where that is refused."""
    with socket.create_connection(("127.0.0.1", port), 300) as sock, sock.makefile("rb") as lines:
        lines.readline()
        for command in (b"HELO big.test", b"MAIL FROM:<a@big.test>", b"RCPT TO:<u%d@dest.test>" % number, b"DATA"):
            sock.sendall(command + b"\r\n")
            reply = lines.readline()
            if reply[:1] not in b"23":
                replies.append(reply)
                return
        chunk = line * (1_000_000 // len(line))
        sock.sendall(b"Subject: big\r\n\r\n" + chunk * (OCTETS // 1_000_000) + b".\r\n")
        replies.append(lines.readline())


@pytest.mark.limit(600)
@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "two workers"])
def test_a_hundred_large_messages_at_once_stay_within_bounds(tmp_path: Path, workers: int) -> None:
    with Sink(Script(keep=False)) as sink, Running(tmp_path, {**OPEN, **TRUSTING, **routed(sink.address)}, workers, cold=True) as relay:
        before, most, replies, done = resident(relay.process.pid), 0, [], threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.05):
                most = max(most, resident(relay.process.pid))

        watcher = threading.Thread(target=watch)
        clients = [threading.Thread(target=send, args=(relay.smtp, number, replies)) for number in range(CLIENTS)]
        watcher.start()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        accepted = sum(reply.startswith(b"250") for reply in replies)
        sink.wait(accepted, 60)
        done.set()
        watcher.join()
    assert len(replies) == CLIENTS
    assert all(reply.startswith((b"250", b"452")) for reply in replies), set(replies)
    assert accepted >= 1
    assert most - before < GROWTH, f"grew by {(most - before) / 1e6:.0f} MB with {accepted} accepted"
    print(f"{workers} workers: grew by {(most - before) / 1e6:.0f} MB, {accepted} accepted")
