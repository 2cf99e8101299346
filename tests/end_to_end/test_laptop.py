"""A newcomer's first minute: config/local.toml as `make run` serves it, the line that it prints pasted into a shell, and the page that shows the mail."""

from __future__ import annotations

import re
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import submission
from tests.support.ports import free_port
from tests.support.running import OPEN, ROOT, TRUSTING, Running
from tests.support.until import until

GOOD_TIME = 4.0  # seconds from the final dot to its answer; mail libraries give up after five
SLOW = 60.0  # seconds that a policy takes


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`relay serve --config config/local.toml`, on ports and in a directory of the test's own."""
    capture = f"127.0.0.1:{free_port()}"
    settings = {
        "RELAY_CONFIG": str(ROOT / "config" / "local.toml"), "RELAY_SMTP__INBOUND": f"127.0.0.1:{free_port()}", "RELAY_CAPTURE__LISTEN": capture,
        "RELAY_DELIVERY__ROUTE": f'[{{domain = "*", host = "{capture}"}}]',
    }
    relay = Running(tmp_path_factory.mktemp("laptop"), settings, cold=True)
    del relay.settings["RELAY_HOSTNAME"]
    with relay:
        yield relay


@pytest.fixture(scope="module")
def welcome(laptop: Running) -> str:
    """What it printed for people."""
    return until(lambda: laptop.log if "Stop with Ctrl-C" in laptop.log else "")


def test_it_says_where_to_send_and_with_which_key(laptop, welcome):
    assert f"127.0.0.1:{laptop.smtp}" in re.search(r"SMTP +(\S+)", welcome)[1]
    assert f"http://127.0.0.1:{laptop.http}/dashboard" == re.search(r"Dashboard +(\S+)", welcome)[1]
    key = re.search(r"API key +(sk_live_\S+)", welcome)[1]
    with smtplib.SMTP("127.0.0.1", laptop.smtp, timeout=90) as line:
        line.login("any", key)


@pytest.mark.parametrize("tool", ["curl", "swaks"])
def test_the_line_that_it_prints_works_and_the_dashboard_shows_the_mail(need, laptop, welcome, tool):
    need(tool)
    (line,) = [part for part in re.split(r"\n\n", welcome.replace("\\\n", "")) if re.search(rf"^ *(printf.*)?\b{tool} ", part, re.MULTILINE)]
    before = laptop.get("/dashboard")[1].count("you@example.net")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: laptop.get("/dashboard")[1].count("you@example.net") > before)
    until(lambda: "delivered" in laptop.text("explain", "you@example.net"))  # what is captured is noted as delivered after that


def test_the_address_alone_leads_to_the_dashboard(laptop):
    assert laptop.get("/") == laptop.get("/dashboard")


def test_nothing_of_the_laptop_is_found_wrong(laptop):
    wrong = [each for each in laptop.command("check") if each["level"] != "ok" and each["check"] not in ("disk", "limits", "dns")]
    assert wrong == []


def test_slow_policies_are_answered_before_a_mail_library_gives_up(tmp_path: Path):
    """451 in time, so that the app tries again instead of sending twice; with an answer of ours nothing is kept."""
    slow = '[{use = "policies.headers"}, {use = "tests.support.slow", seconds = 60}, {use = "tests.support.slow", seconds = 60}]'
    with Running(tmp_path, {**OPEN, **TRUSTING, "RELAY_POLICIES__SUBMIT": slow}) as relay, smtplib.SMTP("127.0.0.1", relay.smtp, timeout=90) as line:
        line.ehlo()
        line.mail("a@example.com")
        line.rcpt("b@example.net")
        began = time.monotonic()
        code, words = line.data(b"From: a@example.com\r\n\r\nhi\r\n")
        took = time.monotonic() - began
        assert (code, words[:6]) == (451, b"4.3.0 "), words
        assert relay.command("queue", "list") == []
    assert 3.0 < took < SLOW, "it is the relay's patience that ended, not a policy"
    assert submission.PATIENCE < GOOD_TIME
