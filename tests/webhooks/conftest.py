"""A relay, and a receiver that keeps what is posted to it and answers as it is told."""

import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support import fixtures
from tests.support.served import Served
from tests.support.until import PATIENCE

tenant = fixtures.tenant


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self):
        return json.loads(self.body)


@dataclass
class Receiver:
    """`answer(received)` gives the status; `wait(n)` blocks until n requests have come."""

    answer: Callable[[Received], int] = lambda _: 200
    got: list[Received] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    headers: dict[str, str] = field(default_factory=dict)  # beside the status
    name: str = field(default_factory=lambda: f"/{secrets.token_hex(4)}")  # calls that still go to who had this port before are not ours

    def wait(self, count, seconds=PATIENCE):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, seconds), f"{len(self.got)} of {count} came"
        return self.got

    def of(self, kind):
        return [each for each in self.got if each.event["type"] == kind]


@pytest.fixture
def receiver():
    kept = Receiver()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if not self.path.startswith(kept.name):
                self.send_error(404)
                return
            received = Received(self.path.removeprefix(kept.name), {name.lower(): value for name, value in self.headers.items()}, body)
            status = kept.answer(received)
            with kept.changed:
                kept.got.append(received)
                kept.changed.notify_all()
            self.send_response(status)
            for name, value in kept.headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", "2")
            self.end_headers()
            if status != 204:
                self.wfile.write(b"ok")

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_port}{kept.name}"
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="package")
def served(tmp_path_factory):
    directory = tmp_path_factory.mktemp("webhooks")
    with Served(directory, f"sqlite:///{directory / 'relay.db'}") as relay:
        yield relay
