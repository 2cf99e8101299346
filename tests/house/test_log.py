"""Log lines: levels, secrets, control characters, a stuck reader, several processes on one pipe."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time

import pytest

from relay import log


@pytest.fixture
def lines():
    """Start the writer on a pipe; `lines()` stops it and gives what it wrote."""
    reader, writer = os.pipe()
    taken = []

    def take() -> list[dict]:
        taken.append(True)
        log.stop()
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            return [json.loads(line) for line in pipe]

    log.start("info", "json", writer)
    yield take
    if not taken:
        os.close(reader)  # a writer that is stuck hears that nobody reads
    log.stop()
    log._writer = log.Writer()


def test_a_line_carries_the_fields_of_its_logger_and_its_own(lines):
    log.get("queue").bind(id="em_1").info("settled", code=250, seconds=0.5)
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "event": "settled", "logger": "queue", "id": "em_1", "code": 250, "seconds": 0.5}


def test_lines_below_the_level_are_not_written(lines):
    logger = log.get("x")
    logger.debug("no")
    logger.info("yes")
    logger.warning("yes too")
    assert [line["event"] for line in lines()] == ["yes", "yes too"]


@pytest.mark.parametrize(
    ("fields", "secret"),
    [
        ({"password": "hunter2"}, "hunter2"),
        ({"smtp_password": "hunter2"}, "hunter2"),
        ({"Authorization": "Bearer hunter2"}, "hunter2"),
        ({"metrics_token": "hunter2"}, "hunter2"),
        ({"text": "key sk_live_ABCdef123 refused"}, "ABCdef123"),
        ({"text": ["nested", {"deep": "sk_test_ABCdef123"}]}, "ABCdef123"),
        ({"url": "postgresql://relay:hunter2@db/relay"}, "hunter2"),
        ({"text": "< AUTH PLAIN AGFwcABodW50ZXIy"}, "AGFwcABodW50ZXIy"),
        ({"pem": "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----\n"}, "MIIEvQ"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("form", [log.JSON, log.CONSOLE], ids=["json", "console"])
def test_secrets_never_reach_a_line(fields, secret, form):
    line = log.rendered(form, 0.0, 20, "x", {}, fields)
    assert secret.encode() not in line
    assert b"[hidden]" in line


@pytest.mark.parametrize("form", [log.JSON, log.CONSOLE], ids=["json", "console"])
def test_a_remotes_words_cannot_forge_a_line_or_drive_a_terminal(form):
    evil = '550 no\r\n{"level":"info"}\x1b[2J\x9b31m\x7f\x85\u2028\u202e\u2066\0'
    line = log.rendered(form, 0.0, 30, evil, {"text": evil}, {"exception": "E: " + evil.replace("\n", " ")})
    assert line.count(b"\n") == (1 if form is log.JSON else 2)  # the console shows a traceback on lines of its own
    text = line.decode()
    assert not any(c in text for c in "\r\x1b\x9b\x7f\x85\u2028\u202e\u2066\0")


def test_json_keeps_what_the_remote_said():
    said = "é \u202e \udc80 \n x"
    assert json.loads(log.rendered(log.JSON, 0.0, 20, "x", {}, {"text": said, "n": 2**70, "o": ValueError("v")}))["text"] == said


def test_an_exception_brings_its_traceback(lines):
    try:
        raise ValueError("boom")
    except ValueError:
        log.get("x").exception("failed")
    (line,) = lines()
    assert "test_log.py" in line["exception"]
    assert line["exception"].endswith("ValueError: boom\n")


def test_libraries_take_the_same_way(lines):
    logging.getLogger("mail.log").warning("odd %s", "client")
    logging.getLogger("mail.log").info("chatter")
    assert [(line["logger"], line["event"]) for line in lines()] == [("mail.log", "odd client")]


def test_a_stuck_reader_blocks_nobody_and_the_loss_is_told(lines):
    logger = log.get("x")
    for _ in range(log.WAITING + 5_000):  # the pipe holds 64 kB and nobody reads: who waited for it would wait for ever
        logger.info("x" * 40)
    assert log._writer.dropped > 0


def test_processes_on_one_pipe_do_not_mix_lines():
    code = "from relay import log\nlog.start()\nl = log.get('p')\nfor n in range(2000): l.info('e' * 60, n=n)\nlog.stop()"
    reader, writer = os.pipe()
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=writer) for _ in range(3)]
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        seen = [json.loads(line)["n"] for line in pipe]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sorted(seen) == sorted(list(range(2000)) * 3)


def test_a_filtered_line_costs_next_to_nothing(lines):
    logger = log.get("x")
    began = time.process_time()
    for _ in range(20_000):
        logger.debug("attempt", id="em_1", code=250)
    assert time.process_time() - began < 0.1  # 5 us each would fail; it is about 0.3
