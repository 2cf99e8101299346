"""An import that kill -9 cuts short goes on with the row after the last one that is in, whichever moment it was; each row counts once."""

from __future__ import annotations

import contextlib
import threading
import time

import httpx2 as httpx
import pytest

from tests.support.dns import DnsServer, mail
from tests.support.running import Running

ROWS = 16_000
PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def dns():
    with DnsServer(mail("example.com")) as server:
        yield server


@pytest.mark.parametrize("fault", ["store.before-commit:20", "store.committed:20"])
def test_an_import_goes_on_after_a_kill(tmp_path, store_url, dns, fault):
    where = Running(tmp_path, {"RELAY_STORE__URL": store_url, "RELAY_DNS__NAMESERVERS": dns.address, "RELAY_SECRET_KEY": "kept over the kill " * 3})
    key = where.key()
    people = "email,first_name,unsubscribed\n" + "".join(f"p{n % (ROWS - 100)}@example.com,P{n},{'yes' if n % 10 == 0 else ''}\n" for n in range(ROWS))
    where.start(RELAY_FAULT=fault)
    with api(where, key) as client, contextlib.suppress(httpx.HTTPError):
        client.post("/contacts/import", files={"file": ("people.csv", people.encode())})
    assert where.process.wait(PATIENCE) == -9
    with where, api(where, key) as client:
        (event,) = over(client)
        told = client.get(f"/contacts/imports/{event['data']['import_id']}").json()
        assert "import goes on" in where.log
        assert (told["status"], told["total"], told["imported"], told["duplicates"], told["errors"]) == ("completed", ROWS, ROWS - 100, 100, 0)
        assert client.get("/contacts").json()["pagination"]["total"] == ROWS - 100
        assert client.get("/contacts?unsubscribed=true").json()["pagination"]["total"] == (ROWS - 100) // 10
        contact = client.get("/contacts/by-email/p5@example.com").json()
        assert [entry["type"] for entry in client.get(f"/contacts/{contact['id']}/history").json()["history"]] == ["created"]
    assert not list((where.data / "imports").iterdir())


def test_an_import_whose_file_is_gone_says_so(tmp_path, dns):
    where = Running(tmp_path, {"RELAY_DNS__NAMESERVERS": dns.address})
    key = where.key()
    where.start(RELAY_FAULT="store.committed:20")
    with api(where, key) as client, contextlib.suppress(httpx.HTTPError):
        client.post("/contacts/import", files={"file": ("people.csv", b"email\n" + b"".join(b"p%d@example.com\n" % n for n in range(ROWS)))})
    assert where.process.wait(PATIENCE) == -9
    for file in (where.data / "imports").iterdir():
        file.unlink()
    with where, api(where, key) as client:
        (event,) = over(client)
        assert (event["data"]["status"], 0 < event["data"]["imported"] < ROWS) == ("failed", True)
        assert "import the file again" in client.get(f"/contacts/imports/{event['data']['import_id']}").json()["reason"]


def api(where, key):
    return httpx.Client(base_url=f"http://127.0.0.1:{where.http}", headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE)


def over(client):
    """The events that say that an import is over, once there are any."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [event for event in client.get("/events?type=import.completed").json()["events"] if event["type"] == "import.completed"]
        if found:
            return found
        threading.Event().wait(0.02)
    raise AssertionError("the import did not end")
