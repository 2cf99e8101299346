"""Relay processes that tests fork from a warm one: what they are told, what they write and how they end."""

import signal
import subprocess

import pytest

from tests.support import warm
from tests.support.running import TRUSTING, Running

pytestmark = pytest.mark.skipif(not warm.POSSIBLE, reason="no pidfd_open(2): tests start a Python for each relay")
ENVIRON = {"RELAY_HOSTNAME": "warm.example"}


@pytest.mark.parametrize(("arguments", "code", "out", "err"), [
    (["--version"], 0, "relay, version", ""),
    (["queue"], 2, "", "Usage: "),
    (["serve", "--config", "nowhere.toml"], 2, "", "nowhere.toml"),
], ids=["done", "usage", "no settings"])
def test_a_command_ends_as_ever(tmp_path, arguments, code, out, err):
    done = warm.run(arguments, ENVIRON, tmp_path)
    assert (done.returncode, out in done.stdout, err in done.stderr) == (code, True, True), done


def test_two_live_side_by_side_in_directories_of_their_own(tmp_path):
    one, two = (Running(tmp_path / name, {**TRUSTING, "RELAY_HOSTNAME": f"{name}.example"}) for name in ("one", "two"))
    with one, two:
        assert one.process.pid != two.process.pid
        assert [each.command("project", "list")[0]["name"] for each in (one, two)] == ["default", "default"]
        one.kill()
        assert one.process.returncode == -signal.SIGKILL
        assert two.ready()
    assert two.process.returncode == 0


def test_a_fault_point_is_that_of_one_process_alone(tmp_path):
    relay = Running(tmp_path, {})
    with pytest.raises(RuntimeError):
        relay.start(RELAY_FAULT="store.committed")
    assert relay.process.wait(150) == -signal.SIGKILL
    with relay:
        assert relay.ready()


def test_who_waits_too_short_is_told(tmp_path):
    with Running(tmp_path, {}) as relay:
        with pytest.raises(subprocess.TimeoutExpired):
            relay.process.wait(0.01)
        assert relay.process.poll() is None
