"""Whole conversations with servers that say anything: each ends in outcomes or in ConnectFailed, soon, and leaves nothing open."""

import asyncio
import random

import pytest

from relay.delivery.connect import OPEN, Connector
from relay.delivery.dns import Resolver
from relay.errors import ConnectFailed
from relay.smtp.client import Timeouts
from tests.delivery.build import job, settings
from tests.delivery.conftest import NOWHERE

SAYINGS = (
    b"220 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250-x\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 SIZE 99999\r\n", b"354 go\r\n",
    b"421 4.3.2 bye\r\n", b"450 4.2.1 no\r\n", b"550 5.1.1 no\r\n", b"552 5.2.2 full\r\n", b"250-half\r\n", b"25", b"\r\n", b"\n", b"250\n", b"000 x\r\n",
    b"-12 x\r\n", b"999 x\r\n", b"\0\0\0\r\n", b"250 \xff\xfe\r\n", b"x" * 9000, b"250 " + b"y" * 9000 + b"\r\n", b"250 a\r\n250 b\r\n250 c\r\n", b"",
)
SENSE = {b"EHLO": b"250-x\r\n250 PIPELINING\r\n", b"MAIL": b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", b"RSET": b"250 ok\r\n" * 4 + b"354 go\r\n",
         b"From": b"250 taken\r\n"}
RESULTS = {"delivered", "tempfail", "permfail", "ambiguous", "conn_error"}


@pytest.mark.both_loops
@pytest.mark.parametrize("seed", range(6))
async def test_a_server_may_say_anything(serve, to, seed):
    dice = random.Random(seed)

    async def session(reader, writer):
        try:
            writer.write(dice.choice(SAYINGS) if dice.random() < 0.1 else b"220 x\r\n")
            for _ in range(dice.randrange(14)):
                if not (heard := await reader.read(65536)):
                    break
                if dice.random() < 0.7:
                    writer.write(SENSE.get(heard[:4], b"250 ok\r\n"))
                    continue
                for _ in range(dice.choice((1, 1, 1, 2, 3))):
                    writer.write(dice.choice(SAYINGS))
        except ConnectionError:
            pass
        finally:
            writer.close()

    address = await serve(session)
    short = Timeouts(**dict.fromkeys(("greeting", "ehlo", "tls", "mail", "rcpt", "data", "block", "dot", "rset", "quit"), 0.3))
    connector = Connector(settings(), Resolver(NOWHERE), timeouts=short)
    open_before = OPEN.labels("route", "default")._value.get()
    seen: set[str] = set()

    async def converse() -> None:
        try:
            connection = await connector.connect(to(address))
        except ConnectFailed as failure:
            seen.add(failure.phase)
            return
        for _ in range(3):
            outcomes = await connection.deliver(job("bob@x.test", "eve@x.test"))
            assert len(outcomes) == 2
            for outcome in outcomes:
                assert outcome.result in RESULTS
                assert outcome.reply.positive == (outcome.result == "delivered"), outcome
                assert outcome.reply.permanent == (outcome.result == "permfail"), outcome
                seen.add(outcome.result)
            if not connection.usable:
                break
        connection.close()

    async with asyncio.timeout(60):
        await asyncio.gather(*(converse() for _ in range(60)))
        while OPEN.labels("route", "default")._value.get() != open_before:
            await asyncio.sleep(0.05)
    assert len(seen) > 4, "the dice reach many ends"
