"""100 clients send 25 MB each at once: the relay's memory grows by less than 256 MB, and who had no room comes again."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest

from tests.smtp.dialog import Client

CLIENTS = 100
SIZE = 25_000_000  # bytes
GROWTH = 256_000_000  # bytes
BLOCK = (b"x" * 76 + b"\r\n") * 800


async def send(port: int, declared: bytes) -> bytes:
    """Send one message; the code that it was answered with."""
    client = await Client.to(("127.0.0.1", port))
    client.writer.transport.set_write_buffer_limits(high=65_536)
    await client.hear()
    await client.ask(b"EHLO client")
    await client.ask(b"MAIL FROM:<a@example.com>" + declared)
    await client.ask(b"RCPT TO:<b@example.org>")
    answer = await client.ask(b"DATA")
    if answer.startswith(b"354"):
        for _ in range(SIZE // len(BLOCK)):
            await client.say(BLOCK)
        await client.say(b".\r\n")
        answer = await client.reader.readline()
    client.close()
    return answer[:9]


@pytest.mark.limit(400)
@pytest.mark.parametrize("declared", [b"", b" SIZE=%d" % SIZE], ids=["size not declared", "size declared"])
async def test_memory_does_not_grow_with_the_number_of_clients(declared: bytes):
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.smtp.memory_server", stdin=PIPE, stdout=PIPE)

    async def memory() -> list[int]:
        server.stdin.write(b"\n")
        return [int(figure) for figure in (await server.stdout.readline()).split()]

    try:
        port = int(await server.stdout.readline())
        before = (await memory())[0]
        answers = await asyncio.gather(*(send(port, declared) for _ in range(CLIENTS)))
        _, peak, used = await memory()
    finally:
        server.stdin.close()
        await server.wait()
    assert set(answers) == {b"250 2.0.0", b"452 4.3.1"}, "some had room, others shall come again"
    assert used == 0
    assert peak - before < GROWTH
    print(f"peak {peak - before:,} bytes above {before:,}; accepted {answers.count(b'250 2.0.0')} of {CLIENTS}")
