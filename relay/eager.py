"""Running a coroutine without a task for as long as it does not wait.

Most awaits on the way of a message never suspend: a policy that only looks, a read that SQLite answers at once. `begin` runs a coroutine up to its first real
wait; if there is none, no task, timer or callback was made. Otherwise the rest is awaited like any other awaitable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class Begun:
    """A coroutine that has run up to its first wait, to be awaited further."""

    __slots__ = ("coroutine", "waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any):
        self.coroutine = coroutine
        self.waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waits_for = self.coroutine, self.waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:  # a cancelled task: the coroutine hears of it, as it would in a task of its own
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration as done:
            return done.value


def begin(coroutine: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """(True, result) when the coroutine ended without waiting, else (False, Begun) for who can wait; raises what the coroutine raises."""
    try:
        waits_for = coroutine.send(None)
    except StopIteration as done:
        return True, done.value
    return False, Begun(coroutine, waits_for)


async def within(seconds: float, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's result; raises TimeoutError when it waits for longer than this. One that does not wait costs no timer."""
    ended, result = begin(coroutine)
    if ended:
        return result
    async with asyncio.timeout(seconds):
        return await result
