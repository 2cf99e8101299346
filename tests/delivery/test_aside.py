"""A step aside: what one host or source cannot get through goes to the next at once."""


import asyncio

import pytest

from tests.delivery.build import MX, job, to_domain, until
from tests.support.sink import CUT, Script

pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize(("second", "result"), [
    pytest.param({}, "delivered 2.0.0", id="another host has it"), pytest.param({"utf8": False}, "permfail 5.6.7", id="no host has it"),
    pytest.param({"greeting": "421 4.3.2 busy"}, "conn_error 4.3.2", id="the other is away"),
])
async def test_another_host_may_know_smtputf8(dns, two, second, result):
    dns.zones = dict(MX)
    one, other = two(Script(utf8=False), Script(**second))
    connection = await to_domain(dns, one.port)
    (outcome,) = await connection.deliver(job("jürgen@x.test", smtputf8=True))
    assert f"{outcome.result} {outcome.reply.enhanced}" == result
    assert connection.usable
    connection.close()
    assert other.opened == 1


@pytest.mark.parametrize(("first", "second", "result"), [
    pytest.param({"rcpt": {"*": "450 4.7.1 greylisted"}}, {}, "delivered mx2.x.test", id="a greylist at RCPT"),
    pytest.param({"dot": "451 4.3.0 busy"}, {}, "delivered mx2.x.test", id="deferred after the dot"),
    pytest.param({"data": CUT}, {}, "delivered mx2.x.test", id="cut before the dot"),
    pytest.param({"mail": "451 4.3.0 busy"}, {"mail": "452 4.3.1 full"}, "tempfail mx2.x.test", id="both put it off"),
    pytest.param({"mail": "451 4.3.0 busy"}, {"greeting": "421 4.3.2 down"}, "tempfail mx1.x.test", id="the other is away"),
    pytest.param({"mail": "451 4.3.0 busy"}, {"rcpt": {"*": "550 5.1.1 no such user"}}, "permfail mx2.x.test", id="the other knows better"),
    pytest.param({"mail": "550 5.7.1 no"}, {}, "permfail mx1.x.test", id="a refusal is final"),
    pytest.param({"dot": CUT}, {}, "ambiguous mx1.x.test", id="never twice what may have been taken"),
])
async def test_a_login_code_goes_to_the_next_host_at_once(dns, two, first, second, result):
    dns.zones = dict(MX)
    one, _ = two(Script(**first), Script(**second))
    connection = await to_domain(dns, one.port)
    (outcome,) = await connection.deliver(job(hurried=True))
    assert f"{outcome.result} {outcome.mx}" == result
    assert [step.action for step in outcome.steps] == (["deferred"] if outcome.mx == "mx2.x.test" else [])
    connection.close()


async def test_other_mail_waits_for_its_turn(dns, two):
    dns.zones = dict(MX)
    one, other = two(Script(mail="451 4.3.0 busy"), Script())
    connection = await to_domain(dns, one.port)
    assert [outcome.result for outcome in await connection.deliver(job())] == ["tempfail"]
    assert not other.opened
    connection.close()


async def test_only_who_was_put_off_goes_to_the_next_host(dns, two):
    dns.zones = dict(MX)
    one, other = two(Script(rcpt={"eve": "451 4.2.1 busy"}), Script())
    connection = await to_domain(dns, one.port)
    outcomes = await connection.deliver(job("bob@x.test", "eve@x.test", "sam@x.test", hurried=True))
    assert [(each.recipient_id, each.result, each.mx) for each in outcomes] == [
        (1, "delivered", "mx1.x.test"), (2, "delivered", "mx2.x.test"), (3, "delivered", "mx1.x.test")]
    assert [m.recipients for m in other.wait(1)] == [["eve@x.test"]]
    connection.close()


async def test_with_one_host_a_login_code_leaves_from_the_next_source(dns, sinks):
    dns.zones = {"x.test": {"MX": "10 mx.x.test."}, "mx.x.test": {"A": "127.0.0.1"}}
    sink = sinks(Script(mail=["450 4.7.1 greylisted", "250 2.1.0 fine"]))
    connection = await to_domain(dns, sink.port, sources=("127.0.0.5", "127.0.0.6"))
    (outcome,) = await connection.deliver(job(hurried=True))
    assert (outcome.result, connection.source, outcome.source) == ("delivered", "127.0.0.5", "127.0.0.6")
    connection.close()


async def test_the_end_of_the_process_cuts_the_step_aside_too(dns, two):
    dns.zones = dict(MX)
    one, other = two(Script(mail="451 4.3.0 busy"), Script(dot=""))
    connection = await to_domain(dns, one.port)
    carrying = asyncio.create_task(connection.deliver(job(hurried=True)))
    await until(lambda: connection.final)
    connection.abort()
    assert [outcome.result for outcome in await carrying] == ["ambiguous"]
    assert other.opened == 1
