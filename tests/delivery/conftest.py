"""A sink and a connection to it, by the script of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

from relay.delivery.connect import Connector
from relay.delivery.connection import Connection
from relay.delivery.dns import Resolver
from relay.delivery.route import Route, configured
from relay.settings import RouteRule
from relay.smtp.client import Timeouts
from tests.delivery.build import settings
from tests.support.dns import DnsServer
from tests.support.sink import Script, Sink

NOWHERE = ["127.0.0.1:1"]  # a nameserver that is not there: literals need none


@pytest.fixture
def sinks() -> Iterator[Callable[..., Sink]]:
    """`sinks(Script(...))` starts a sink that ends with the test."""
    with ExitStack() as stack:
        yield lambda script=None, **more: stack.enter_context(Sink(script, **more))


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


@pytest.fixture
def two(sinks) -> Callable[[Script, Script], tuple[Sink, Sink]]:
    """Two sinks on the same port of two addresses: mx1 at 127.0.0.1, mx2 at 127.0.0.2, as in `build.MX`."""

    def two(first: Script, second: Script) -> tuple[Sink, Sink]:
        one = sinks(first)
        return one, sinks(second, host="127.0.0.2", port=one.port)

    return two


@pytest.fixture
def connector() -> Connector:
    return Connector(settings(), Resolver(NOWHERE), timeouts=Timeouts(connect=30, tls=30))


@pytest.fixture
def to() -> Callable[..., Route]:
    """The route of a rule that names a sink, or an address."""
    return lambda sink, **rule: configured(RouteRule(host=getattr(sink, "address", sink), **{"tls": "opportunistic", **rule}))


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., str]]:
    """`await serve(session)` runs a coroutine of reader and writer for each connection and gives the address; for servers odder than a Script."""
    servers = []

    async def serve(session) -> str:
        servers.append(await asyncio.start_server(session, "127.0.0.1", 0))
        return f"127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
async def connect(sinks, connector, to) -> AsyncIterator[Callable[..., Connection]]:
    """`await connect(Script(...))` gives a connection to a new sink; where the sink is looked at, use `sinks`."""
    made = []

    async def connect(script: Script) -> Connection:
        made.append(await connector.connect(to(sinks(script))))
        return made[-1]

    yield connect
    for connection in made:
        connection.abort()
