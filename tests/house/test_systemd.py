"""The protocol of systemd, with its real sockets: what is inherited, what is told, who watches."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest

from relay import systemd


def test_nothing_is_inherited_without_systemd():
    assert systemd.inherited({}) == ()
    assert systemd.inherited({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == ()


def test_a_child_adopts_its_sockets_by_name_and_port():
    """The variables and descriptors as systemd's exec leaves them, in a real process."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    script = textwrap.dedent("""
        import json, os, socket
        from relay import systemd
        os.environ["LISTEN_PID"] = str(os.getpid())
        found = systemd.inherited()
        ports = [i.socket.getsockname()[1] for i in found]
        print(json.dumps({
            "names": [i.name for i in found], "ports": ports, "tcp": all(i.socket.proto == socket.IPPROTO_TCP for i in found),
            "by_name": found[0].serves("submission", 1), "by_port": found[1].serves("inbound", ports[1]), "neither": found[1].serves("inbound", 1),
            "left": [name for name in os.environ if name.startswith("LISTEN")], "kept": any(os.get_inheritable(i.socket.fileno()) for i in found),
        }))
    """)

    def place() -> None:  # systemd puts them at 3 and 4
        high = [os.dup2(s.fileno(), 100 + n) for n, s in enumerate(sockets)]
        for number, fd in enumerate(high):
            os.dup2(fd, 3 + number)

    environ = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "submission:relay.socket"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environ, pass_fds=(3, 4), preexec_fn=place, check=True)  # noqa: S603
    assert json.loads(done.stdout) == {
        "names": ["submission", "relay.socket"], "ports": [s.getsockname()[1] for s in sockets], "tcp": True,
        "by_name": True, "by_port": True, "neither": False, "left": [], "kept": False,
    }


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path, monkeypatch):
    address = str(tmp_path / "notify") if request.param == "path" else f"\0relay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.settimeout(5)
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
