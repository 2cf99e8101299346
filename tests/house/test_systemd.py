"""The protocol of systemd, with its real sockets: what is inherited, what is told, who watches."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from relay import systemd


def test_nothing_is_inherited_without_systemd():
    assert systemd.inherited({}) == ()
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "submission", "PATH": "/bin"}
    assert systemd.inherited(environ) == ()
    assert environ == {"PATH": "/bin"}  # and no child is told of sockets that are not its own


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path, monkeypatch):
    address = str(tmp_path / "notify") if request.param == "path" else f"\0relay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        yield server


def test_the_state_is_told(listener):
    assert systemd.notify("READY=1", "STATUS=serving")
    assert listener.recv(100) == b"READY=1\nSTATUS=serving"
    assert systemd.reloading()
    assert listener.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_nobody_listens(tmp_path):
    assert not systemd.notify("READY=1", environ={})
    assert not systemd.notify("READY=1", environ={"NOTIFY_SOCKET": str(tmp_path / "gone")})


async def test_signs_of_life_come_from_the_loop(listener):
    beating = asyncio.create_task(systemd.watchdog(0.01))
    for _ in range(3):
        assert await asyncio.to_thread(listener.recv, 100) == b"WATCHDOG=1"
    beating.cancel()


@pytest.mark.parametrize(("environ", "seconds"), [
    pytest.param({}, None, id="none"),
    pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half"),
    pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, id="another's"),
    pytest.param({"WATCHDOG_USEC": "x"}, None, id="nonsense"),
])
def test_the_watchdogs_interval(environ, seconds):
    assert systemd.watchdog_interval(environ) == seconds
