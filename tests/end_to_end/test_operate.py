"""A relay process under its operator: signals, systemd, probes, and the figures that Prometheus reads."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from relay import heap
from tests.support.running import OPEN, START, TRUSTING, Running, routed
from tests.support.sink import Sink
from tests.support.until import PATIENCE

MESSAGE = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\n\r\nhi\r\n"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture
def settings(sink) -> dict[str, str]:
    return {**OPEN, **TRUSTING, **routed(sink.address)}


def send(port: int, count: int) -> None:
    for _ in range(count):
        with smtplib.SMTP("127.0.0.1", port, timeout=START) as line:  # it may be the one whose connection starts the relay
            line.sendmail("a@example.com", ["b@example.net"], MESSAGE)


def figure(text: str, name: str, **labels: str) -> float:
    """The sum of a series' samples that have these labels."""
    total = 0.0
    for found in re.finditer(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE):
        have = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
        if labels.items() <= have.items():
            total += float(found[2])
    return total


@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "two workers"])
def test_the_figures_are_one_total_and_please_promtool(need, tmp_path, settings, sink, workers):
    with Running(tmp_path, settings, workers) as relay:
        send(relay.smtp, 20)
        sink.wait(20)
        deadline = time.monotonic() + PATIENCE
        while True:  # workers send their share each second or so
            text = relay.get("/metrics")[1]
            mail = figure(text, "relay_messages_received_total"), figure(text, "relay_delivery_attempts_total", result="delivered")
            if mail == (20, 20) and figure(text, "relay_smtp_connections_total", result="ok") >= 20 and 'relay_contacts{status="subscribed"} 0' in text:
                break
            assert time.monotonic() < deadline, text
            threading.Event().wait(0.05)
        checked = subprocess.run([need("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        fsyncs, memory = figure(text, "relay_store_fsync_seconds_count"), figure(text, "relay_memory_limit_ratio")
        assert 0 < fsyncs <= figure(text, "relay_store_commit_seconds_count")
        assert memory * heap.limit() > (0.5 + 0.26 * workers) * figure(text, "process_resident_memory_bytes")  # which is main's alone


def test_term_ends_it_and_nothing_is_left_listening(tmp_path, settings):
    relay = Running(tmp_path, settings)
    relay.start()
    assert relay.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", relay.smtp), 5)
    assert not (tmp_path / "submit.sock").exists() or not _answers(tmp_path / "submit.sock")


def _answers(path) -> bool:
    with socket.socket(socket.AF_UNIX) as line, contextlib.suppress(OSError):
        line.connect(str(path))
        return True
    return False


def test_systemd_hears_how_it_goes(tmp_path, settings):
    """READY once it serves, a sign of life within the watchdog's time, RELOADING and READY around a HUP, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        with Running(tmp_path, {**settings, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}) as relay:
            assert "READY=1" in heard(listener, "READY=1")
            heard(listener, "WATCHDOG=1")
            relay.process.send_signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in heard(listener, "RELOADING=1")
            heard(listener, "READY=1")
            assert relay.ready()
        heard(listener, "STOPPING=1")


def heard(listener: socket.socket, state: str) -> str:
    """The first message with this state; raises TimeoutError."""
    while state not in (said := listener.recv(1_000).decode()):
        continue
    return said


def test_systemd_opens_the_port(need, tmp_path, settings, sink):
    """With relay.socket the port is open before the relay is, and a first client is served by what its connection started."""
    relay = Running(tmp_path, settings)
    command = [need("systemd-socket-activate"), "--listen", f"127.0.0.1:{relay.smtp}", "--fdname=relay.socket"]
    passed = [f"--setenv={name}" for name in relay.environ]
    process = subprocess.Popen([*command, *passed, sys.executable, "-m", "relay", "serve"], env=relay.environ, cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        assert b"Listening on" in process.stderr.readline()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        send(relay.smtp, 2)
        sink.wait(2)
    finally:
        process.terminate()
        assert process.wait(150) == 0


def test_a_second_relay_on_the_same_directory_refuses_to_start(tmp_path, settings):
    with Running(tmp_path, settings) as relay:
        done = relay.run("serve")
        assert done.returncode != 0
        assert str(tmp_path) in done.stderr
        assert relay.ready()


def test_log_lines_carry_the_message_from_the_door_to_its_end(tmp_path, settings, sink):
    with Running(tmp_path, settings) as relay:
        send(relay.smtp, 1)
        sink.wait(1)
    lines = [json.loads(line) for line in relay.log.splitlines() if line.startswith("{")]
    (accepted,) = [line for line in lines if line["event"] == "accepted"]
    assert re.fullmatch(r"em_\w{13}", accepted["id"])
    assert {line["logger"] for line in lines if line.get("id") == accepted["id"]} >= {"door", "queue"}
    assert os.path.getsize(tmp_path / "log") < 20_000


def test_a_refusal_is_logged_with_its_client_and_without_its_secret(tmp_path, settings):
    """What fail2ban reads, and what tells an operator why an app's mail never came in."""
    with Running(tmp_path, settings) as relay, smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60) as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("app", "sk_live_guessed")
    refused = [json.loads(line) for line in relay.log.splitlines() if '"refused"' in line]
    assert {(line["event"], line["stage"], line["client"], line["reply"][:9]) for line in refused} == {("refused", "auth", "127.0.0.1", "535 5.7.8")}
    assert "guessed" not in relay.log


def test_mailq_shows_what_waits(tmp_path, settings, sink):
    sink.script.dot = "451 4.3.0 come back later"
    with Running(tmp_path, settings) as relay:
        send(relay.smtp, 1)
        deadline = time.monotonic() + PATIENCE
        while "come back later" not in (said := relay.run("explain", "b@example.net").stdout):
            assert time.monotonic() < deadline, said
            threading.Event().wait(0.05)
        command = [sys.executable, "-c", "import sys; from relay.cli.sendmail import mailq; sys.exit(mailq())"]
        done = subprocess.run(command, env=relay.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150)
        assert (done.returncode, done.stderr) == (0, "")
        assert "b@example.net" in done.stdout
