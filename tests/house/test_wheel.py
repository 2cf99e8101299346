"""What `pip install .` gives: commands that work away from the source tree, with their configuration, migrations and policies; and the locked dependencies."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

Run = Callable[..., subprocess.CompletedProcess]


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A new environment with the wheel in it; dependencies are those of this environment, whose own `relay` stands behind."""
    top = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(top), str(ROOT)], check=True, capture_output=True)
    (wheel,) = top.glob("*.whl")
    environment = top / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(each for each in sys.path if each.endswith(("site-packages", "dist-packages"))))
    return environment


@pytest.fixture
def run(installed, tmp_path) -> Run:
    def run(name: str, *arguments: str, **options) -> subprocess.CompletedProcess:
        environ = {"PATH": os.defpath, "HOME": str(tmp_path), "RELAY_DATA_DIR": str(tmp_path / "data")}
        command = [str(installed / "bin" / name), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path, check=False, timeout=150, **options)

    return run


def test_the_commands_are_there(run):
    assert "serve" in run("relay", "--help").stdout
    assert PROJECT["version"] in run("relay", "--version").stdout
    assert run("sendmail", "-bi").returncode == 0
    assert run("sendmail", input="x").returncode == 64


def test_it_runs_from_the_wheel_and_finds_what_it_ships(run, installed):
    code = (
        "import relay, policies, importlib, pkgutil; from relay.shipped import shipped\n"
        "print(relay.__file__, policies.__file__, *(shipped(n) for n in "
        "('relay.toml', 'local.toml', 'shaping.toml', 'bounces.toml', 'prometheus/alerts.yml', 'grafana/relay.json')))\n"
        "for m in pkgutil.iter_modules(policies.__path__): importlib.import_module('policies.' + m.name)"
    )
    done = run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    paths = done.stdout.split()
    assert len(paths) == 8
    assert all(path.startswith(str(installed)) for path in paths)


def test_it_migrates_an_empty_store(run, tmp_path):
    (tmp_path / "data").mkdir()
    done = run("relay", "migrate", "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "relay.db").exists()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line) for line in lines)
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def needed(names: list[str]) -> Iterator[str]:
    """The distributions that these requirements bring, themselves included, by normal name."""
    queue, seen = list(names), set()
    while queue:
        requirement = queue.pop()
        name = normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0])
        if "extra ==" in requirement or "win32" in requirement or name in seen:
            continue
        seen.add(name)
        try:
            queue += metadata.distribution(name).requires or ()
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        yield name


def test_every_dependency_is_locked():
    """`make lock` writes the pins anew."""
    wanted = set(needed([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]))
    assert len(wanted) > 40
    assert not wanted - set(pins())


def test_every_import_is_declared():
    """What relay/ and policies/ import is a runtime dependency, not something that happens to be installed."""
    declared = {normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in PROJECT["dependencies"]}
    distributions = metadata.packages_distributions()
    undeclared = set()
    for path in (*(ROOT / "relay").rglob("*.py"), *(ROOT / "policies").rglob("*.py")):
        owners = (set(map(normal, distributions.get(top, [top]))) for top in imported(path) - set(sys.stdlib_module_names) - {"relay", "policies"})
        undeclared |= {(str(path.relative_to(ROOT)), *sorted(names)) for names in owners if not names & declared}
    assert not undeclared


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
