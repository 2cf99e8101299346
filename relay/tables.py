"""A schema of dataclasses, filled from TOML tables and the environment: the machinery of relay.settings, which knows no single key.

    tree = parsed(path)                       TOML
    overlay(schema, tree, "RELAY_X__Y", "1")  one variable over it
    built(schema, tree)                       the dataclass, or a ConfigError that names the key and the nearest right one
    rows(schema), changed(old, new)           all keys; which of them differ

A field made with `key` is a setting, `section` a table of settings, `table` an array of such tables.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import Field, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from relay import kinds
from relay.errors import ConfigError
from relay.kinds import Kind

_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT.*)|PORT(_.*)?")  # what Kubernetes sets in every pod beside a service named "relay"
_RESERVED = re.compile(r"CONFIG|FAULT|(TEST|BENCH)_.*")  # read elsewhere: the config file's path, fault injection, the tests


def key(default: Any, kind: Kind, doc: str, *, secret: bool = False, restart: bool = False) -> Any:
    """One setting. `default` as it would stand in TOML; `doc` says what it does, with its unit; `restart`: SIGHUP does not change it."""
    return field(default=kind.read(default), repr=not secret, metadata={"kind": kind, "text": default, "doc": doc, "secret": secret, "restart": restart})


def section(cls: type, doc: str) -> Any:
    return field(default_factory=cls, metadata={"section": cls, "doc": doc})


def table(cls: type, doc: str) -> Any:
    """An array of tables, empty by default."""
    return field(default=(), metadata={"table": cls, "doc": doc})


def parsed(path: Path) -> dict[str, Any]:
    """The file's TOML; raises ConfigError naming the way out."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as missing:
        raise ConfigError("", f"there is no file {path}; name one with --config FILE or $RELAY_CONFIG, config/relay.toml shows every key") from missing
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("", f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", f"{path} is not TOML: {error}") from error


def overlay(schema: type, tree: dict[str, Any], name: str, text: str) -> None:
    """Put one RELAY_* variable into the tree, as the TOML value that its kind takes; raises ConfigError for a name that is no setting."""
    rest = name.removeprefix("RELAY_")
    if _RESERVED.fullmatch(rest) or _KUBERNETES.fullmatch(rest):
        return
    *path, leaf = rest.lower().split("__")
    cls = schema
    for part in path:
        found = _fields(cls).get(part)
        if found is None or "section" not in found.metadata:
            raise _unknown(schema, ".".join((*path, leaf)), name)
        cls = found.metadata["section"]
        tree = tree.setdefault(part, {})
    wanted = _fields(cls).get(leaf) or _fields(cls).get(leaf.removesuffix("_file"))
    if wanted is None or "section" in wanted.metadata:
        raise _unknown(schema, ".".join((*path, leaf)), name)
    if not leaf.endswith("_file"):
        text = wanted.metadata["kind"].from_text(text) if "kind" in wanted.metadata else kinds.toml(text)
    tree[leaf] = text


def built(schema: type, tree: Any) -> Any:
    """The schema's dataclass from a tree of TOML values; raises ConfigError naming the key at fault."""
    try:
        return _build(schema, tree, "")
    except _Unknown as unknown:
        raise _unknown(schema, unknown.dotted) from None


class _Unknown(Exception):
    """There is no such key."""

    def __init__(self, dotted: str):
        self.dotted = dotted


def _build(cls: type, tree: Any, at: str) -> Any:
    """A dataclass of the schema; `at` is its dotted name."""
    if not isinstance(tree, dict):
        raise ConfigError(at, f"is a table; write [{at}] and its keys below")
    values, known = {}, _fields(cls)
    for name, value in tree.items():
        dotted = f"{at}.{name}" if at else name
        wanted = known.get(name)
        if wanted is None:
            name, wanted, value = _from_file(cls, tree, name, value, dotted)
        values[name] = _value(wanted, value, dotted)
    return cls(**values)


def _from_file(cls: type, tree: dict[str, Any], name: str, value: Any, dotted: str) -> tuple[str, Field, str]:
    """Name, field and text of a secret given as `<key>_file`; raises _Unknown for everything else that is no key."""
    plain = name.removesuffix("_file")
    wanted = _fields(cls).get(plain)
    if plain == name or wanted is None or not wanted.metadata.get("secret"):
        raise _Unknown(dotted)
    if plain in tree:
        raise ConfigError(dotted, f"is set beside {plain}; keep one of the two")
    try:
        return plain, wanted, Path(str(value)).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(dotted, f"cannot be read: {error}") from error


def _value(wanted: Field, value: Any, dotted: str) -> Any:
    if "section" in wanted.metadata:
        return _build(wanted.metadata["section"], value, dotted)
    if "table" in wanted.metadata:
        if not isinstance(value, list):
            raise ConfigError(dotted, f"is a list of tables; write [[{dotted}]] and its keys below, once for each")
        return tuple(_build(wanted.metadata["table"], each, f"{dotted}[{number}]") for number, each in enumerate(value))
    kind: Kind = wanted.metadata["kind"]
    try:
        return kind.read(value)
    except (ValueError, TypeError) as error:
        shown = "that" if wanted.metadata["secret"] else repr(value)
        raise ConfigError(dotted, f"{shown} is not {kind.form}" + (f" ({error})" if str(error) else "")) from error


def _fields(cls: type) -> dict[str, Field]:
    return {f.name: f for f in fields(cls)}


def _unknown(schema: type, dotted: str, variable: str = "") -> ConfigError:
    """The error for a key that does not exist, naming the nearest one that does, wherever it stands."""
    import difflib  # only here: an error may take its time, a start may not

    names = [name.replace("[]", "") for name, _ in rows(schema)]
    bare = re.sub(r"\[\d+\]", "", dotted)
    near = difflib.get_close_matches(bare, names, 1, 0.6)
    leaf = bare.rpartition(".")[2]
    near = near or [n for n in names if n.rpartition(".")[2] == leaf] or difflib.get_close_matches(leaf, [n.rpartition(".")[2] for n in names], 1, 0.6)
    hint = f"; did you mean {_as_variable(near[0]) if variable else near[0]}?" if near else "; config/relay.toml shows every key"
    return ConfigError(variable or dotted, f"is not a setting{hint}")


def _as_variable(dotted: str) -> str:
    return "RELAY_" + dotted.upper().replace(".", "__")


def rows(cls: type, at: str = "") -> Iterator[tuple[str, Field]]:
    """Every key as (dotted name, field); one in an array of tables as `delivery.route[].host`."""
    for f in fields(cls):
        name = f"{at}.{f.name}" if at else f.name
        inner = f.metadata.get("section") or f.metadata.get("table")
        if inner is None:
            yield name, f
        else:
            yield from rows(inner, name if "section" in f.metadata else f"{name}[]")


def changed(old: Any, new: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Dotted names of what differs: (what a reload applies, what needs a restart)."""
    live: list[str] = []
    fixed: list[str] = []
    _compare(old, new, "", live, fixed)
    return tuple(live), tuple(fixed)


def _compare(old: Any, new: Any, at: str, live: list[str], fixed: list[str]) -> None:
    for f in fields(old):
        before, after, name = getattr(old, f.name), getattr(new, f.name), f"{at}.{f.name}" if at else f.name
        if is_dataclass(before):
            _compare(before, after, name, live, fixed)
        elif before != after:
            (fixed if f.metadata.get("restart") else live).append(name)


def applied(old: Any, new: Any) -> Any:
    """`new` as far as a reload applies it: what needs a restart stays as in `old`."""
    kept = {}
    for f in fields(old):
        before = getattr(old, f.name)
        if is_dataclass(before):
            kept[f.name] = applied(before, getattr(new, f.name))
        elif f.metadata.get("restart"):
            kept[f.name] = before
    return replace(new, **kept)
