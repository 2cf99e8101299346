"""Handing mail from a worker to the main process over a real Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Defer, Refuse
from relay.handover import Hub, Link, pack, unpack
from relay.mail import header
from relay.mail.message import Decision, Envelope, Message, Origin, Principal, Recipient, Wishes, replace
from relay.mail.reply import Reply
from relay.smtp.auth import Guard

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
RECIPIENTS = st.builds(Recipient, st.integers(0, 2**63 - 1), TEXT, TEXT, TEXT, TEXT, TEXT)
MESSAGES = st.builds(
    Message,
    id=st.integers(1, 2**63 - 1),
    principal=st.builds(Principal, TEXT, st.integers(0, 2**63 - 1), st.none() | st.integers(0, 2**63 - 1), TEXT),
    envelope=st.builds(Envelope, TEXT, st.lists(RECIPIENTS, max_size=3).map(tuple), smtputf8=st.booleans(), envid=TEXT),
    header=st.just(header.split(b"From: a@b.example\r\nSubject: folded\r\n\tline\r\n\r\n")[0]),
    body=st.binary(max_size=200),
    origin=st.builds(Origin, TEXT, TEXT, TEXT, TEXT, TEXT),
    wishes=st.builds(
        Wishes, st.lists(TEXT, max_size=2).map(tuple), opens=st.none() | st.booleans(), variables=st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
    ),
    received_at=st.floats(0, 1e10),
    dropped=st.lists(st.tuples(RECIPIENTS, st.builds(Reply, st.integers(200, 599), TEXT, TEXT)), max_size=2).map(tuple),
    trace=st.lists(st.builds(Decision, TEXT, TEXT, TEXT), max_size=2).map(tuple),
    facts=st.dictionaries(TEXT, st.integers(-(2**31), 2**31) | TEXT | st.floats(allow_nan=False), max_size=3),
    sealed=st.booleans(),
)


@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_what_is_unpacked_equals_what_was_packed(messages: list[Message]) -> None:
    assert unpack(pack(messages)) == messages


def message(number: int, body: bytes = b"hello\r\n") -> Message:
    fields, _ = header.split(b"From: a@b.example\r\n\r\n")
    recipient = Recipient(number + 1, "c@d.example", "c@d.example", "d.example")
    return Message(number, Principal("key", 1), Envelope("a@b.example", (recipient,)), fields, body)


class Main:
    """A main process's store, in memory: what it committed, and what it is told to answer."""

    def __init__(self) -> None:
        self.kept: dict[int, Message] = {}
        self.refuse: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.counted: list[tuple[object, ...]] = []
        self.absorbed: list[object] = []

    async def commit(self, messages: Sequence[Message]) -> int:
        await self.gate.wait()
        if self.refuse:
            raise self.refuse
        self.kept.update({each.id: each for each in messages})
        return messages[0].id

    async def have(self, number: int) -> bool:
        return number in self.kept

    async def count(self, *question: object) -> float:
        self.counted.append(question)
        return 1.5

    def hub(self, credit: int = 1 << 20) -> Hub:
        return Hub(lambda messages: asyncio.ensure_future(self.commit(messages)), self.have, self.count,
                   lambda deltas, worker: self.absorbed.append(deltas), credit=credit)


@asynccontextmanager
async def joined(main: Main, path: Path, credit: int = 1 << 20) -> AsyncIterator[tuple[Hub, Link, asyncio.Event, list[str]]]:
    stopped, changes = asyncio.Event(), []
    hub = main.hub(credit)
    await hub.start(path)
    link = Link(path, changes.append, stopped.set)
    await link.connect()
    try:
        yield hub, link, stopped, changes
    finally:
        await hub.close()


async def test_a_committed_message_is_the_main_process_s(tmp_path: Path) -> None:
    main = Main()
    async with joined(main, tmp_path / "s") as (_, link, _, _):
        numbers = await asyncio.gather(*(link.commit([message(number)]) for number in range(10, 200, 10)))
    assert numbers == list(range(10, 200, 10))
    assert main.kept == {number: message(number) for number in numbers}


@pytest.mark.parametrize("error", [
    pytest.param(Refuse(Reply(550, "5.7.1", "no")), id="refused"),
    pytest.param(Defer(Reply(452, "4.3.1", "disk low")), id="deferred"),
])
async def test_a_refusal_keeps_its_reply(tmp_path: Path, error: Refuse | Defer) -> None:
    main = Main()
    main.refuse = error
    async with joined(main, tmp_path / "s") as (_, link, _, _):
        with pytest.raises(type(error)) as caught:
            await link.commit([message(10)])
    assert caught.value.reply == error.reply


async def test_a_fault_of_the_store_is_a_451(tmp_path: Path) -> None:
    main = Main()
    main.refuse = ZeroDivisionError()
    async with joined(main, tmp_path / "s") as (_, link, _, _):
        with pytest.raises(Defer) as caught:
            await link.commit([message(10)])
    assert caught.value.reply.code == 451


async def test_out_of_credit_is_a_452_and_credit_comes_back(tmp_path: Path) -> None:
    main = Main()
    async with joined(main, tmp_path / "s", credit=100_000) as (_, link, _, _):
        main.gate.clear()
        first = asyncio.create_task(link.commit([message(10, b"x" * 60_000)]))
        await asyncio.wait([first], timeout=0.05)
        with pytest.raises(Defer) as caught:
            await link.commit([message(20, b"x" * 60_000)])
        assert caught.value.reply.code == 452
        main.gate.set()
        assert await first == 10
        assert await link.commit([message(20, b"x" * 60_000)]) == 20


async def test_changes_counts_and_metrics_cross(tmp_path: Path) -> None:
    main = Main()
    async with joined(main, tmp_path / "s") as (hub, link, stopped, changes):
        link.metrics([("a", (), 1.0)])
        assert await link.count("take", "key:1:hour", 5, 3600.0, 1) == 1.5
        hub.changed("domains")
        hub.stop_worker()
        await asyncio.wait_for(stopped.wait(), 5)
    assert main.counted == [("take", "key:1:hour", 5, 3600.0, 1)]
    assert main.absorbed == [[["a", [], 1.0]]]
    assert changes == ["domains"]


async def test_after_the_main_process_died_its_successor_is_asked(tmp_path: Path) -> None:
    """The message that was committed is acknowledged, the other one is a 451: A3's two windows."""
    main, path = Main(), tmp_path / "s"
    main.kept[10] = message(10)
    async with joined(main, path) as (hub, link, stopped, _):
        main.gate.clear()
        answers = [asyncio.create_task(link.commit([message(number)])) for number in (10, 20)]
        await asyncio.wait(answers, timeout=0.05)
        for worker in list(hub.workers):
            worker.transport.abort()  # as a kill -9 would
        await asyncio.wait_for(stopped.wait(), 5)
        await hub.close()
        successor = Main()
        successor.kept[10] = message(10)
        hub = successor.hub()
        await hub.start(path)
        await link.settle()
        assert await answers[0] == 10
        with pytest.raises(Defer) as caught:
            await answers[1]
        assert caught.value.reply.code == 451
        await hub.close()


async def test_a_reply_in_plain_ascii_only(tmp_path: Path) -> None:
    main = Main()
    main.refuse = Defer(replace(Reply(451, "4.3.0", "x"), text="caf\u00e9\r\n250 forged"))
    async with joined(main, tmp_path / "s") as (_, link, _, _):
        with pytest.raises(Defer) as caught:
            await link.commit([message(10)])
    assert caught.value.reply.wire().count(b"\r\n") == 2
    assert b"\r\n250" not in caught.value.reply.wire()


async def test_what_one_worker_s_guard_has_seen_the_others_hear(tmp_path: Path) -> None:
    main, heard = Main(), asyncio.Queue[tuple[str, bool]]()
    async with joined(main, tmp_path / "s") as (_, first, _, _):
        second = Link(tmp_path / "s", lambda kind: None, lambda: None)
        await second.connect()
        guards = Guard(tell=first.guard), Guard(tell=second.guard)

        def hear(client: str, failed: bool) -> None:
            guards[1].hear(client, failed)
            heard.put_nowait((client, failed))

        first.heard, second.heard = guards[0].hear, hear
        for _ in range(5):
            guards[0].failed("192.0.2.1")
        for _ in range(5):
            assert await asyncio.wait_for(heard.get(), 5) == ("192.0.2.1", True)
        assert guards[1].locked("192.0.2.1")
        guards[0].succeeded("192.0.2.1")
        assert await asyncio.wait_for(heard.get(), 5) == ("192.0.2.1", False)
        assert not guards[1].locked("192.0.2.1")


async def test_large_messages_come_one_worker_after_the_other(tmp_path: Path) -> None:
    async with joined(Main(), tmp_path / "s") as (hub, first, _, _):
        second = Link(tmp_path / "s", lambda kind: None, lambda: None)
        await second.connect()
        async with first.large():
            waiting = asyncio.create_task(second.large().__aenter__())
            done, _ = await asyncio.wait([waiting], timeout=0.05)
            assert not done
        await asyncio.wait_for(waiting, 5)
        for worker in [each for each in hub.workers if hub.large.locked()]:
            worker.transport.abort()  # killed while it has the turn
        third = Link(tmp_path / "s", lambda kind: None, lambda: None)
        await third.connect()
        async with asyncio.timeout(60), third.large():
            pass


async def test_a_worker_that_is_not_welcomed_does_not_wait_for_ever(tmp_path: Path) -> None:
    """The main process was killed between accept and WELCOME."""
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), str(tmp_path / "s"))
    async with server:
        with pytest.raises(OSError, match="gone"):
            await asyncio.wait_for(Link(tmp_path / "s", lambda kind: None, lambda: None).connect(), 5)
