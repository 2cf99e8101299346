"""The kinds of value a setting can have: how each is read from TOML or from a text, and what its form is called in an error.

A kind's `read` takes what TOML gives and returns what the code sees (seconds as float, bytes as int, networks as objects), or raises ValueError. `annotated`
writes a schema made of them as a commented TOML file.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import re
import socket
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
BYTES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
HEAD = ("Relay's settings: every key with its default. Durations are \"30s\", \"5m\", \"7d\"; sizes \"25MB\" (decimal) or \"25MiB\"; addresses "
        "\"host:port\". Any key can come from the environment: RELAY_SMTP__SUBMISSION is [smtp] submission. A secret can be given as <key>_file, the "
        "path of a file that holds it. `relay check` reads all of it and says what is wrong.")
WIDTH = 120  # columns of the annotated file

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]?i?B|)")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s:\[\]/@]+):(\d{1,5})")
_HOSTNAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_PATTERN = re.compile(r"\*|(\*\.)?[^\s@*,/]+")


@dataclass(frozen=True, slots=True)
class Kind:
    """`form` completes "... is not"; `read(value)` converts or raises ValueError; `from_text` turns an environment variable into a TOML value first."""

    form: str
    read: Callable[[Any], Any]
    from_text: Callable[[str], Any] = str


def toml(text: str) -> Any:
    """The text as a TOML value, or the text itself when it is none."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _list_text(text: str) -> Any:
    return toml(text) if text.lstrip().startswith("[") else [part.strip() for part in text.split(",") if part.strip()]


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def duration(value: Any) -> float:
    """Seconds of "90s", "1h30m" or a bare number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    parts = _DURATION.findall(_text(value))
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def size(value: Any) -> int:
    """Bytes of "25MB" (decimal), "25MiB" (binary) or a bare number."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(_text(value))
    if found is None or found[2] not in BYTES:
        raise ValueError
    return int(float(found[1]) * BYTES[found[2]])


def split_address(text: str) -> tuple[str, int]:
    """Host without brackets and port of "host:port"; raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > 65_535:
        raise ValueError
    return found[1].strip("[]"), int(found[2])


def is_loopback(host: str) -> bool:
    """Whether "host:port" or "host" names this machine."""
    name = host.rpartition(":")[0].strip("[]") or host
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


@functools.cache
def machine_name() -> str:
    """The machine's own full name; its short one when DNS gives none."""
    name = socket.getfqdn()
    return name if _HOSTNAME.fullmatch(name) else socket.gethostname()


def _address(value: Any) -> str:
    if _text(value):
        split_address(value)
    return value


def _host(value: Any) -> str:
    """name:port, with port 25 where none is given; a bare IPv6 literal gets its brackets."""
    if not _text(value) or _ADDRESS.fullmatch(value):
        return _address(value)
    try:
        literal = ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        return _address(f"{value}:25")
    return f"[{literal}]:25" if literal.version == 6 else f"{literal}:25"


def _url(value: Any) -> str:
    if _text(value) and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError
    return value.rstrip("/")


def _hostname(value: Any) -> str:
    if _text(value) and not _HOSTNAME.fullmatch(value):
        raise ValueError
    return value.lower()


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value


def _port(value: Any) -> int:
    if not 0 < _count(value) <= 65_535:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError
    return float(value)


def _path(value: Any) -> Path:
    return Path(_text(value) or ".").expanduser()


def _pattern(value: Any) -> str:
    if not _PATTERN.fullmatch(_text(value)):
        raise ValueError
    return value.lower()


def _secrets(value: Any) -> tuple[str, ...]:
    texts = tuple(_text(v) for v in ([value] if isinstance(value, str) else value) if v)
    if any(len(text) < 32 for text in texts):
        raise ValueError("too short")
    return texts


def _chain(value: Any) -> tuple[dict[str, Any], ...]:
    entries = [{"use": each} if isinstance(each, str) else each for each in _list(value)]
    if not all(isinstance(each, dict) and isinstance(each.get("use"), str) for each in entries):
        raise ValueError('each entry needs use = "policies.name"')
    return tuple(entries)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _each(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(read(each) for each in _list(value))


def one_of(*words: str) -> Kind:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError
        return value
    return Kind("one of " + ", ".join(f'"{w}"' for w in words if w), read)


TEXT = Kind("a text", _text)
TEXTS = Kind("a list of texts", _each(_text), _list_text)
ADDRESS = Kind('an address such as "127.0.0.1:2525"', _address)
ADDRESSES = Kind('a list of addresses such as ["127.0.0.1:53"]', _each(_address), _list_text)
HOST = Kind('a host such as "smtp.example.com:587"', _host)
HOSTNAME = Kind('a host name such as "mail.example.com"', _hostname)
URL = Kind('a URL such as "https://mail.example.com", without query', _url)
NETWORKS = Kind('a list of networks such as ["10.0.0.0/8"]', _each(lambda v: ipaddress.ip_network(_text(v))), _list_text)
IPS = Kind('a list of IP addresses such as ["192.0.2.1"]', _each(lambda v: str(ipaddress.ip_address(_text(v)))), _list_text)
DURATION = Kind('a duration such as "30s", "5m", "1h30m" or "7d"', duration, toml)
SIZE = Kind('a size such as "25MB" or "25MiB"', size, toml)
COUNT = Kind("a whole number, 0 or more", _count, toml)
PORT = Kind("a port number", _port, toml)
NUMBER = Kind("a number", _number, toml)
SWITCH = Kind("true or false", _switch, toml)
PATH = Kind("a path", _path)
PATTERN = Kind('a domain, "*.suffix" or "*"', _pattern)
SECRETS = Kind("a text of 32 characters or more, or a list of such texts", _secrets, toml)
CHAIN = Kind('a list of tables such as [{use = "policies.headers"}]', _chain, _list_text)


def annotated(schema: type) -> str:
    """The schema as a TOML file: every key with its default, and its meaning above it."""
    out, tables = [*_comment(HEAD), ""], []
    for f in fields(schema):
        if "section" in f.metadata:
            tables.append(f)
        else:
            out += _key_lines(f)
    for f in tables:
        out += _table_lines(f.name, f.metadata["section"], f.metadata["doc"])
    return "\n".join(out) + "\n"


def _table_lines(name: str, cls: type, doc: str) -> list[str]:
    out, after = ["", *_comment(doc), f"[{name}]"], []
    for f in fields(cls):
        if "table" in f.metadata:
            after += ["", *_comment(f.metadata["doc"]), f"#[[{name}.{f.name}]]"]
            after += [f"#{line}" if not line.startswith("#") else line for inner in fields(f.metadata["table"]) for line in _key_lines(inner)]
        elif f.metadata["kind"] is CHAIN:
            after += ["", *_comment(f.metadata["doc"])]
            after += [f"[[{name}.{f.name}]]\nuse = {json.dumps(entry['use'])}" for entry in f.metadata["text"]]
        else:
            out += _key_lines(f)
    return out + after


def _key_lines(f: Any) -> list[str]:
    return [*_comment(f.metadata["doc"]), f"{f.name} = {json.dumps(f.metadata['text'])}"]


def _comment(doc: str) -> list[str]:
    return textwrap.wrap(doc, WIDTH, initial_indent="# ", subsequent_indent="# ")
