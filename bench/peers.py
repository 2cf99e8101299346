"""The relays under test, each started with its own configuration in its own folder and stopped by process id.

A peer is a context manager with `port` (where it listens) and `root` (the process whose tree is charged). All relay to the same sink, all log as they do by
default, and all say 250 only after their own idea of durable: Relay and Postfix flush to disk first.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import tool

HERE = Path(__file__).parent
HARAKA = (
    {"Haraka": "3.1.1", "haraka-plugin-relay": "1.0.2"},
    {"encoding-japanese": "2.2.0", "libqp": "2.1.1", "libbase64": "1.3.0"},  # overrides: releases that the registry has
)


@dataclass(frozen=True, slots=True)
class Peer:
    port: int
    root: int | None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    for _ in range(400):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0 and sock.recv(3) == b"220":
                return
        if process and process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")


@contextmanager
def relay(folder: Path, sink: int, workers: int = 0, signed: bool = False, extra: str = "") -> Iterator[Peer]:
    """Relay with the default chain, a trusted network and one route to the sink; `signed` adds the domain, so that DKIM signs."""
    port = free_port()
    config = folder / "relay.toml"
    config.write_text(
        f'data_dir = "{folder}/data"\nhostname = "relay.bench.example"\n'
        f'[smtp]\nsubmission = "127.0.0.1:{port}"\ninbound = ""\ntrusted_networks = ["127.0.0.0/8"]\n'
        f'[http]\nlisten = "127.0.0.1:{free_port()}"\n[domains]\nrequire_verified = false\n'
        f'[[delivery.route]]\ndomain = "*"\nhost = "127.0.0.1:{sink}"\ntls = "none"\n{extra}'
    )
    command = [sys.executable, "-m", "relay"]
    if signed:
        subprocess.run([*command, "domain", "add", "bench.example", "--config", str(config)], check=True, stdout=subprocess.DEVNULL)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "serve", "--config", str(config), "--workers", str(workers)], stdout=log, stderr=log)
        try:
            wait_for(port, process)
            yield Peer(port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def postfix(folder: Path, sink: int, *milters: int) -> Iterator[Peer]:
    """Debian's Postfix as it comes, on its own port and folders, relaying to the sink; `milters` are ports, asked in this order."""
    port = free_port()
    etc = folder / "etc"
    etc.mkdir(parents=True)
    shutil.copytree("/etc/postfix", etc, dirs_exist_ok=True)
    (folder / "data").mkdir()
    shutil.chown(folder / "data", "postfix")
    (folder / "spool").mkdir()
    (etc / "main.cf").write_text((HERE / "postfix.main.cf").read_text().format(
        spool=folder / "spool", data=folder / "data", log=folder / "maillog", sink=sink, milters=" ".join([f"inet:127.0.0.1:{each}" for each in milters]),
    ))
    (etc / "master.cf").write_text((HERE / "postfix.master.cf").read_text().format(port=port))
    command = [tool("postfix"), "-c", str(etc)]
    subprocess.run([*command, "start"], check=True, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield Peer(port, int((folder / "spool/pid/master.pid").read_text()))
    finally:
        subprocess.run([*command, "stop"], stderr=subprocess.DEVNULL, check=False)


@contextmanager
def opendkim(folder: Path) -> Iterator[int]:
    """opendkim as a milter that signs bench.example with RSA-2048; gives its port."""
    port, key = free_port(), folder / "key.private"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, stderr=subprocess.DEVNULL)
    key.chmod(0o600)
    config = folder / "opendkim.conf"
    config.write_text(
        f"Domain bench.example\nSelector bench\nKeyFile {key}\nSocket inet:{port}@127.0.0.1\nMode s\nCanonicalization relaxed/relaxed\n"
        "UserID root\nRequireSafeKeys no\n"
    )
    process = subprocess.Popen([tool("opendkim"), "-f", "-x", str(config)])
    time.sleep(0.5)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def haraka(folder: Path, sink: int) -> Iterator[Peer]:
    """Haraka with its own queue and two workers, relaying to the sink; raises FileNotFoundError where npm is missing."""
    packages, overrides = HARAKA
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "relay-bench-haraka"
    if not (home / "node_modules/.bin/haraka").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(json.dumps({"private": True, "dependencies": packages, "overrides": overrides}))
        subprocess.run(["npm", "install", "--omit=optional", "--no-audit", "--no-fund", "--silent"], cwd=home, check=True, timeout=300)
    port = free_port()
    nexthop = json.dumps({"action": "accept", "nexthop": f"127.0.0.1:{sink}"})
    settings = {
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes=2\n[main]\nnodes=2\n",
        "plugins": "relay\nrcpt_to.in_host_list\n",
        "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
        "relay_acl_allow": "127.0.0.0/8\n",
        "relay_dest_domains.ini": f"[domains]\nany = {nexthop}\n",
        "host_list": "dest.example\n",
        "me": "haraka.bench.example\n",
        "loglevel": "WARN\n",
        "connection.ini": "[haproxy]\nhosts[]=192.0.2.1\n[uuid]\n[headers]\n[max]\n[message]\n[main]\n",
        "outbound.ini": "disabled=false\nconcurrency_max=100\n",
    }
    subprocess.run([str(home / "node_modules/.bin/haraka"), "-i", str(folder)], check=True, stdout=subprocess.DEVNULL)
    for file, text in settings.items():
        (folder / "config" / file).write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(home / "node_modules/.bin/haraka"), "-c", str(folder)], stdout=log, stderr=log)
        try:
            wait_for(port, process)
            yield Peer(port, process.pid)
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def bare(folder: Path, sink: int) -> Iterator[Peer]:
    """aiosmtpd and aiosmtplib with nothing between: no queue, no disk; what the libraries cost as they come."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "bare.py"), str(port), str(sink)])
    try:
        wait_for(port, process)
        yield Peer(port, process.pid)
    finally:
        process.terminate()
        process.wait()
