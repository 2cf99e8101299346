"""The commands while a relay runs on the same data_dir: they act in it, and what they change counts at once."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.control.place import NAME
from relay.store import lock
from tests.cli.conftest import ROOT, Relay, configured
from tests.support.ports import free_port

START = 60.0  # seconds a relay may take to answer on its control socket


SETTINGS = """
[smtp]
submission = "127.0.0.1:{0}"
[domains]
require_verified = false
[store]
min_free = "1MB"
reserve = "1MB"
[capture]
listen = "127.0.0.1:{1}"
[[delivery.route]]
domain = "nowhere.example"
host = "127.0.0.1:1"
[[delivery.route]]
domain = "*"
host = "127.0.0.1:{1}"
"""


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """Submission and capture."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
def served(ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for all tests of this file."""
    relay = configured(tmp_path_factory.mktemp("running"), SETTINGS.format(*ports))
    with serving(relay):
        yield relay


@contextmanager
def serving(relay: Relay) -> Iterator[None]:
    """`relay serve` in a process of its own, from when it answers commands; it must end well."""
    directory = relay.config.parent
    log = directory / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "relay", "serve", "--config", str(relay.config)], cwd=ROOT, stdout=file, stderr=file)
    try:
        _wait_for(directory / "data" / "control.sock", process, log)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(150) == 0, log.read_text()


@pytest.fixture
def running(served: Relay) -> Relay:
    """That relay, with nothing waiting, and no site left alone for what it did to the mail of other tests."""
    served.text("queue", "cancel", "--all")
    served("queue", "resume", "route:127.0.0.1:1")  # refused where there is no such site yet
    return served


def _wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(path))
                return
            except OSError:
                process.poll()
                os.sched_yield()
    pytest.fail(log.read_text())


def _send(port: int, key: str, to: str, subject: str = "hello") -> str:
    """The em_ id of a message that was accepted."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.login("any", key)
        client.mail("app@a.example")
        client.rcpt(to)
        code, text = client.data(f"From: app@a.example\r\nTo: {to}\r\nMessage-ID: <Mixed.{time.time_ns()}@A.example>\r\nSubject: {subject}\r\n\r\nhello\r\n")
        assert code == 250, text
        return text.decode().split()[-1]


def _until(what, wanted, seconds: float = 60.0):
    """What `what()` gives once it is as wanted; a running relay is asked again until then."""
    end = time.monotonic() + seconds
    while not wanted(found := what()):
        assert time.monotonic() < end, found
    return found


def test_a_key_counts_at_once_and_is_dead_at_once(running, ports):
    key = running.text("key", "create", "--name", "app").strip()
    with smtplib.SMTP("127.0.0.1", ports[0], timeout=60) as client:
        client.login("any", key)
        assert client.mail("app@a.example")[0] == 250
        client.rset()
        running.text("key", "revoke", "app")
        assert client.mail("app@a.example")[0] == 535
    with smtplib.SMTP("127.0.0.1", ports[0], timeout=60) as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("any", key)


@pytest.mark.parametrize("command", [("key", "create"), ("migrate",)], ids=" ".join)
def test_a_command_waits_for_a_relay_that_is_starting(tmp_path, command):
    """`relay serve & relay key create`, as scripts do."""
    relay = configured(tmp_path, "[store]\nmin_free = \"1MB\"\nreserve = \"1MB\"\n")
    process = subprocess.Popen([sys.executable, "-m", "relay", "serve", "--config", str(relay.config)], cwd=ROOT)
    try:
        _until(lambda: lock.holder(tmp_path / "data") if (tmp_path / "data").exists() else None, lambda pid: pid == process.pid)
        assert not (tmp_path / "data" / NAME).exists()
        said = relay.text(*command).strip()
        keys = relay.json("key", "list")
        assert (said.startswith("the store has schema"), not keys) if command == ("migrate",) else keys[0]["prefix"] == said[:len("sk_live_0000")]
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(150) == 0


def test_a_delivered_message_is_explained(running, ports):
    number = _send(ports[0], running.text("key", "create").strip(), "ann@b.example")
    told = _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["status"] == "delivered")
    [recipient] = told["recipients"]
    [attempt] = recipient["attempts"]
    assert (attempt["result"], attempt["phase"], attempt["address"]) == ("delivered", "dot", "127.0.0.1")
    assert attempt["reply"].startswith("250 2.0.0")
    assert any(d["policy"] == "headers" for d in told["decisions"])
    for other in (told["message_id"], f"<{told['message_id']}>"):
        assert running.json("explain", other)["messages"][0]["id"] == number
    text = running.text("explain", "Ann@B.example")
    for words in (number, "delivered", "250 2.0.0", "app@a.example", "Policies"):
        assert words in text


def test_mail_that_waits_is_listed_explained_and_cancelled(running, ports):
    number = _send(ports[0], running.text("key", "create").strip(), "ann@nowhere.example")
    told = _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["recipients"][0]["attempts"])
    recipient = told["recipients"][0]
    assert (told["status"], recipient["attempts"][0]["result"]) == ("deferred", "conn_error")
    assert recipient["next_attempt_at"] > told["accepted_at"]
    [row] = running.json("queue", "list", "--domain", "nowhere.example")
    assert (row["message_id"], row["to"], row["state"]) == (number, "ann@nowhere.example", "deferred")
    assert running.json("queue", "list", "--domain", "b.example") == []
    assert "Subject: hello" in running.text("queue", "show", number)
    assert running("queue", "cancel").returncode == 1
    assert running.text("queue", "cancel", number) == "1 recipients are cancelled\n"
    assert running.json("explain", number)["messages"][0]["status"] == "cancelled"
    assert running("queue", "cancel", number).returncode == 1


@pytest.mark.parametrize("filters", [
    ("--project", "default"), ("--domain", "nowhere.example"), ("--site", "route:127.0.0.1:1"), ("--key", "only-here"), ("--older-than", "0s"), ("--all",),
    ("ann@nowhere.example",)], ids=lambda f: f[0])
def test_held_mail_waits_for_its_release(running, ports, filters):
    running.text("queue", "suspend", "route:127.0.0.1:1")
    name = "only-here" if "--key" in filters else "other"
    number = _send(ports[0], running.text("key", "create", "--name", name).strip(), "ann@nowhere.example")
    assert running.text("queue", "hold", *filters) == "1 recipients are held\n"
    assert running.json("explain", number)["messages"][0]["recipients"][0]["state"] == "held"
    assert running.text("queue", "release", *filters) == "1 recipients are released\n"
    assert running.json("queue", "list")[0]["state"] == "queued"


def test_a_suspended_site_gets_nothing_until_it_is_resumed(running, ports):
    site = f"route:127.0.0.1:{ports[1]}"
    running.text("queue", "suspend", site, "--reason", "moving")
    number = _send(ports[0], running.text("key", "create").strip(), "ann@b.example")
    told = _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["recipients"][0]["limited_by"])
    assert "moving" in told["recipients"][0]["limited_by"]
    assert told["recipients"][0]["attempts"] == []
    assert running.json("queue", "sites")[0]["site"] == site
    running.text("queue", "resume", site)
    _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["status"] == "delivered")
    assert running("queue", "resume", site).returncode == 1


def test_a_domain_stands_for_the_site_that_its_mail_goes_to(running, ports):
    site = f"route:127.0.0.1:{ports[1]}"
    assert running.json("queue", "suspend", "B.example")["site"] == site
    number = _send(ports[0], running.text("key", "create").strip(), "ann@b.example")
    _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["recipients"][0]["limited_by"])
    assert [row["to"] for row in running.json("queue", "list", "--site", "b.example")] == ["ann@b.example"]
    assert running.text("queue", "resume", "b.example") == f"{site} is no longer suspended\n"
    _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["status"] == "delivered")


def test_mail_that_only_waits_for_its_time_is_limited_by_nothing(running, ports):
    running("queue", "resume", "nowhere.example")  # where another test has suspended it
    number = _send(ports[0], running.text("key", "create").strip(), "ann@nowhere.example")
    told = _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["recipients"][0]["attempts"])["recipients"][0]
    assert (told["state"], told["limited_by"]) == ("deferred", None)
    assert told["next_attempt_at"] is not None


def test_a_suppression_stops_mail_that_waits(running, ports):
    key = running.text("key", "create").strip()
    running.text("queue", "suspend", f"route:127.0.0.1:{ports[1]}")
    number = _send(ports[0], key, "zoe@b.example")
    running.text("suppress", "add", "ZOE@b.example", "--reason", "complaint")
    running.text("queue", "resume", f"route:127.0.0.1:{ports[1]}")
    found = _until(lambda: running.json("explain", "zoe@b.example"), lambda found: found["messages"][0]["status"] == "suppressed")
    assert found["messages"][0]["id"] == number
    assert [s["reason"] for s in found["suppressions"]] == ["complaint"]
    with smtplib.SMTP("127.0.0.1", ports[0], timeout=60) as client:
        client.login("any", key)
        client.mail("app@a.example")
        assert client.rcpt("zoe@b.example")[0] == 550
    running.text("suppress", "remove", "zoe@b.example")


def test_a_second_relay_is_refused(running):
    done = running.process("serve")
    assert done.returncode == 1
    assert "in use by the relay with pid" in done.stderr


def test_a_running_relay_is_checked_and_backed_up(running, tmp_path):
    findings = running("check", "--json")
    assert '"check": "listeners"' in findings.stdout
    assert '"level": "error"' not in findings.stdout, findings.stdout
    running.text("key", "create", "--name", "kept")
    assert "relay queue release --all" in running.text("backup", str(tmp_path / "copy"))
    assert running("backup", str(tmp_path / "copy")).returncode == 1
    copy = Relay(tmp_path / "copy.toml")
    copy.config.write_text(f'data_dir = "{tmp_path / "copy"}"\nhostname = "copy.example"\n')
    assert "kept" in [key["name"] for key in copy.json("key", "list")]


def test_a_restored_copy_sends_nothing_until_it_is_released(running, ports, tmp_path):
    running.text("queue", "suspend", f"route:127.0.0.1:{ports[1]}")
    number = _send(ports[0], running.text("key", "create").strip(), "kim@b.example")
    running.text("backup", str(tmp_path / "data"))
    running.text("queue", "resume", f"route:127.0.0.1:{ports[1]}")
    _until(lambda: running.json("explain", number)["messages"][0], lambda told: told["status"] == "delivered")
    copy = configured(tmp_path, SETTINGS.format(free_port(), free_port()))
    with serving(copy):
        copy.text("queue", "resume", f"route:127.0.0.1:{ports[1]}")
        told = copy.json("explain", number)["messages"][0]
        assert told["recipients"][0]["limited_by"] == "the queue is held until `relay queue release --all`"
        copy.text("queue", "release", "--all")
        _until(lambda: copy.json("explain", number)["messages"][0], lambda told: told["status"] == "delivered")
    with serving(copy):
        assert copy.json("queue", "list") == []


def test_migrate_beside_a_running_relay_has_nothing_to_do(running):
    assert running.text("migrate").startswith("the store has schema")
