"""The control socket: who may speak, in what, and what happens to those who do not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.control import Control
from relay.control.client import Client
from relay.control.place import CONNECTIONS, LINE, NAME, listener
from relay.control.server import Server
from relay.errors import Forbidden, Invalid, NotFound, StoreError


class Echo(Control):
    """A Control whose acts touch no store."""

    async def act(self, name, arguments):
        if name == "missing":
            raise NotFound("not here")
        if name == "invalid":
            raise Invalid("colour", "there is no such colour")
        if name == "defect":
            raise ZeroDivisionError("oops")
        return {"act": name, **arguments}


@pytest.fixture
async def place(tmp_path):
    server = await Server.start(Echo(None, None, None, None), tmp_path)
    yield tmp_path
    await server.close()
    assert not (tmp_path / NAME).exists()


async def ask(place, *lines: bytes) -> list[dict]:
    """The answers, {} for none."""
    reader, writer = await asyncio.open_unix_connection(str(place / NAME), limit=2 * LINE)
    answers = []
    for line in lines:
        writer.write(line + b"\n")
        try:
            answer = await reader.readline()
        except ConnectionError:
            answer = b""
        answers.append(json.loads(answer) if answer else {})
    writer.close()
    return answers


async def test_only_the_owner_can_reach_it(place):
    assert stat.S_IMODE((place / NAME).stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
async def test_another_user_is_not_answered_even_if_he_gets_there(place):
    os.chmod(place / NAME, 0o777)
    for directory in (place, *place.parents):
        if directory != directory.parent and directory.stat().st_uid == 0 and directory.name.startswith(("pytest", "test")):
            directory.chmod(0o755)
    script = (f"import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect({str(place / NAME)!r}); "
              "s.sendall(b'{\"act\": \"x\"}\\n'); print(s.recv(100))")
    process = await asyncio.create_subprocess_exec("python3", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, _ = await process.communicate()
    assert b"act" not in output


async def test_several_requests_on_one_connection(place):
    assert await ask(place, b'{"act": "a"}', b'{"act": "b", "arguments": {"x": 1}}') == [{"result": {"act": "a"}}, {"result": {"act": "b", "x": 1}}]


@pytest.mark.parametrize(("line", "says"), [
    (b"hello", "not a request"), (b"[]", "not a request"), (b'{"arguments": {}}', "not a request"), (b'{"act": 1}', "act is a text"),
    (b'{"act": "a", "arguments": []}', "arguments an object"), (b"\xff\xfe", "not a request"), (b"", "not a request"),
])
async def test_what_is_no_request_is_told_so_and_the_next_one_works(place, line, says):
    bad, good = await ask(place, line, b'{"act": "a"}')
    assert says in bad["error"]["text"]
    assert good == {"result": {"act": "a"}}


async def test_a_defect_is_told_and_does_not_end_the_relay(place):
    [answer, after] = await ask(place, b'{"act": "defect"}', b'{"act": "a"}')
    assert "ZeroDivisionError" in answer["error"]["text"]
    assert after == {"result": {"act": "a"}}


async def test_a_line_without_end_is_cut_off(place):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place / NAME))
        sent = await asyncio.to_thread(_pour, client, 64 * LINE)
    assert sent < 8 * LINE
    assert (await ask(place, b'{"act": "a"}'))[0] == {"result": {"act": "a"}}


def _pour(client: socket.socket, total: int) -> int:
    """How many octets without a line end went out before the server hung up."""
    sent = 0
    try:
        while sent < total:
            sent += client.send(b"x" * 65_536)
    except OSError:
        pass
    return sent


async def test_connections_are_bounded_and_free_again(place):
    held = [await asyncio.open_unix_connection(str(place / NAME)) for _ in range(CONNECTIONS)]
    for _, writer in held:
        writer.write(b'{"act": "a"}\n')
    for reader, _ in held:
        assert await reader.readline()
    assert await ask(place, b'{"act": "a"}') == [{}]
    held[0][1].close()
    await held[0][1].wait_closed()
    async with asyncio.timeout(60):
        while await ask(place, b'{"act": "a"}') == [{}]:
            await asyncio.sleep(0)


async def test_the_client_raises_what_was_raised_over_there(place):
    def talk() -> None:
        with Client.connect(place) as client:
            assert client.act("a", {"x": "ä"}) == {"act": "a", "x": "ä"}
            with pytest.raises(NotFound, match="not here"):
                client.act("missing", {})
            with pytest.raises(Invalid) as invalid:
                client.act("invalid", {})
            assert invalid.value.field == "colour"

    await asyncio.to_thread(talk)


def test_where_no_relay_runs_there_is_no_client(tmp_path):
    assert Client.connect(tmp_path) is None
    assert Client.connect(tmp_path / "not-there") is None
    listener(tmp_path / NAME).close()  # left behind by a relay that was killed
    assert Client.connect(tmp_path) is None


def test_a_relay_that_dies_in_between_is_an_error(tmp_path):
    with listener(tmp_path / NAME) as server:
        server.setblocking(True)
        with Client.connect(tmp_path) as client:
            server.accept()[0].close()
            with pytest.raises((Forbidden, StoreError)):
                client.act("a", {})


def test_a_deep_directory_is_reached_all_the_same(tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with listener(deep / NAME), Client.connect(deep) as client:
        assert client is not None
    assert stat.S_ISSOCK((deep / NAME).stat().st_mode)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300).filter(lambda line: b"\n" not in line))
def test_any_line_gets_an_answer(line):
    from relay.control.server import _request

    try:
        name, arguments = _request(line)
    except Invalid:
        return
    assert isinstance(name, str)
    assert isinstance(arguments, dict)

