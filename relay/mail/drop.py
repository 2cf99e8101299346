"""A message in the maildrop: the file that sendmail(1) leaves when the relay is down, and that the relay picks up.

The first line is a JSON object (version, sender, recipients, ret, envid, notify), the rest the message with CRLF line ends. The directory is
`data_dir/maildrop`, mode 3733: any local user may put a file in and nobody else may list, read or remove it; files take the relay's group.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

DIRECTORY = "maildrop"
MODE = 0o3733  # sticky, set-gid, writable and searchable by all, readable by the relay alone
SUFFIX = ".mail"
RECIPIENTS = 1_000  # of one message, as over authenticated SMTP
LINE = 512 * RECIPIENTS  # bytes of the first line
VERSION = 1


@dataclass(frozen=True, slots=True)
class Drop:
    """What sendmail was told; addresses may still lack their domain. `ret`, `envid`, `notify` as in RFC 3461, "" where not given."""

    sender: str
    recipients: tuple[str, ...]
    ret: str = ""
    envid: str = ""
    notify: str = ""


def encode(drop: Drop, content: bytes) -> bytes:
    """The file of a drop."""
    return json.dumps({"version": VERSION, **asdict(drop)}).encode() + b"\n" + content


def decode(octets: bytes) -> tuple[Drop, bytes]:
    """A drop and its message; raises ValueError for what no sendmail of ours wrote."""
    line, found, content = octets.partition(b"\n")
    if not found or len(line) > LINE:
        raise ValueError("it has no first line that says to whom")
    told = json.loads(line)
    if not isinstance(told, dict) or told.pop("version", None) != VERSION:
        raise ValueError(f"it is not of version {VERSION}")
    recipients = told.pop("recipients", None)
    if not isinstance(recipients, list) or not 0 < len(recipients) <= RECIPIENTS or not all(map(_text, recipients)):
        raise ValueError(f"it names no recipients, or more than {RECIPIENTS}")
    if not set(told) <= {"sender", "ret", "envid", "notify"} or "sender" not in told or not all(map(_text, told.values())):
        raise ValueError("its first line says what it should not")
    return Drop(recipients=tuple(recipients), **told), content


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 500 and value.isprintable()
