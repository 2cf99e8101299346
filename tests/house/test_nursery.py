"""What workers are forked from: it holds nothing that is not its own, is replaced when it dies, and ends with the main process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.fleet import Fleet
from tests.support.running import OPEN, ROOT, TRUSTING, Running, routed
from tests.support.sink import Sink
from tests.support.until import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no proc(5): nobody tells who forked whom")
MESSAGE = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\n\r\nhi\r\n"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture
def relay(tmp_path: Path, sink: Sink) -> Iterator[Running]:
    with Running(tmp_path, {**OPEN, **TRUSTING, **routed(sink.address)}, workers=2) as running:
        yield running


def send(relay: Running, to: str) -> None:
    with smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60) as line:
        line.sendmail("a@example.com", [to], MESSAGE)


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody awaits does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sockets(pid: int) -> set[str]:
    """Its sockets, by inode; one that is closed meanwhile is none."""
    links = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(each))
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}


def listening() -> set[str]:
    """The inodes of this machine's sockets that listen on IPv4, and of its Unix sockets with a path."""
    tcp = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    unix = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return {fields[9] for fields in tcp if fields[3] == "0A"} | {fields[6] for fields in unix if len(fields) > 7}


def test_it_has_one_thread_and_no_listening_socket(relay: Running) -> None:
    (nursery,) = relay.nurseries_now()
    assert len(list(Path(f"/proc/{nursery}/task").iterdir())) == 1
    assert sockets(relay.process.pid) & listening(), "the main process has some"
    assert not sockets(nursery) & listening()


def test_processes_are_told_apart_by_name(relay: Running) -> None:
    (nursery,) = relay.nurseries_now()
    expected = {"relay-nursery", "relay-worker-1", "relay-worker-2"}
    until(lambda: {Path(f"/proc/{pid}/comm").read_text().strip() for pid in (nursery, *relay.workers_now())} == expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signals_of_a_terminal_are_left_to_the_main_process(relay: Running, sink: Sink, number: signal.Signals) -> None:
    (nursery,), workers = relay.nurseries_now(), relay.workers_now()
    for pid in (nursery, *workers):
        os.kill(pid, number)
    for each in range(4):  # by the kernel's choice of a worker
        send(relay, f"{each}@example.net")
    sink.wait(4)
    assert (relay.nurseries_now(), relay.workers_now()) == ([nursery], workers)


def test_one_that_is_killed_is_replaced_and_so_are_its_workers(relay: Running, sink: Sink) -> None:
    """A session that was open with a worker of the dead one is finished by that worker."""
    (nursery,), workers = relay.nurseries_now(), relay.workers_now()
    open_ = smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60)
    open_.ehlo()
    open_.mail("a@example.com")
    open_.rcpt("open@example.net")
    os.kill(nursery, signal.SIGKILL)
    until(lambda: len(relay.workers_now()) == 2 and nursery not in relay.nurseries_now(), 40)
    assert open_.data(MESSAGE)[0] == 250
    assert open_.getreply()[0] == 421
    open_.close()
    until(lambda: not any(map(alive, workers)))
    send(relay, "after@example.net")
    sink.wait(2)
    assert relay.ready()
    assert Counter(name for each in sink.messages for name in each.recipients) == {"open@example.net": 1, "after@example.net": 1}


async def test_a_stop_before_the_workers_are_there_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets of a worker whose turn had not come are closed by then: it is not started any more."""
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))  # where no main process is: a worker that is started after all gives up
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    places = [{"submission": socket.create_server(("127.0.0.1", 0))} for _ in range(3)]
    fleet = Fleet(None, places, 0, lambda pid: None, None)
    fleet.start()
    await asyncio.sleep(0)
    await fleet.stop(0.1)
    assert len(fleet.pids) <= 1


class FirstProcess(Running):
    """A relay that orphans below it come to, as they do to process 1 of a container (PR_SET_CHILD_SUBREAPER of prctl(2))."""

    COMMAND = "import ctypes, runpy; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); runpy.run_module('relay', run_name='__main__')"

    def _launch(self, command, environ, log):
        return subprocess.Popen([sys.executable, "-c", self.COMMAND, *command], env=environ, stdout=log, stderr=log, cwd=self.directory)


def test_process_1_of_a_container_keeps_no_dead_workers(tmp_path: Path, sink: Sink) -> None:
    """Workers of a nursery that was killed are ours to await: whoever does not keeps a line of each in the table of processes for ever."""
    with FirstProcess(tmp_path, {**OPEN, **TRUSTING, **routed(sink.address)}, workers=2) as relay:
        (nursery,), workers = relay.nurseries_now(), relay.workers_now()
        os.kill(nursery, signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (nursery, *workers)), 40)
        until(lambda: len(relay.workers_now()) == 2, 40)
        assert relay.process.poll() is None


def test_it_ends_with_the_main_process(relay: Running) -> None:
    young = [*relay.nurseries_now(), *relay.workers_now()]
    assert len(young) == 3
    relay.kill()
    until(lambda: not any(map(alive, young)))


def test_a_start_that_fails_leaves_none(relay: Running, sink: Sink) -> None:
    """Another relay on the same data: refused, and nothing of it stays."""
    second = relay.run("serve", "--workers", "2")
    assert second.returncode == 1
    ours = {relay.process.pid, *relay.nurseries_now(), *relay.workers_now()}
    until(lambda: {pid for pid in _here(relay.directory) if alive(pid)} == ours)


def _here(directory: Path) -> Iterator[int]:
    """The processes that run in this directory."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(directory):
                yield int(entry.name)
        except OSError:
            continue
