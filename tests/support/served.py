"""A whole relay on a loop of its own thread, for tests that talk to it over HTTP and SMTP: real store, door, queue, delivery to a sink."""

from __future__ import annotations

import secrets
import time
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx2 as httpx

from relay import app, settings
from relay.api import app as _loaded  # noqa: F401  before the clock of a start runs: FastAPI is slow to import
from relay.clock import Clock
from relay.control import keys
from relay.store import keys as stored_keys
from tests.support.ports import free_port
from tests.support.sink import Sink
from tests.support.thread import Threaded
from tests.support.until import PATIENCE

FIRST, LAST = 0.01, 0.1  # seconds between two looks: what is quick is seen at once, what takes its time is not slowed by being asked


class Served(Threaded):
    """`with Served(directory, url) as relay:` serves HTTP at `relay.base`; what it delivers arrives in `relay.sink`.

    options  settings as environment variables, {"RELAY_RSPAMD__URL": "http://127.0.0.1:1"}
    clock    what time it is there, the machine's without one
    hold     its queue is held from the start, as that of a store from a backup
    """

    def __init__(self, directory: Path, store_url: str, clock: Clock | None = None, hold: bool = False, **options: str):
        self.directory, self.store_url, self.options, self.clock, self.hold = directory, store_url, options, clock or Clock(), hold
        self.sink = Sink()
        self.port, self.public_port, self.smtp_port = free_port(), free_port(), free_port()
        self.base, self.public = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.public_port}"

    async def open(self) -> None:
        self.sink.start()
        routes = f'[{{domain = "*", host = "127.0.0.1:{self.sink.port}"}}]'
        environ = {
            "RELAY_DATA_DIR": str(self.directory), "RELAY_STORE__URL": self.store_url, "RELAY_DELIVERY__ROUTE": routes, "RELAY_STORE__MIN_FREE": "1MB",
            "RELAY_STORE__RESERVE": "1MB", "RELAY_HOSTNAME": "relay.test", "RELAY_HTTP__LISTEN": f"127.0.0.1:{self.port}",
            "RELAY_HTTP__PUBLIC_LISTEN": f"127.0.0.1:{self.public_port}", "RELAY_HTTP__PUBLIC_URL": self.public,
            "RELAY_SMTP__SUBMISSION": f"127.0.0.1:{self.smtp_port}", "RELAY_DOMAINS__REQUIRE_VERIFIED": "false",
            "RELAY_WEBHOOKS__ALLOW_PRIVATE": "true", "RELAY_SECRET_KEY": "a secret of thirty-two characters", "RELAY_LOG__LEVEL": "error", **self.options,
        }
        self.relay = app.Relay(settings.load(None, environ), None, 0, self.hold)
        self.relay.clock = self.clock
        await self.relay.start()

    async def shut(self) -> None:
        await self.relay.stop()
        self.sink.stop()

    def act(self, act: Any, *args: Any, **named: Any) -> Any:
        """What an act of relay.control gives."""
        return self.call(act(self.relay.control, *args, **named))

    def tenant(self, permission: str = "full_access", mode: str = "live", domain: str = "", project: str = "") -> Tenant:
        """A client with a key of a project of its own, or of the one named."""
        if not project:
            project = f"t-{secrets.token_hex(4)}"
            self.act(keys.create_project, project)
        made = self.act(keys.create, project=project, permission=permission, mode=mode, domain=domain)
        number = self.call(self.relay.store.read(stored_keys.find, made["key"])).project_id
        return Tenant(self, project, number, made["key"])


class Tenant:
    """A key of a project, as an HTTP client; `send` posts the smallest email there is."""

    def __init__(self, served: Served, project: str, number: int, key: str):
        self.served, self.project, self.number, self.key = served, project, number, key
        self.http = httpx.Client(base_url=served.base, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE)

    def send(self, **given: Any) -> Any:
        """The answer's JSON; the status must be 202."""
        answer = self.http.post("/emails", json=email(**given))
        assert answer.status_code == 202, answer.text
        return answer.json()

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(path, params=query or None)  # an empty mapping would take the query of the path away
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.http.post(path, json=body) if body is not None else self.http.post(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def patch(self, path: str, body: Any, status: int = 200) -> Any:
        answer = self.http.patch(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def delete(self, path: str, status: int = 200) -> Any:
        answer = self.http.delete(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def until(self, path: str, ready: Any, seconds: float = PATIENCE) -> Any:
        """What `path` answers once `ready(answer)`; asks again and again, each time a little later, and fails when the time is over."""
        end, pause = time.monotonic() + seconds, FIRST
        while not ready(answer := self.http.get(path).json()):
            assert time.monotonic() < end, f"{path} still answers {answer}"
            time.sleep(pause)
            pause = min(pause * 1.5, LAST)
        return answer


def arrived(served: Served, tenant: Tenant, sent: dict[str, Any]) -> tuple[EmailMessage, Any]:
    """The message of this answer, read and as the sink has it; what other tests sent may be more than the standard library can read."""
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    field = f"<{sent['id']}@relay.test>"
    for each in served.sink.messages:
        if field.encode() in each.content and (message := message_from_bytes(each.content, policy=default))["Message-ID"] == field:
            return message, each
    raise AssertionError("it did not arrive")


def email(**given: Any) -> dict[str, Any]:
    return {"from": "PostStack <you@yourdomain.com>", "to": ["user@example.com"], "subject": "Hello", "text": "Hi", **given}


