"""Time limits: a server that keeps silent, answers slowly or stops reading is cut."""

import asyncio

import pytest

from relay.delivery.connect import Connector
from relay.delivery.dns import Resolver
from relay.errors import ConnectFailed
from relay.smtp.client import Timeouts
from tests.delivery.build import job, settings
from tests.delivery.conftest import NOWHERE
from tests.support.sink import Script

pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize(("phase", "limits", "expected"), [
    ("greeting", {"greeting": 0.3}, "banner"), ("ehlo", {"ehlo": 0.3}, "ehlo"), ("mail", {"mail": 0.3}, "mail"), ("rcpt", {"mail": 1.0}, "rcpt"),
    ("data", {"mail": 1.0}, "data"), ("dot", {"dot": 0.3}, "dot"),
])
async def test_a_server_that_keeps_silent_is_cut(sinks, to, phase, limits, expected):
    sink = sinks(Script(delays={phase: 30}))
    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(**limits))
    try:
        connection = await hasty.connect(to(sink))
    except ConnectFailed as failure:
        found = (failure.phase, failure.reply.enhanced)
    else:
        (outcome,) = await connection.deliver(job())
        assert outcome.result == ("ambiguous" if phase == "dot" else "conn_error")
        assert f"no answer in {next(iter(limits.values())):g} s" in outcome.reply.text
        found = (outcome.phase, outcome.reply.enhanced)
    assert found == (expected, "4.4.2")


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in turn"])
async def test_a_server_cannot_hold_a_transaction_by_answering_slowly(sinks, to, pipelining):
    sink = sinks(Script(delays={"rcpt": 0.5}, pipelining=pipelining, rcpt={"a0": "550 5.1.1 no"}))
    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(mail=30, rcpt=30, envelope=1.6))
    connection = await hasty.connect(to(sink))
    outcomes = await connection.deliver(job(*(f"a{number}@x.test" for number in range(20))))
    assert [o.result for o in outcomes] == ["permfail"] + ["conn_error"] * 19
    assert "took too long" in outcomes[-1].reply.text


async def test_a_slow_reader_is_cut_without_progress_only(serve, to):
    """Octets that leave, however slowly, keep the connection; none for the length of `block` end it."""
    async def session(reader, writer):
        writer.write(b"220 slow\r\n")
        while line := await reader.readline():
            writer.write({b"EHLO": b"250 PIPELINING\r\n", b"MAIL": b"250 ok\r\n", b"RCPT": b"250 ok\r\n", b"DATA": b"354 go\r\n"}.get(line[:4], b""))
            if line.startswith(b"DATA"):
                reader._transport.pause_reading()
                await asyncio.sleep(20)

    hasty = Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(block=0.5))
    connection = await hasty.connect(to(await serve(session)))
    (outcome,) = await connection.deliver(job(content=b"Subject: x\r\n\r\n" + (b"x" * 78 + b"\r\n") * 400_000))
    assert (outcome.result, outcome.phase) == ("conn_error", "data")
    assert "no answer in 0.5 s" in outcome.reply.text
