"""Many acts one after the other: on one connection to the running relay, or on a store that is opened once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.cli.main import Run


@contextlib.contextmanager
def session(run: Run) -> Iterator[Callable[..., Any]]:
    """`act(name, **arguments)`, which raises the errors of relay.errors."""
    from relay.control.client import Client

    running = Client.connect(run.settings.data_dir)
    if running is not None:
        with running:
            yield lambda name, /, **arguments: running.act(name, arguments)
        return
    import asyncio

    from relay.control.alone import control

    with asyncio.Runner() as runner:
        opened = control(run.settings)
        own = runner.run(opened.__aenter__())
        try:
            yield lambda name, /, **arguments: runner.run(own.act(name, arguments))
        finally:
            runner.run(opened.__aexit__(None, None, None))
