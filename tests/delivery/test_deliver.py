"""One transaction with a server that does what the row says; an outcome for each recipient, pipelined and in turn."""

import asyncio

import pytest

from relay.delivery.outcome import Job
from relay.smtp import wire
from tests.delivery.build import CONTENT, job, recipient
from tests.support.sink import CUT, Script

pytestmark = pytest.mark.both_loops
TWO = ("bob@x.test", "eve@x.test")


def told(outcomes):
    return [(o.result, o.reply.code, o.reply.enhanced, o.phase) for o in outcomes]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in turn"])
@pytest.mark.parametrize(("script", "expected"), [
    pytest.param({}, ["delivered 250 2.0.0 dot"] * 2, id="accepted"),
    pytest.param({"mail": "450 4.7.1 greylisted"}, ["tempfail 450 4.7.1 mail"] * 2, id="MAIL deferred"),
    pytest.param({"mail": "550 5.7.1 go away"}, ["permfail 550 5.7.1 mail"] * 2, id="MAIL refused"),
    pytest.param({"mail": "421 4.7.0 too fast"}, ["tempfail 421 4.7.0 mail"] * 2, id="421 at MAIL"),
    pytest.param({"mail": CUT}, ["conn_error 451 4.4.2 mail"] * 2, id="cut at MAIL"),
    pytest.param({"rcpt": {"bob": "550 5.1.1 no such user"}}, ["permfail 550 5.1.1 rcpt", "delivered 250 2.0.0 dot"], id="one RCPT refused"),
    pytest.param({"rcpt": {"eve": "452 4.5.3 too many"}}, ["delivered 250 2.0.0 dot", "tempfail 452 4.5.3 rcpt"], id="one RCPT too many"),
    pytest.param({"rcpt": {"eve": "552 5.5.3 too many"}}, ["delivered 250 2.0.0 dot", "tempfail 452 4.5.3 rcpt"], id="552 on RCPT is 452"),
    pytest.param({"rcpt": {"eve": "552 too many"}}, ["delivered 250 2.0.0 dot", "tempfail 452 4.5.3 rcpt"], id="552 on RCPT without enhanced code"),
    pytest.param({"rcpt": {"*": "556 5.1.10 null MX"}}, ["permfail 556 5.1.10 rcpt"] * 2, id="556 on RCPT"),
    pytest.param({"rcpt": {"*": "550 5.1.1 no"}}, ["permfail 550 5.1.1 rcpt"] * 2, id="all RCPT refused"),
    pytest.param({"rcpt": {"bob": "251 2.1.5 forwarded", "eve": "252 2.1.5 maybe"}}, ["delivered 250 2.0.0 dot"] * 2, id="251 and 252 are yes"),
    pytest.param({"rcpt": {"bob": "299 2.9.9 new"}}, ["delivered 250 2.0.0 dot"] * 2, id="an unknown 2yz is yes"),
    pytest.param({"rcpt": {"bob": "399 3.9.9 odd"}}, ["tempfail 451 4.5.0 rcpt", "delivered 250 2.0.0 dot"], id="a 3yz to RCPT means nothing"),
    pytest.param({"rcpt": {"eve": "421 4.3.2 going down"}}, ["tempfail 421 4.3.2 data", "tempfail 421 4.3.2 rcpt"], id="421 at the last RCPT"),
    pytest.param({"rcpt": {"bob": "421 4.3.2 going down"}}, ["tempfail 421 4.3.2 rcpt"] * 2, id="421 at the first RCPT"),
    pytest.param({"rcpt": {"eve": CUT}}, ["conn_error 451 4.4.2 data", "conn_error 451 4.4.2 rcpt"], id="cut at the last RCPT"),
    pytest.param({"data": "451 4.3.0 later"}, ["tempfail 451 4.3.0 data"] * 2, id="DATA deferred"),
    pytest.param({"data": "554 5.7.1 no"}, ["permfail 554 5.7.1 data"] * 2, id="DATA refused"),
    pytest.param({"data": "250 2.0.0 what"}, ["tempfail 451 4.5.0 data"] * 2, id="250 to DATA means nothing"),
    pytest.param({"data": CUT}, ["conn_error 451 4.4.2 data"] * 2, id="cut at DATA"),
    pytest.param({"dot": "451 4.7.1 greylisted"}, ["tempfail 451 4.7.1 dot"] * 2, id="content deferred"),
    pytest.param({"dot": "552 5.2.2 mailbox full"}, ["permfail 552 5.2.2 dot"] * 2, id="552 after the dot is permanent"),
    pytest.param({"dot": "550 5.7.1 spam"}, ["permfail 550 5.7.1 dot"] * 2, id="content refused"),
    pytest.param({"dot": "354 more"}, ["tempfail 451 4.5.0 dot"] * 2, id="354 after the dot means nothing"),
    pytest.param({"dot": "999 what"}, ["tempfail 451 4.5.0 dot"] * 2, id="a code out of range"),
    pytest.param({"dot": CUT}, ["ambiguous 451 4.4.2 dot"] * 2, id="cut after the dot"),
    pytest.param({"dot": "hello there"}, ["ambiguous 451 4.4.2 dot"] * 2, id="no SMTP after the dot"),
    pytest.param({"dot": "250-one\n250-2.0.0 two\n250 three"}, ["delivered 250  dot"] * 2, id="several lines"),
    pytest.param({"dot": "250"}, ["delivered 250  dot"] * 2, id="a reply without text"),
    pytest.param({"dot": "250 " + "x" * 3000}, ["delivered 250  dot"] * 2, id="a long line"),
    pytest.param({"dot": "250 é\udcff"}, ["delivered 250  dot"] * 2, id="octets that are no UTF-8"),
    pytest.param({"dot": "\n".join(["250-line"] * 200 + ["250 end"])}, ["delivered 250  dot"] * 2, id="many lines"),
    pytest.param({"dot": "\n".join(["250-" + "x" * 400] * 200 + ["250 end"])}, ["ambiguous 451 4.4.2 dot"] * 2, id="an endless reply is cut"),
])
async def test_every_reply(connect, pipelining, script, expected):
    connection = await connect(Script(pipelining=pipelining, **script))
    outcomes = await connection.deliver(job(*TWO))
    assert ["{} {} {} {}".format(*each) for each in told(outcomes)] == expected
    assert [o.recipient_id for o in outcomes] == [1, 2]
    assert {(o.mx, o.address) for o in outcomes} == {("127.0.0.1", "127.0.0.1")}


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in turn"])
@pytest.mark.parametrize("script", [{"mail": ["450 4.7.1 no", "250 ok"]}, {"rcpt": {"*": ["550 5.1.1 no", "250 ok"]}}, {"data": ["451 4.3.0 no", "354 go"]},
                                    {"dot": ["550 5.7.1 no", "250 ok"]}], ids=["MAIL", "RCPT", "DATA", "dot"])
async def test_the_next_message_goes_through_after_a_refusal(connect, pipelining, script):
    connection = await connect(Script(pipelining=pipelining, **script))
    assert told(await connection.deliver(job()))[0][0] != "delivered"
    assert connection.usable
    assert told(await connection.deliver(job()))[0][0] == "delivered"
    assert (connection.delivered, connection.messages) == (1, 2)


async def test_the_content_arrives_as_it_was(sinks, connector, to):
    sink = sinks()
    content = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n\r\nend.\r\n"
    connection = await connector.connect(to(sink))
    await connection.deliver(job(content=content))
    await connection.deliver(job(content=b"Subject: none\r\n\r\nno end"))
    connection.close()
    messages = await sink.arrived(2)
    assert [m.content for m in messages] == [content, b"Subject: none\r\n\r\nno end\r\n"]
    assert sink.transcript[0][:4] == ["EHLO", "MAIL", "RCPT", "DATA"]


async def test_a_lone_dot_ends_data_that_the_server_opened_for_nobody(serve, connector, to):
    """A server that says 354 although it refused every RCPT (RFC 2920 §3.1) must not get the message."""
    async def session(reader, writer):
        writer.write(b"220 odd\r\n")
        while line := await reader.readline():
            seen.append(line)
            for start, say in {b"EHLO": b"250-odd\r\n250 PIPELINING\r\n", b"MAIL": b"250 ok\r\n", b"RCPT": b"550 5.1.1 no\r\n", b"DATA": b"354 go\r\n",
                               b".\r\n": b"554 5.5.1 no recipients\r\n"}.items():
                if line.startswith(start):
                    writer.write(say)
        writer.close()

    seen: list[bytes] = []
    connection = await connector.connect(to(await serve(session)))
    assert told(await connection.deliver(job())) == [("permfail", 550, "5.1.1", "rcpt")]
    assert connection.usable
    connection.abort()
    assert seen[-1] == b".\r\n"


async def test_a_large_message_is_sent_in_pieces(sinks, connector, to):
    sink = sinks()
    content = CONTENT + (b"." + b"x" * 76 + b"\r\n") * 50_000
    assert len(content) > 10 * wire.PIECE
    connection = await connector.connect(to(sink))
    assert told(await connection.deliver(job(content=content)))[0][0] == "delivered"
    assert (await sink.arrived(1))[0].content == content
    connection.close()


@pytest.mark.parametrize(("size", "result", "phase"), [(3_000_000, "conn_error", "data")])
async def test_a_server_that_cuts_in_the_middle_of_a_large_message(connect, size, result, phase):
    connection = await connect(Script(drop_data=100_000))
    (outcome,) = await connection.deliver(job(content=CONTENT + (b"x" * 78 + b"\r\n") * (size // 80) * 10))
    assert (outcome.result, outcome.phase) == (result, phase)
    assert not connection.usable


async def test_an_answer_in_the_middle_of_the_message_counts(serve, connector, to):
    """A server may refuse before the dot, and then stop reading."""
    async def session(reader, writer):
        writer.write(b"220 odd\r\n")
        while line := await reader.readline():
            writer.write({b"EHLO": b"250-odd\r\n250 PIPELINING\r\n", b"MAIL": b"250 ok\r\n", b"RCPT": b"250 ok\r\n"}.get(line[:4], b""))
            if line.startswith(b"DATA"):
                writer.write(b"354 go\r\n")
                await reader.readexactly(1000)
                writer.write(b"552 5.3.4 too large\r\n")
                await ended.wait()
                return

    ended = asyncio.Event()
    connection = await connector.connect(to(await serve(session)))
    (outcome,) = await connection.deliver(job(content=CONTENT + (b"x" * 78 + b"\r\n") * 500_000))
    assert told([outcome]) == [("permfail", 552, "5.3.4", "data")]
    assert not connection.usable
    ended.set()


async def test_a_bare_line_end_in_the_content_is_refused_and_says_nothing_to_the_server(sinks, connector, to):
    sink = sinks()
    connection = await connector.connect(to(sink))
    assert told(await connection.deliver(job(content=CONTENT + b"smuggled\n.\r\nMAIL FROM:<x@y.z>\r\n"))) == [("permfail", 550, "5.6.0", "mail")]
    assert connection.usable
    connection.close()
    assert sink.transcript[0][0] == "EHLO"
    assert "MAIL" not in sink.transcript[0]


async def test_an_address_that_cannot_be_sent_fails_alone(sinks, connector, to):
    sink = sinks()
    connection = await connector.connect(to(sink))
    work = Job("a@b.c", (recipient("bob@x.test", 1), recipient("e\r\nDATA@x.test", 2), recipient("sam@x.test", 3)), CONTENT)
    outcomes = await connection.deliver(work)
    assert [(o.recipient_id, o.result) for o in outcomes] == [(1, "delivered"), (2, "permfail"), (3, "delivered")]
    assert (await sink.arrived(1))[0].recipients == ["bob@x.test", "sam@x.test"]
    connection.close()


@pytest.mark.parametrize("cut_after_dot", [True, False])
async def test_a_connection_that_we_cut_tells_how_far_it_came(connect, cut_after_dot):
    connection = await connect(Script(delays={"dot" if cut_after_dot else "rcpt": 30}))
    delivering = asyncio.create_task(connection.deliver(job()))
    while not connection.messages or (cut_after_dot and not connection.final):
        await asyncio.sleep(0.005)
    connection.abort()
    (outcome,) = await delivering
    assert outcome.result == ("ambiguous" if cut_after_dot else "conn_error")


async def test_a_cancelled_delivery_closes_its_connection(connect):
    connection = await connect(Script(delays={"dot": 30}))
    delivering = asyncio.create_task(connection.deliver(job()))
    while not connection.final:
        await asyncio.sleep(0.005)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    assert not connection.usable


async def test_a_server_that_says_goodbye_is_not_used_again(sinks, connector, to):
    sink = sinks(Script(farewell="421 4.3.2 closing"))
    connection = await connector.connect(to(sink))
    assert told(await connection.deliver(job()))[0][0] == "delivered"
    while connection.usable:
        await asyncio.sleep(0.005)
    assert connection.farewell is not None
    assert connection.farewell.code == 421
    (outcome,) = await connection.deliver(job())
    assert (outcome.result, outcome.phase) == ("conn_error", "mail")


@pytest.mark.parametrize(("dsn", "mail", "rcpt"), [
    (True, "SIZE=48 RET=HDRS ENVID=QQ314159", "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+40x.test"), (False, "SIZE=48", "")], ids=["offered", "not offered"])
async def test_dsn_wishes_are_passed_on_where_offered(sinks, connector, to, dsn, mail, rcpt):
    sink = sinks(Script(dsn=dsn))
    connection = await connector.connect(to(sink))
    work = Job("a@b.c", (recipient("bob@x.test", 1, "SUCCESS,DELAY", "rfc822;bob+40x.test"), recipient("eve@x.test", 2)), CONTENT, ret="HDRS", envid="QQ314159")
    outcomes = await connection.deliver(work)
    assert [o.dsn_passed for o in outcomes] == [dsn, dsn]
    message = (await sink.arrived(1))[0]
    assert message.mail == mail.replace("48", str(len(CONTENT)))
    assert message.rcpts == [rcpt, ""]
    connection.close()


EIGHT = "Subject: hello\r\n\r\ngrüße\r\n".encode()
UTF8_HEADER = "Subject: grüße\r\n\r\nhello\r\n".encode()


@pytest.mark.parametrize(("script", "work", "expected", "mail"), [
    pytest.param({}, job(content=EIGHT), "delivered", "BODY=8BITMIME", id="8-bit, offered"),
    pytest.param({"eightbit": False}, job(content=EIGHT), "permfail 5.6.3", "", id="8-bit, not offered"),
    pytest.param({"eightbit": False}, job(), "delivered", "", id="7-bit needs nothing"),
    pytest.param({"size": 40}, job(), "permfail 5.3.4", "", id="larger than SIZE"),
    pytest.param({"size": len(CONTENT)}, job(), "delivered", f"SIZE={len(CONTENT)}", id="as large as SIZE"),
    pytest.param({"size": 0}, job(), "delivered", "", id="no SIZE"),
    pytest.param({}, job(content=UTF8_HEADER, smtputf8=True), "delivered", "BODY=8BITMIME SMTPUTF8", id="UTF-8 header, offered"),
    pytest.param({"utf8": False}, job(content=UTF8_HEADER, smtputf8=True), "permfail 5.6.7", "", id="UTF-8 header, not offered"),
    pytest.param({"utf8": False}, job("jürgen@x.test", smtputf8=True), "permfail 5.6.7", "", id="UTF-8 address, not offered"),
    pytest.param({}, job("jürgen@x.test", smtputf8=True), "delivered", "SMTPUTF8", id="UTF-8 address, offered"),
    pytest.param({"utf8": False}, job(smtputf8=True), "delivered", "", id="SMTPUTF8 asked for without need"),
    pytest.param({"utf8": False}, job("bob@grüße.test", smtputf8=True), "delivered", "", id="only the domain: A-labels"),
])
async def test_extensions(sinks, connector, to, script, work, expected, mail):
    sink = sinks(Script(**script))
    connection = await connector.connect(to(sink))
    (outcome,) = await connection.deliver(work)
    assert f"{outcome.result} {outcome.reply.enhanced}".startswith(expected)
    if outcome.result == "delivered":
        got = (await sink.arrived(1))[0]
        parameters = got.mail if "SIZE" in mail else " ".join(word for word in got.mail.split() if not word.startswith("SIZE"))
        assert parameters == mail
        assert got.recipients[0].isascii() == ("SMTPUTF8" not in got.mail or work.recipients[0].address.isascii())
    else:
        assert outcome.phase == "mail"
        assert "MAIL" not in sink.transcript[0]
        assert connection.usable
    connection.close()
