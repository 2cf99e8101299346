"""Processes give way to mail where that is allowed, and work where it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay import priority

UNIT = Path(__file__).parents[2] / "systemd" / "relay.service"


def test_a_process_is_as_nice_as_it_says():
    act = "import os; from relay import priority; before = os.nice(0); priority.give_way(3); print(os.nice(0) - before)"
    said = subprocess.run([sys.executable, "-c", act], capture_output=True, text=True, check=True)
    assert said.stdout == "3\n"


@pytest.mark.parametrize("act", [priority.give_way, priority.idle])
def test_a_sandbox_that_forbids_it_stops_nobody(act, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "nice", refused)
    monkeypatch.setattr(os, "sched_setscheduler", refused, raising=False)
    act(5)


def test_the_unit_allows_it_after_what_it_forbids():
    lines = [line for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter=")]
    assert "@resources" in lines[-2]
    assert lines[-1] == "SystemCallFilter=setpriority sched_setscheduler"
