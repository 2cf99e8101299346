"""The Dockerfile without an engine: its instructions, and that what it copies is enough to build and its health check tells life from death."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from starlette.applications import Starlette

from relay.web import health
from relay.web.server import HttpServer

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) in order, continued lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    out: list[list[tuple[str, str]]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            out.append([])
        out[-1].append(instruction)
    return out


def last(name: str) -> str:
    return [rest for instruction, rest in stages()[-1] if instruction == name][-1]


def test_two_stages_and_no_tools_in_the_last():
    build, final = stages()
    assert build[0][1].endswith("AS build")
    assert not any("pip install" in rest for _, rest in final)
    assert any(rest.startswith("--from=build /opt/relay") for name, rest in final if name == "COPY")


def test_it_runs_as_nobody_special_and_as_one_process():
    names = [name for name, _ in stages()[-1]]
    assert last("USER") == "relay"
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert (json.loads(last("ENTRYPOINT")), json.loads(last("CMD")), last("STOPSIGNAL")) == (["relay"], ["serve"], "SIGTERM")


def test_what_the_image_ships_is_what_the_wheel_needs(tmp_path):
    """The first stage's COPY lines, replayed; the ignore file lets them all through."""
    sources = [source for name, rest in stages()[0] if name == "COPY" for source in rest.split()[:-1]]
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert set(sources) == let_through
    for source in sources:
        path = ROOT / source
        shutil.copytree(path, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__")) if path.is_dir() else shutil.copy(path, tmp_path / source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert list((tmp_path / "dist").glob("relay_mta-*.whl"))


def check(port: int) -> int:
    interval, _, command = last("HEALTHCHECK").partition("CMD ")
    assert "--start-period=" in interval
    program, *arguments = json.loads(command)
    assert program == "python"
    environ = {"PATH": "/usr/bin:/bin", "RELAY_HTTP__LISTEN": f"0.0.0.0:{port}"}
    return subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, check=False).returncode


async def test_the_health_check_tells_life_from_death():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    server = HttpServer(Starlette(routes=health.public_routes()), [listener], 1_000)
    await server.start()
    assert await asyncio.to_thread(check, port) == 0
    await server.stop(5)
    listener.close()
    assert await asyncio.to_thread(check, port) != 0
