"""Places for unknown clients become scarce: the quiet ones among them leave after a minute instead of five; who has proved himself stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.smtp.connection import HURRIED, SWEEPS
from relay.smtp.limits import Connections
from relay.smtp.server import IDLE, Listener
from tests.smtp.test_server import INBOUND, SUBMISSION, greeted, serving

pytestmark = pytest.mark.both_loops
CLEAR = replace(SUBMISSION, plaintext_auth=("127.0.0.0/8",))


def look(listener: Listener, times: int) -> None:
    """The sweeps of the idle time, which is too long for one to come by itself."""
    for connection in tuple(listener.open):
        for _ in range(times):
            connection.look()


def test_the_shorter_time_is_a_minute():
    assert HURRIED * IDLE / SWEEPS == 60.0


async def test_a_quiet_unknown_client_leaves_sooner_and_a_known_one_stays():
    async with serving(replace(CLEAR, connections=Connections(4, reserve=0.5))) as (listener, address):
        known = await greeted(address)
        assert (await known.ask(b"AUTH PLAIN AGFwaQBnb29k")).startswith(b"235")
        unknown = await greeted(address)
        look(listener, HURRIED)
        assert (await unknown.ask(b"NOOP")).startswith(b"250")
        assert (await known.ask(b"NOOP")).startswith(b"250")
        look(listener, HURRIED + 1)
        assert (await unknown.hear()).startswith(b"421 4.4.2")
        assert (await known.ask(b"NOOP")).startswith(b"250")


@pytest.mark.parametrize("options", [CLEAR, INBOUND], ids=["submission", "inbound"])
async def test_while_there_is_room_nobody_is_hurried(options):
    async with serving(replace(options, connections=Connections(100))) as (listener, address):
        client = await greeted(address)
        look(listener, SWEEPS)
        assert (await client.ask(b"NOOP")).startswith(b"250")
        look(listener, SWEEPS + 1)
        assert (await client.hear()).startswith(b"421 4.4.2")
