"""Imports point down. A room is a file or folder of relay/; it imports itself and rooms of lower layers, nothing beside it and nothing above.

Cross-needs go by argument: `app` builds the parts and hands them to each other. Whoever adds a room adds it to its layer here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RELAY = ROOT / "relay"

LAYERS = (
    # what needs nothing; these may import each other
    {"mail", "eager", "heap", "errors", "clock", "log", "metrics", "kinds", "tables", "nursery", "priority", "shipped", "systemd", "words"},
    {"smtp", "store", "settings", "fetch", "schedule", "shaping", "bounces", "scoring", "delivery.dns"},  # the wire, the disk, the rules
    {"policy", "events", "news", "templates", "presets", "delivery", "wishes", "handover", "fleet"},
    {"submission", "copies", "filling", "consent", "services", "census"},
    {"queue", "inbound", "audience", "webhooks", "maildrop", "desks", "capture"},
    {"leader", "broadcasts", "workflows"},
    {"control", "intake", "entrance"},
    {"api", "web", "cli", "worker", "welcome", "housekeeping"},
    {"dashboard", "reloading"},
    {"app"},
    {"__main__"},
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
BESIDE = {("bounces", "schedule")}  # a bounce rule names a row of the retry table

ONLY = {  # a library is imported in these rooms alone
    "aiosmtpd": {"smtp"},
    "aiosmtplib": {"smtp"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "asyncpg": {"store"},
    "click": {"cli"},
    "fastapi": {"api", "app"},
    "starlette": {"api", "web", "dashboard", "app"},
    "uvicorn": {"app", "web"},
    "argon2": {"control"},
    "jinja2": {"dashboard"},
    "dkim": {"mail"},
    "flufl": {"mail"},
}
POLICIES = {"mail", "policy", "errors", "metrics", "scoring"}
SENDMAIL = {"mail", "cli", "kinds"}  # a start of 300 ms for each cron mail is a defect: the standard library and these

SOURCES = sorted(path for path in (*RELAY.rglob("*.py"), *(ROOT / "policies").rglob("*.py")) if "_config" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a source file imports when it runs, wherever in the file."""
    package = path.relative_to(ROOT).parent.parts
    for node in _running(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, but for what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield child
            yield from _running(child)


def room(dotted: str) -> str | None:
    """The room of a dotted name under relay, None for relay itself: "delivery.dns" for relay.delivery.dns.Answer."""
    parts = dotted.split(".")[1:]
    if ".".join(parts[:2]) in LAYER:
        return ".".join(parts[:2])
    return parts[0] if parts and (parts[0] in LAYER or (RELAY / parts[0]).exists() or (RELAY / f"{parts[0]}.py").exists()) else None


def own_room(path: Path) -> str:
    return room(".".join(path.relative_to(ROOT).with_suffix("").parts)) or "__init__"


def allowed(importer: str, target: str) -> bool:
    """Whether a file of one room may import another: the table, as a rule."""
    if importer == target or importer.split(".")[0] == target or (importer, target) in BESIDE:
        return True
    return LAYER[target] < LAYER[importer] or LAYER[target] == LAYER[importer] == 0


@pytest.mark.parametrize("path", [p for p in SOURCES if RELAY in p.parents and own_room(p) != "__init__"], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_what_is_below_it(path):
    importer = own_room(path)
    assert importer in LAYER, f"{importer} has no layer: add it to tests/test_layers.py"
    for name in imported(path):
        top = name.split(".")[0]
        assert top not in ("policies", "tests", "bench"), f"{path} imports {name}; policies are named in the configuration"
        assert importer.split(".")[0] in ONLY.get(top, {importer.split(".")[0]}), f"{path} imports {name}; only {sorted(ONLY[top])} may"
        if top == "relay" and (target := room(name)):
            assert allowed(importer, target), f"{importer} (layer {LAYER[importer]}) imports {target} (layer {LAYER[target]}): {path}"


@pytest.mark.parametrize("path", [p for p in SOURCES if RELAY not in p.parents], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_policy_imports_what_anybodys_policy_could(path):
    rooms = {room(name) for name in imported(path) if name.split(".")[0] == "relay"}
    assert rooms <= POLICIES, f"{path} imports {sorted(rooms - POLICIES)}"


def test_sendmail_imports_little():
    rooms = {room(name) for name in imported(RELAY / "cli" / "sendmail.py") if name.split(".")[0] == "relay"}
    assert rooms <= SENDMAIL


@pytest.mark.parametrize(("importer", "target", "may"), [
    pytest.param("queue", "store", True, id="down"),
    pytest.param("store", "queue", False, id="up"),
    pytest.param("queue", "inbound", False, id="beside"),
    pytest.param("mail", "errors", True, id="beside, in the lowest layer"),
    pytest.param("delivery", "delivery.dns", True, id="own room's lower part"),
    pytest.param("delivery.dns", "smtp", False, id="a lower part beside its layer"),
    pytest.param("bounces", "schedule", True, id="listed exception"),
    pytest.param("schedule", "bounces", False, id="an exception is one way"),
])
def test_the_rule(importer, target, may):
    assert allowed(importer, target) is may


@pytest.mark.parametrize(("source", "name"), [
    ("import relay.store.engine", "relay.store.engine"),
    ("from relay.store import engine", "relay.store.engine"),
    ("from relay import store", "relay.store"),
    ("def f():\n    from relay.store.queue import due", "relay.store.queue.due"),
])
def test_every_form_of_import_is_seen(source, name, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "x.py"
    file.write_text(source)
    assert list(imported(file)) == [name]
    assert room(name) == "store"


def test_what_only_type_checkers_import_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "x.py"
    file.write_text("if TYPE_CHECKING:\n    from relay.app import Relay\nif True:\n    from relay.store import engine\n")
    assert list(imported(file)) == ["relay.store.engine"]
