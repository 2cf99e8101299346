"""The other end of the control socket, for the command line: blocking, and nothing but the standard library."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relay import errors
from relay.control.place import NAME, reachable

PATIENCE = 600.0  # seconds for one act; a backup or a large undo takes its time

_KINDS = {cls.__name__: cls for cls in (errors.NotFound, errors.Conflict, errors.Forbidden, errors.StoreError)}


class Client:
    """A connection to the relay that runs on this data_dir. A context manager."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._file = sock.makefile("rb")

    @classmethod
    def connect(cls, data_dir: Path) -> Client | None:
        """None when no relay runs there; raises Forbidden when one does and may not be asked."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        try:
            with reachable(data_dir / NAME) as path:
                sock.connect(path)
        except PermissionError as error:
            sock.close()
            raise errors.Forbidden(f"{data_dir / NAME} belongs to another user; run this as the user that the relay runs as") from error
        except OSError:
            sock.close()
            return None
        return cls(sock)

    def act(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What the act gives; raises what it raised over there."""
        try:
            self._sock.sendall(json.dumps({"act": name, "arguments": dict(arguments)}).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise errors.StoreError(f"the relay did not answer: {error}") from error
        if not line.endswith(b"\n"):
            raise errors.Forbidden("the relay closed the control socket; run this as the user that the relay runs as, or look at its log")
        answer = json.loads(line)
        if "error" in answer:
            raise _error(answer["error"])
        return answer["result"]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()


def _error(told: Mapping[str, str]) -> errors.RelayError:
    if told["kind"] in _KINDS:
        return _KINDS[told["kind"]](told["text"])
    if told["kind"] == "Invalid":
        return errors.Invalid(told["field"], told["text"])
    return errors.RelayError(told["text"])
