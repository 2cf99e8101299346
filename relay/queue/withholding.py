"""Holding an email back while somebody cancels or moves it, on this node or on the one that delivers, so that either that act or the sending happens.

    node that was asked                     node that delivers
    NOTIFY withhold {ask, ids}  ──────────► some of them out? if not, marked as gone, so that its loader does not take them
                       ◄──────────────────  NOTIFY withheld {ask, free}
    the act, committed
    NOTIFY release {ask}        ──────────► the store says again what is to become of them

A node that gives no sign for HELD seconds has failed, and what it held goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence

from relay.errors import Defer
from relay.mail.reply import Reply
from relay.queue.runner import Runner
from relay.queue.waiting import Waiting
from relay.store.engine import Store

ANSWER = 5.0  # seconds that the node that delivers may take to answer
HELD = 30.0  # seconds after which what another node holds goes on by itself

NOBODY = Reply(451, "4.3.0", "the relay that delivers does not answer, try again in a moment")


@contextlib.contextmanager
def here(runner: Runner, waiting: Sequence[Waiting]) -> Iterator[bool]:
    """Whether none of them had begun; within the block the runner of this node does not begin with them."""
    if any(begun(runner, each.recipient_id) for each in waiting):
        yield False
        return
    runner.forget([each.recipient_id for each in waiting])
    held = [Waiting(each.recipient_id, each.message_id, each.project, each.domain, each.stream, 0.0, gone=True) for each in waiting]
    for each in held:
        runner.hold(each)
    try:
        yield True
    finally:
        for each in held:
            runner.drop(each)


def begun(runner: Runner, recipient_id: int) -> bool:
    """Whether it is on the wire, or its outcome on its way to the disk."""
    known = runner.known.get(recipient_id)
    return known is not None and (known.out or known.done)


class Withholding:
    """Both ends of the conversation between nodes."""

    def __init__(self, store: Store, runner: Runner):
        self._store, self._runner = store, runner
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._held: dict[str, tuple[contextlib.ExitStack, asyncio.TimerHandle]] = {}
        self._listening = False

    @contextlib.asynccontextmanager
    async def elsewhere(self, waiting: Sequence[Waiting]) -> AsyncIterator[bool]:
        """As `here`, of the node that delivers; raises Defer when it does not answer."""
        if not self._listening:
            self._listening = True
            self._store.listen("withheld", self._answered)
        ask = secrets.token_hex(8)
        answer = self._asked[ask] = asyncio.get_running_loop().create_future()
        rows = [[each.recipient_id, each.message_id, each.project, each.domain, each.stream] for each in waiting]
        try:
            self._store.notify("withhold", json.dumps({"ask": ask, "rows": rows}))
            try:
                async with asyncio.timeout(ANSWER):
                    free = await answer
            except TimeoutError:
                raise Defer(NOBODY, 5.0) from None
            yield free
        finally:
            del self._asked[ask]
            self._store.notify("release", ask)

    def _answered(self, told: str) -> None:
        answer = json.loads(told) if told else {}
        waiting = self._asked.get(answer.get("ask", ""))
        if waiting is not None and not waiting.done():
            waiting.set_result(bool(answer["free"]))

    def serve(self) -> None:
        """Answer the other nodes, from now on."""
        self._store.listen("withhold", self._hold)
        self._store.listen("release", self._release)

    def _hold(self, told: str) -> None:
        if not told:
            return
        asked = json.loads(told)
        stack = contextlib.ExitStack()
        free = stack.enter_context(here(self._runner, [Waiting(*row, 0.0) for row in asked["rows"]]))
        self._held[asked["ask"]] = stack, asyncio.get_running_loop().call_later(HELD, self._release, asked["ask"])
        self._store.notify("withheld", json.dumps({"ask": asked["ask"], "free": free}))

    def _release(self, ask: str) -> None:
        stack, timer = self._held.pop(ask, (None, None))
        if stack is not None:
            timer.cancel()
            stack.close()
            self._runner.wake()
