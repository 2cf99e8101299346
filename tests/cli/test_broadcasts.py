"""relay broadcast: an operator sees a broadcast, sends, holds and ends it, beside a relay that runs; without one only what needs none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.running import OPEN, Running, routed
from tests.support.sink import Sink
from tests.support.until import until

DRAFT = {"name": "March", "from": "News <news@sender.example>", "subject": "Hello \x1b[31mred", "text": "Hi\n", "all_contacts": True, "per_minute": 60}


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as opened:
        yield opened


@pytest.fixture(scope="module")
def relay(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("broadcasts"), {**OPEN, **routed(sink.address)}) as running:
        yield running


@pytest.fixture(scope="module")
def api(relay: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{relay.http}", headers={"Authorization": f"Bearer {relay.key()}"}, timeout=60) as client:
        for n in range(3):
            assert client.post("/contacts", json={"email": f"p{n}@reader.example"}).status_code == 201
        yield client


def draft(api: httpx.Client, **changes: object) -> str:
    answer = api.post("/broadcasts", json={**DRAFT, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_a_broadcast_from_draft_to_end(relay: Running, api: httpx.Client, sink: Sink) -> None:
    number = draft(api)
    assert relay.command("broadcast", "forecast", number)["recipients"] == 3
    assert relay.text("broadcast", "forecast", number).startswith("3 people, ")
    sent = relay.command("broadcast", "send", number)
    assert (sent["id"], sent["from"]) == (number, DRAFT["from"])
    assert relay.command("broadcast", "pause", number)["status"] == "paused"
    assert [each["id"] for each in relay.command("broadcast", "list", "--status", "paused")] == [number]
    shown = relay.text("broadcast", "show", number)
    assert "paused" in shown
    assert "\x1b" not in shown, "a subject must not drive a terminal"
    assert relay.command("broadcast", "resume", number)["status"] in ("queued", "sending")
    ended = relay.command("broadcast", "cancel", number)
    assert ended["status"] == "cancelled"
    assert relay.command("broadcast", "show", number)["text"] == "Hi\n"
    late = draft(api)
    assert relay.command("broadcast", "send", late, "--at", "2027-03-25T09:00:00Z")["scheduled_at"] == "2027-03-25T09:00:00.000Z"
    assert late in relay.text("broadcast", "list")
    relay.command("broadcast", "send", draft(api, per_minute=None, subject="At once"))
    until(lambda: {m.recipients[0] for m in sink.messages if b"Subject: At once" in m.content} == {f"p{n}@reader.example" for n in range(3)})


@pytest.mark.parametrize(("arguments", "words"), [
    pytest.param(("show", "brd_0000000000000"), "Broadcast not found", id="not there"),
    pytest.param(("show", "17"), "relay broadcast list", id="no id"),
    pytest.param(("list", "--status", "gone"), "status is one of draft", id="no such status"),
    pytest.param(("list", "--project", "nobody"), "nobody", id="no such project"),
])
def test_what_cannot_be_done_says_the_way_out(relay: Running, arguments: tuple[str, ...], words: str) -> None:
    done = relay.run("broadcast", *arguments)
    assert done.returncode == 1
    assert words in done.stderr


def test_another_project_has_its_own(relay: Running, api: httpx.Client) -> None:
    number = draft(api)
    relay.text("project", "create", "other")
    assert relay.command("broadcast", "list", "--project", "other") == []
    for act in ("show", "forecast", "send", "pause", "cancel"):
        assert "Broadcast not found" in relay.run("broadcast", act, number, "--project", "other").stderr
    assert relay.command("broadcast", "show", number)["status"] == "draft"


def test_without_a_relay_it_is_seen_and_not_sent(tmp_path: Path) -> None:
    stopped = Running(tmp_path, {**OPEN})
    assert json.loads(stopped.run("broadcast", "list", "--json").stdout) == []
    assert stopped.run("broadcast", "list").stdout.strip() == "there is no broadcast"
