"""Handing a message to the relay of this machine: over its socket while it runs, into its maildrop while it does not.

The socket speaks plain SMTP and knows by the kernel who we are. What is refused for now, and what was under way when the connection broke, goes into the
maildrop; the idempotency key inside the message keeps it from being sent twice. Only the standard library and relay.mail are imported.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from relay.mail import drop, local
from relay.mail.drop import Drop

OK, USAGE, DATAERR, NOUSER, UNAVAILABLE, TEMPFAIL, NOPERM = 0, 64, 65, 67, 69, 75, 77  # sysexits(3)
SOCKET = "submit.sock"
PATIENCE = 60.0  # seconds for an answer; the relay gives its own up at 60


class Failed(Exception):
    """Nothing was taken (or not all): an exit code, and what to say on standard error."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


class Refused(Exception):
    """The relay said no: 4yz now, 5yz for good."""

    def __init__(self, code: int, text: str):
        super().__init__(f"{code} {text}")
        self.later = code < 500
        self.exit = NOUSER if text.startswith("5.1.") else NOPERM if text.startswith("5.7.") else UNAVAILABLE


class Lost(Exception):
    """The connection ended or never began."""


def deliver(directory: Path, told: Drop, content: bytes, verbose: bool) -> int:
    """Give it to the relay, or leave it in the maildrop for later; raises Failed with what was refused for good."""
    refused: dict[str, Refused] = {}
    try:
        waiting = _submit(directory / SOCKET, told, content, refused, verbose)
    except Lost as lost:
        waiting = tuple(address for address in told.recipients if address not in refused)
        if verbose:
            print(f"sendmail: {lost}; to the maildrop", file=sys.stderr)
    if waiting:
        leave(directory / drop.DIRECTORY, replace(told, recipients=waiting), content)
    if refused:
        worst = next(iter(refused.values()))
        raise Failed(worst.exit, "; ".join(f"{address}: {why}" if address else str(why) for address, why in refused.items()))
    return OK


def _submit(path: Path, told: Drop, content: bytes, refused: dict[str, Refused], verbose: bool) -> tuple[str, ...]:
    """Speak SMTP; gives the recipients to try later, adds those refused for good to `refused` ("" for all). Raises Lost."""
    with Talk(path, verbose) as talk:
        try:
            talk.begin()
            talk.say(_mail(told, content, talk.hostname))
        except Refused as no:
            return told.recipients if no.later else refused.update({"": no}) or ()
        taken, later = [], []
        for address in told.recipients:
            try:
                talk.say(f"RCPT TO:<{local.whole(address, talk.hostname)}>{f' NOTIFY={told.notify}' if told.notify else ''}")
                taken.append(address)
            except Refused as no:
                later.append(address) if no.later else refused.update({address: no})
        if not taken:
            return tuple(later)
        try:
            talk.say("DATA")
            talk.message(local.qualify(content, talk.hostname))
        except Refused as no:
            return (*taken, *later) if no.later else refused.update({"": no}) or tuple(later)
        return tuple(later)


def _mail(told: Drop, content: bytes, hostname: str) -> str:
    sender = local.whole(told.sender, hostname)
    parts = [f"MAIL FROM:<{sender}> SIZE={len(content)}", "" if content.isascii() else "BODY=8BITMIME"]
    parts += ("" if "".join((sender, *told.recipients)).isascii() else "SMTPUTF8", told.ret and f"RET={told.ret}", told.envid and f"ENVID={told.envid}")
    return " ".join(part for part in parts if part)


class Talk:
    """One SMTP conversation over the relay's socket; anything that ends it early is Lost."""

    def __init__(self, path: Path, verbose: bool = False):
        self.hostname = ""  # as the relay calls itself
        self._verbose = verbose
        try:
            self._socket = connected(path)
        except OSError as error:
            raise Lost(f"the relay does not answer at {path}: {error.strerror}") from None
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(OSError):
            self._socket.sendall(b"QUIT\r\n")
        self._file.close()
        self._socket.close()

    def begin(self) -> None:
        """The greeting and EHLO; raises Refused."""
        self.hostname = self._answer().partition(" ")[0]
        self.say("EHLO localhost")

    def say(self, line: str) -> str:
        """The text of a positive answer to a command; raises Refused."""
        if any(c in line for c in "\r\n\0"):
            raise Refused(501, "5.1.3 an address contains a line break")
        if self._verbose:
            print(f">>> {line}", file=sys.stderr)
        self._send(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return self._answer()

    def message(self, content: bytes) -> None:
        """The message and its final dot; raises Refused."""
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        self._send((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
        self._answer()

    def _send(self, octets: bytes) -> None:
        try:
            self._socket.sendall(octets)
        except OSError as error:
            raise Lost(f"the relay went away: {error}") from None

    def _answer(self) -> str:
        text = ""
        while True:
            try:
                line = self._file.readline(2_000)
            except OSError as error:
                raise Lost(f"the relay went away: {error}") from None
            if not line.endswith(b"\n") or not line[:3].isdigit():
                raise Lost("the relay went away")
            if self._verbose:
                print(line.decode("latin-1").rstrip(), file=sys.stderr)
            text = text or line[4:].decode("utf-8", "replace").strip()
            if line[3:4] != b"-":
                break
        if line[:1] in b"45":
            raise Refused(int(line[:3]), text)
        return text


def connected(path: Path) -> socket.socket:
    """A connection to the relay's socket; raises OSError."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(PATIENCE)
    try:
        line.connect(str(path))
    except OSError:
        line.close()
        raise
    return line


def leave(directory: Path, told: Drop, content: bytes) -> None:
    """Put the message into the maildrop, whole or not at all: hidden name, flush, rename, flush of the directory; raises Failed.

    What exit 0 promises is then on disk: a crash of the machine does not lose it.
    """
    name = f"{time.time_ns()}.{os.getpid()}.{os.urandom(8).hex()}"
    hidden, final = directory / f".{name}", directory / f"{name}{drop.SUFFIX}"
    try:
        fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o640)  # the caller's umask may forbid the relay's group to read
            file.write(drop.encode(told, content))
            file.flush()
            os.fsync(fd)
        os.rename(hidden, final)
        _flush(directory)
    except OSError as error:
        with suppress(OSError):
            os.unlink(hidden)
        raise Failed(TEMPFAIL, f"the relay is not running, and {directory} cannot take the message: {error.strerror}") from None


def _flush(directory: Path) -> None:
    """Make the new name durable. Who may not read the directory cannot open it to flush it: then everything is flushed."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        os.sync()
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
