"""Relay processes without the wait for Python's imports: a process that has imported everything forks one for each start.

    process = warm.start(["serve"], environ, cwd, log, log)      as subprocess.Popen of `python -m relay serve`
    done = warm.run(["key", "list"], environ, cwd)                as subprocess.run

What comes out is a process of its own, with environment, directory and files of its own, that dies by kill -9 like any other; it only did not read a thousand
modules first, which takes longer than most tests. It is a child of the warm process, which tells its end through a pipe. Where a test is about
memory or about the very first start it uses a Python of its own, as `Running(cold=True)` does.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
POSSIBLE = hasattr(os, "pidfd_open")  # Linux
IMPORTED = (
    "relay.__main__", "relay.app", "relay.worker", "relay.api.app", "relay.dashboard.house", "relay.cli.main", "relay.control.client", "relay.store.postgres",
    "sqlalchemy.dialects.postgresql.asyncpg", "uvicorn.lifespan.off", "uvicorn.protocols.http.httptools_impl", "policies.authorize", "policies.dkim",
    "policies.headers", "policies.limit", "policies.rspamd", "policies.suppress", "policies.track", "policies.unsubscribe", "policies.verp",
)
MOST = 100_000  # octets of a request
READY = b"ready"

_lock = threading.Lock()
_line: socket.socket | None = None


class Process:
    """A relay that was forked, with the parts of subprocess.Popen that tests use."""

    def __init__(self, pid: int, ended: int):
        self.pid, self.returncode, self._ended = pid, None, ended

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            with selectors.DefaultSelector() as found:
                found.register(self._ended, selectors.EVENT_READ)
                if not found.select(timeout):
                    raise subprocess.TimeoutExpired("relay", timeout or 0.0)
            (self.returncode,) = struct.unpack("i", os.read(self._ended, 4))
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def start(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, stdout: IO[Any], stderr: IO[Any], stdin: IO[Any] | None = None) -> Process:
    """`relay ARGUMENTS` with this environment, directory and files; without `stdin` it reads nothing."""
    told = json.dumps({"arguments": list(arguments), "environ": dict(environ), "cwd": str(cwd)}).encode()
    ended, tells = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        files = [nothing if stdin is None else stdin.fileno(), stdout.fileno(), stderr.fileno(), tells]
        with _lock:
            line = _connected()
            line.sendmsg([told], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
            (pid,) = struct.unpack("i", line.recv(4))
    finally:
        os.close(nothing)
        os.close(tells)
    return Process(pid, ended)


def run(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, input: str | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """`relay ARGUMENTS` to its end, with what it wrote; killed after `timeout` seconds, raising subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write((input or "").encode())
        given.seek(0)
        process = start(arguments, environ, cwd, out, err, given)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(["relay", *arguments], code, out.read().decode(), err.read().decode())


def _connected() -> socket.socket:
    """The line to the warm process, which is started when it is first wanted and ends when this process does."""
    global _line
    if _line is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE") if name in os.environ}
        command = [sys.executable, "-m", "tests.support.warm", str(theirs.fileno())]
        warm = subprocess.Popen(command, env={**environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        if ours.recv(len(READY)) != READY:
            raise RuntimeError(f"the warm process ended with {warm.wait()}")
        atexit.register(_end, ours, warm)
        _line = ours
    return _line


def _end(line: socket.socket, warm: subprocess.Popen) -> None:
    line.close()
    warm.wait()


# in the warm process

def main() -> None:
    """Fork for each request until the other side is gone; a forked process leaves this loop and becomes `relay ARGUMENTS`."""
    for name in IMPORTED:
        importlib.import_module(name)
    from starlette.routing import compile_path

    from relay import bounces
    from relay.dashboard import rooms

    bounces.read()  # compiles its patterns, which are then in the cache of the standard library
    for entry in rooms.entries():
        compile_path(f"/dashboard{entry.path}")
    if threading.active_count() > 1:
        sys.exit("an import has started a thread, which no fork would have")
    gc.collect()
    gc.freeze()
    line = socket.socket(fileno=int(sys.argv[1]))
    line.sendall(READY)
    become = _forked(line)
    os.close(line.detach())
    if become:
        _become(*become)


def _forked(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """What a forked process shall be; None in the warm process, at its end."""
    watched = selectors.DefaultSelector()
    watched.register(line, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.data is not None:
                watched.unregister(key.fd)
                _report(key.fd, *key.data)
                continue
            told, files, _, _ = socket.recv_fds(line, MOST, 4)
            if not told:
                return None
            pid = os.fork()
            if not pid:
                return json.loads(told), files[:3]
            for fd in files[:3]:
                os.close(fd)
            watched.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, files[3]))
            line.sendall(struct.pack("i", pid))


def _report(pidfd: int, pid: int, tells: int) -> None:
    """Tell whoever waits for this process how it ended."""
    os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(tells, struct.pack("i", code))
    os.close(tells)


def _become(told: dict[str, Any], files: Sequence[int]) -> None:
    """This process as `python -m relay` would have started it."""
    for number, fd in enumerate(files):
        os.dup2(fd, number)
    os.closerange(3, max(files) + 1_000)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["environ"])
    sys.argv = ["relay", *told["arguments"]]
    importlib.reload(sys.modules["relay.store.faults"])  # which looks at the environment once
    try:
        sys.modules["relay.__main__"].main()
    except SystemExit as end:
        _end_with(end.code)


def _end_with(code: Any) -> None:
    """End as Python does, but for taking down a thousand modules, which would write on every page that is shared with the warm process: 100 ms."""
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
