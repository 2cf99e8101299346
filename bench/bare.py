"""A relay with nothing between aiosmtpd and aiosmtplib: no disk, no queue, no checks. Usage: bare.py PORT SINK_PORT"""

from __future__ import annotations

import asyncio
import sys

import aiosmtplib
import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session


class Forward:
    """Delivers each message on a new connection before it answers."""

    def __init__(self, sink: int):
        self._sink = sink

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert envelope.content is not None
        await aiosmtplib.send(
            bytes(envelope.content), sender=envelope.mail_from or "", recipients=envelope.rcpt_tos, hostname="127.0.0.1", port=self._sink, start_tls=False,
        )
        return "250 2.0.0 forwarded"


async def main(port: int, sink: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Forward(sink), hostname="bare.bench.example"), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
