"""One relay on a data directory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from relay.errors import StoreError
from relay.store import lock

HOLD = "import sys, time; from relay.store import lock\nwith lock.hold(sys.argv[1]): print('held', flush=True); sys.stdin.read()"


def test_a_second_holder_is_told_the_pid_of_the_first(tmp_path):
    with lock.hold(tmp_path / "data"):
        assert lock.holder(tmp_path / "data") == os.getpid()
        with pytest.raises(StoreError, match=f"pid {os.getpid()}"), lock.hold(tmp_path / "data"):
            pass
    assert lock.holder(tmp_path / "data") is None
    with lock.hold(tmp_path / "data"):
        pass


def test_a_lock_dies_with_its_process(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert lock.holder(tmp_path) == other.pid
        with pytest.raises(StoreError, match=f"pid {other.pid}"), lock.hold(tmp_path):
            pass
        other.kill()
        other.wait()
        with lock.hold(tmp_path):
            pass


def test_who_only_looks_keeps_nobody_out(tmp_path):
    """A command that looks has the lock for a moment; a relay that starts in it waits."""
    looking, ended = threading.Event(), threading.Event()

    def look() -> None:
        while not ended.is_set():
            lock.holder(tmp_path)
            looking.set()

    with lock.hold(tmp_path):
        pass
    looker = threading.Thread(target=look)
    looker.start()
    try:
        assert looking.wait(5)
        for _ in range(200):
            with lock.hold(tmp_path):
                pass
    finally:
        ended.set()
        looker.join()


def test_nobody_holds_what_is_not_there(tmp_path):
    assert lock.holder(tmp_path / "none") is None


def test_the_name_of_a_directory_lasts(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = lock.node(tmp_path / "one")
    assert lock.node(tmp_path / "one") == first != lock.node(tmp_path / "two")
    assert len(first) <= 64
    (tmp_path / "one" / "node").write_text("")
    assert not lock.node(tmp_path / "one").endswith(":")
