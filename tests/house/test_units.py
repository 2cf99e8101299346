"""systemd's own tools on our units: they parse, they are hardened, their sockets reach a process."""

from __future__ import annotations

import configparser
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from relay.settings import Settings

UNITS = Path(__file__).parents[2] / "systemd"


@pytest.fixture
def installed(tmp_path) -> Path:
    """The units as on a machine where /usr/bin/relay exists."""
    for unit in UNITS.glob("relay.s*"):
        (tmp_path / unit.name).write_text(re.sub("^ExecStart=/usr/bin/relay", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    return tmp_path


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes="#", delimiters="=")
    parsed.optionxform = str
    parsed.read(UNITS / name)
    return parsed


def test_the_units_verify(need, installed):
    command = [need("systemd-analyze"), "verify", "--man=no", str(installed / "relay.service"), str(installed / "relay.socket")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_hardened(need, installed):
    command = [need("systemd-analyze"), "security", "--offline=true", "--threshold=20", str(installed / "relay.service")]  # 20 is an exposure of 2.0
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    assert float(re.search(r"Overall exposure level for relay.service: ([\d.]+)", done.stdout)[1]) <= 2.0


def test_a_stop_lets_the_drain_end():
    service, defaults = unit("relay.service")["Service"], Settings()
    assert service["KillMode"] == "mixed"
    assert service["TimeoutStopSec"] == "2min"
    assert defaults.shutdown_timeout < 120
    assert defaults.delivery.drain < 120


def test_the_service_says_when_it_is_ready_and_alive():
    service = unit("relay.service")["Service"]
    assert (service["Type"], service["WatchdogSec"], service["StateDirectoryMode"]) == ("notify", "30s", "0711")


def test_a_socket_of_systemd_reaches_the_process(need, free_port):
    """systemd-socket-activate is systemd's own way to start a program on its sockets."""
    port = free_port()
    script = (
        "from relay import systemd\n"
        "(found,) = systemd.inherited()\n"
        f"assert found.serves('submission', {port}) and found.serves('x', {port}) and not found.serves('x', 1)\n"
        "import socket; assert found.socket.proto == socket.IPPROTO_TCP\n"
        "found.socket.setblocking(True)\n"
        "found.socket.accept()[0].sendall(b'220 hello')\n"
    )
    command = [need("systemd-socket-activate"), "--listen", f"127.0.0.1:{port}", "--fdname=submission", sys.executable, "-c", script]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert b"Listening on" in process.stderr.readline()
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        assert client.recv(100) == b"220 hello"
    assert process.wait(150) == 0
