"""Delivery reports: who gets one, once, and what it says; through a real store and a door that keeps what it is given."""

from __future__ import annotations

import asyncio
import email
import email.policy
from dataclasses import dataclass, field
from typing import Any

import pytest

from relay.errors import Defer, Refuse
from relay.mail.ids import Maker
from relay.mail.message import Principal
from relay.mail.reply import Reply
from relay.queue.reports import Reports
from relay.store import events
from relay.store import reports as rows
from tests.queue.conftest import settings, until
from tests.support.sink import Script, Sink


@dataclass
class Door:
    """Takes submissions, or raises what it is told to."""

    raises: list[Exception] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)

    async def submit(self, principal, envelope, content, origin, wishes):
        if self.raises:
            raise self.raises.pop(0)
        self.taken.append((principal, envelope, email.message_from_bytes(content, policy=email.policy.SMTP), origin, wishes))


async def sending(bench, door):
    reports = Reports(bench.store, door.submit, settings(), bench.clock, Maker(3), Principal("system", 0), interval=0.05)
    return asyncio.create_task(reports.run())


REFUSE = Script(rcpt={"bob": "550 5.1.1 no such user", "*": "250 2.1.5 fine"}, dsn=False)


async def test_a_failure_comes_back_to_the_sender_once(relay):
    door = Door()
    with Sink(REFUSE) as sink:
        async with relay(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            task = await sending(bench, door)
            message = await bench.send("bob@example.net", "ann@example.net", envid="QQ314")
            await bench.ended(message)
            await until(lambda: door.taken)
            await until(lambda: _empty(bench))
            task.cancel()
    [(principal, envelope, content, origin, wishes)] = door.taken
    assert (principal.kind, principal.project) == ("system", bench.project)
    assert (envelope.sender, [r.address for r in envelope.recipients], envelope.recipients[0].notify) == ("", ["app@example.com"], "NEVER")
    assert origin.protocol == "dsn"
    assert wishes.idempotency_key.startswith("dsn:")
    _, machine, quoted = content.iter_parts()
    about, who = machine.get_payload()
    assert about["original-envelope-id"] == "QQ314"
    assert (who["final-recipient"], who["action"], who["status"]) == ("rfc822; bob@example.net", "failed", "5.1.1")
    assert who["remote-mta"] == "dns; 127.0.0.1"
    assert quoted.get_payload()[0]["message-id"] == "<1@example.com>"


async def _empty(bench):
    return await bench.store.read(rows.next_due) is None


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        pytest.param({"sender": ""}, [], id="never-for-the-null-sender"),
        pytest.param({"protocol": "http"}, [], id="not-for-the-api"),
        pytest.param({"protocol": "dsn"}, [], id="not-for-reports"),
        pytest.param({"protocol": "sendmail"}, ["failed"], id="for-sendmail"),
        pytest.param({"notify": "NEVER"}, [], id="never"),
        pytest.param({"notify": "SUCCESS"}, ["relayed"], id="success-only"),
        pytest.param({"notify": "SUCCESS,FAILURE"}, ["failed", "relayed"], id="both"),
    ],
)
async def test_who_is_told(quick, given, kinds):
    with Sink(REFUSE) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            message = await bench.send("bob@example.net", "ann@example.net", **given)
            await bench.ended(message)
            found = await bench.store.read(rows.due, bench.clock.now() + 60)
    assert sorted(each.kind for each in found) == kinds


async def test_a_peer_that_takes_the_request_over_makes_the_report_itself(quick):
    with Sink(Script(dsn=True)) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            message = await bench.send("ann@example.net", notify="SUCCESS")
            await bench.ended(message, "delivered")
            assert await bench.store.read(rows.due, bench.clock.now() + 60) == []


async def test_a_refused_report_ends_as_an_event_and_a_deferred_one_waits(quick):
    door = Door(raises=[Refuse(Reply(550, "5.7.1", "no")), Defer(Reply(451, "4.3.0", "later"))])
    with Sink(REFUSE) as sink:
        async with quick(settings(routes={"*": f"127.0.0.1:{sink.port}"})) as bench:
            first, second = await bench.send("bob@example.net"), await bench.send("bob@example.org")
            await bench.ended(first)
            await bench.ended(second)
            task = await sending(bench, door)
            await until(lambda: not door.raises)
            left = await until(lambda: _left(bench))
            task.cancel()
            happened = [*await bench.store.read(events.of_message, first.id), *await bench.store.read(events.of_message, second.id)]
    assert len(left) == 1
    assert [e.type for e in happened].count("email.report_refused") == 1


async def _left(bench):
    found = await bench.store.read(rows.due, bench.clock.now() + 120)
    return found if len(found) == 1 and not await bench.store.read(rows.due, bench.clock.now() + 5) else None


async def test_a_report_about_mail_that_is_no_longer_kept_is_let_go(quick):
    door = Door()
    async with quick(settings()) as bench:
        def owe(conn):
            rows.add_rows(conn, [rows.row(1, 4711, 4712, "failed", 0.0)])
        await bench.store.write(owe)
        task = await sending(bench, door)
        await until(lambda: _empty(bench))
        task.cancel()
    assert not door.taken
