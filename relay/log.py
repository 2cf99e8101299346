"""Log lines: JSON on standard error, one line an event, written by a thread of their own so that no caller ever waits for a disk or a pipe.

    from relay import log
    LOG = log.get("delivery")
    LOG.info("attempt", id="em_01h7...", mx="mx1.example.net", code=250)

A call below the level costs one comparison; one at or above it puts a tuple on a bounded queue. The writer thread runs structlog's processors over it
(exceptions, secrets, JSON by orjson or structlog's console form) and writes whole lines, at most PIPE_BUF at a time, so the lines of several processes on one
pipe never mix. When the reader of our standard error is stuck the queue fills, newer lines are dropped, and the first line after it says how many.

The message id travels as the field `id` from the door to the last attempt; `LOG.bind(id=...)` gives a logger that adds it. Lines of libraries (aiosmtpd,
uvicorn, asyncio) take the same way through a logging.Handler.

Secrets: fields whose name says so are replaced, and so are API keys, passwords in URLs, AUTH responses and PEM keys wherever they stand in a line. Control
characters leave as JSON escapes, so no remote's words can forge a line or drive a terminal (CWE-117).
"""

from __future__ import annotations

import functools
import json
import logging
import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
NAMES = {number: name for name, number in LEVELS.items()}
WAITING = 20_000  # lines that may wait for the writer: about 10 MB, some seconds of a full-speed relay
BATCH = 500  # lines rendered before a write
PIPE_BUF = 4_096  # bytes that one write puts on a pipe without mixing with other writers (POSIX, Linux)
GATHER = 0.02  # seconds the writer lets lines gather, so it takes the GIL rarely
FLUSH = 2.0  # seconds that stop() waits for a stuck reader

HIDDEN = "[hidden]"
_SECRET_NAMES = re.compile(r"(?i)passw|secret|authori[sz]ation|cookie|private|credential|api_?key|^token$|_token$|^dsn$")
_SECRETS = (
    (b"sk_", re.compile(rb"(sk_(?:live|test)_)[A-Za-z0-9_-]+")),
    (b"://", re.compile(rb"(://[^/@\s:\"]*:)[^@/\s\"]+(?=@)")),
    (b"AUTH ", re.compile(rb"(AUTH [A-Z0-9-]+ )[A-Za-z0-9+/=]+")),
    (b"PRIVATE KEY", re.compile(rb"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?=\")|\Z)", re.DOTALL)),
)
_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))}  # C0, C1, line marks, bidi
_BUT_LINES = {code: text for code, text in _CONTROLS.items() if code != 0x0A}  # a traceback on a terminal keeps its lines


class Log:
    """A named logger with fields that every line of it carries."""

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]):
        self.fields = fields

    def bind(self, **fields: Any) -> Log:
        """A logger that adds these fields to each line."""
        return Log({**self.fields, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        if _writer.level <= 10:
            _writer.put(10, event, self.fields, fields)

    def info(self, event: str, **fields: Any) -> None:
        if _writer.level <= 20:
            _writer.put(20, event, self.fields, fields)

    def warning(self, event: str, **fields: Any) -> None:
        if _writer.level <= 30:
            _writer.put(30, event, self.fields, fields)

    def error(self, event: str, **fields: Any) -> None:
        _writer.put(40, event, self.fields, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error line with the traceback of the exception being handled."""
        _writer.put(40, event, self.fields, {**fields, "exception": traceback.format_exc()})


class Writer:
    """The queue, the thread and the file descriptor. Until `start` lines are written at once by the caller (short commands, tests)."""

    def __init__(self, fd: int = 2, level: str = "warning", form: str = "json"):
        self.fd = fd
        self.level = LEVELS[level]
        self.render = CONSOLE if form == "console" else JSON
        self.dropped = 0
        self._queue: queue.SimpleQueue[tuple | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def put(self, level: int, event: str, bound: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        if self._thread is None:
            self._write([(time.time(), level, event, bound, fields)])
        elif self._queue.qsize() < WAITING:
            self._queue.put((time.time(), level, event, bound, fields))
        else:
            self.dropped += 1

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits and end the thread; gives up after FLUSH seconds when nobody reads."""
        if self._thread is not None:
            self._queue.put(None)
            self._ended.wait(FLUSH)
            self._thread = None

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            if batch[0] is not None:
                self._ended.wait(GATHER)
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            going = None not in batch
            self._write([line for line in batch if line is not None])
        self._ended.set()

    def _write(self, batch: Iterable[tuple]) -> None:
        if self.dropped:
            lost, self.dropped = self.dropped, 0
            batch = [*batch, (time.time(), 30, "log lines dropped", {}, {"count": lost})]
        block = b""
        for line in (rendered(self.render, *each) for each in batch):
            if block and len(block) + len(line) > PIPE_BUF:
                self._out(block)
                block = b""
            block += line
        self._out(block)

    def _out(self, block: bytes) -> None:
        try:
            while block:
                block = block[os.write(self.fd, block):]
        except OSError:  # standard error is closed: there is nobody to tell, and mail must go on
            return


def rendered(render: Iterable, at: float, level: int, event: str, bound: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    """One line with its line feed; a value that cannot be rendered never raises."""
    line: Any = {"time": at, "level": NAMES.get(level, "info"), "event": event, **bound, **fields}
    for processor in render:
        line = processor(None, "", line)
    for mark, pattern in _SECRETS:
        if mark in line:
            line = pattern.sub(rb"\1" + HIDDEN.encode(), line)
    return line + b"\n"


def _stamp(_logger: Any, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
    at = fields["time"]
    fields["time"] = f"{_second(int(at))}.{int(at % 1 * 1_000_000):06d}Z"
    return fields


@functools.lru_cache(4)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


@functools.lru_cache(1_000)  # lines are of some hundred kinds
def _secret(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if _SECRET_NAMES.search(name))


def _hide(_logger: Any, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
    for name in _secret(tuple(fields)):
        fields[name] = HIDDEN
    return fields


def _to_json(_logger: Any, _method: str, fields: dict[str, Any]) -> bytes:
    try:
        line = orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, an integer over 64 bits
        line = json.dumps(fields, default=str).encode()
    if not line.isascii():  # C1 controls and bidi marks are not escaped by orjson
        line = json.dumps(fields, default=str).encode()
    return line.replace(b"\x7f", b"\\u007f")


def _escape(_logger: Any, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value if isinstance(value, str) else repr(value) for name, value in fields.items()}
    return {name: value.translate(_BUT_LINES if name == "exception" else _CONTROLS) for name, value in plain.items()}


def _encode(_logger: Any, _method: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


JSON = (_stamp, _hide, _to_json)
CONSOLE = (_stamp, _hide, _escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time"), _encode)


class Library(logging.Handler):
    """Takes the lines of libraries that use the standard logging."""

    def emit(self, record: logging.LogRecord) -> None:
        level = 40 if record.levelno >= 40 else 30 if record.levelno >= 30 else 20 if record.levelno >= 20 else 10
        if level < _writer.level:
            return
        try:
            event = record.getMessage()
        except Exception:  # a library's own format error is not ours to die of
            event = str(record.msg)
        fields = {"exception": "".join(traceback.format_exception(*record.exc_info))} if record.exc_info else {}
        _writer.put(level, event, {"logger": record.name}, fields)


def get(name: str) -> Log:
    """The logger of a room: get("smtp")."""
    return Log({"logger": name})


def start(level: str = "info", form: str = "json", fd: int = 2) -> None:
    """Begin to write from a thread; called again (SIGHUP, a forked worker) it changes level and form.

    level  "debug" | "info" | "warning" | "error"
    form   "json" | "console"
    """
    global _writer
    stop()
    _writer = Writer(fd, level, form)
    _writer.start()
    root = logging.getLogger()
    root.handlers[:] = [Library()]
    root.setLevel(logging.WARNING if LEVELS[level] > 10 else logging.INFO)  # libraries are chatty: their info lines only when we debug


def stop() -> None:
    """Flush; later lines are written at once by their caller."""
    _writer.stop()


_writer = Writer()
os.register_at_fork(after_in_child=lambda: globals().update(_writer=Writer(_writer.fd, NAMES[_writer.level])))
