"""A server of the tests on an event loop of its own thread, so that any test can use it: async, sync, or one that drives another process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from tests.support.until import PATIENCE

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop



class Threaded:
    """`with Server(...) as server:` runs `open()` before the block and `shut()` after it, both on the server's loop."""

    loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        raise NotImplementedError

    async def shut(self) -> None:
        raise NotImplementedError

    def start(self) -> Self:
        self.loop = new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()
        try:
            self.call(self.open())
        except BaseException:
            self._end()
            raise
        return self

    def stop(self) -> None:
        self.call(self.shut())
        self._end()

    def call(self, coroutine, timeout: float = PATIENCE):
        """The result of a coroutine run on the server's loop; blocks the caller."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc) -> None:
        self.stop()


def apart(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine run on a loop and thread of its own, so that a plain fixture can serve plain and async tests."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
