"""A project with workflows, as its owner sees it: over HTTP, on a clock that the test moves, and what arrives at the sink."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread
from typing import Any

from tests.broadcasts.mailing import Mailing
from tests.support.served import Tenant
from tests.support.until import PATIENCE

DAY = 86_400.0


class Calendar:
    """The machine's time, and what the test has added to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def pass_(self, seconds: float) -> None:
        self.ahead += seconds


def node(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"public_id": name, "type": kind, "config": config}


def line(*names: str) -> list[dict[str, Any]]:
    """Edges from one node to the next; "a:match" leaves a by that branch."""
    ends = [name.partition(":") for name in names]
    return [{"from_public_id": one[0], "to_public_id": other[0], "branch": one[2] or None} for one, other in pairwise(ends)]


def letter(name: str, subject: str, sender: str, **more: Any) -> dict[str, Any]:
    return node(name, "send_email", **{"from": sender, "subject": subject, "html": "<p>Dear {{ first_name }}, you are on {{ plan }}.</p>", **more})


class Flows(Mailing):
    """Workflows of a project beside its contacts and mail."""

    def __init__(self, tenant: Tenant):
        super().__init__(tenant)

    def person(self, name: str, **given: Any) -> dict[str, Any]:
        return self.post("/contacts", {"email": f"{name}@{self.domain}", "first_name": name.title(), **given}, 201)

    def draft(self, trigger: str, nodes: Sequence[dict[str, Any]], edges: Sequence[dict[str, Any]], config: dict[str, Any] | None = None,
              **more: Any) -> str:
        """The id of a new draft whose trigger leads to the first of these nodes."""
        body = {"name": "Flow", "trigger_type": trigger, "trigger_config": config, **more}
        number = self.post("/workflows", body, 201)["id"]
        first = line("trigger", nodes[0]["public_id"]) if nodes else []
        answer = self.http.put(f"/workflows/{number}/graph", json={"nodes": [node("trigger", "trigger"), *nodes], "edges": [*first, *edges]})
        assert answer.status_code == 200, answer.text
        return number

    def active(self, trigger: str, nodes: Sequence[dict[str, Any]], edges: Sequence[dict[str, Any]] = (), config: dict[str, Any] | None = None,
               **more: Any) -> str:
        """The id of a workflow that has been activated."""
        number = self.draft(trigger, nodes, edges, config, **more)
        assert self.post(f"/workflows/{number}/activate")["status"] == "active"
        return number

    def letter(self, name: str, subject: str = "Hello {{ first_name }}", **more: Any) -> dict[str, Any]:
        return letter(name, subject, self.sender, **more)

    def runs(self, number: str, count: int = 1, status: str = "completed", within: float = PATIENCE) -> list[dict[str, Any]]:
        """The runs with this status, once there are so many."""
        return self.until(f"/workflows/{number}/runs?status={status}&per_page=100", lambda got: len(got["runs"]) >= count, within)["runs"]

    def waiting(self, number: str, count: int = 1) -> list[dict[str, Any]]:
        """The runs that wait, once there are so many."""
        def ready(got: Any) -> bool:
            return sum(each["waiting"] is not None and each["waiting"]["why"] is not None for each in got["runs"]) >= count

        return self.until(f"/workflows/{number}/runs?status=running&per_page=100", ready)["runs"]

    def history(self, number: str, run: dict[str, Any]) -> list[tuple[str, str]]:
        """Where a run went: (node, outcome)."""
        return [(each["node_id"], each["outcome"]) for each in self.get(f"/workflows/{number}/runs/{run['id']}")["steps"]]

    def happened(self, name: str, email: str, **data: Any) -> int:
        return self.post("/workflows/events", {"event": name, "email": email, "data": data})["matched"]


class Endpoint:
    """An HTTP server that answers as it is told, once each, then 200: with a status, or with (status, Location).

    asked    (path, header fields, body) of each request
    methods  of each
    """

    def __init__(self, *answers: int | tuple[int, str]):
        self.answers, self.asked, self.methods = list(answers), [], []
        outer = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                outer.asked.append((self.path, dict(self.headers), body))
                outer.methods.append(self.command)
                answer = outer.answers.pop(0) if outer.answers else 200
                status, place = answer if isinstance(answer, tuple) else (answer, "")
                self.send_response(status)
                if place:
                    self.send_header("Location", place)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Endpoint:
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()
