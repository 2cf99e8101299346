"""What a kill -9 leaves of the API's promises: a scheduled email and its idempotency key outlive it."""

import time

import httpx2 as httpx

from relay.clock import iso
from tests.support.running import OPEN, Running, routed
from tests.support.served import email
from tests.support.sink import Sink


def test_a_scheduled_email_and_its_key_outlive_a_crash(tmp_path):
    with Sink() as sink, Running(tmp_path, {**OPEN, **routed(sink.address)}) as relay:
        client = httpx.Client(base_url=f"http://127.0.0.1:{relay.http}", headers={"Authorization": f"Bearer {relay.key()}"}, timeout=60)
        due = time.time() + 4.0
        body = email(scheduled_at=iso(due), idempotency_key="order_123")
        first = client.post("/emails", json=body)
        assert first.status_code == 202, first.text
        relay.kill()
        relay.start()
        again = client.post("/emails", json=body)
        assert (again.json(), again.headers["x-idempotent-replay"]) == ({**first.json(), "replayed": True}, "true")
        sink.wait(1, 30)
        assert time.time() >= due
        assert len(sink.messages) == 1
        assert f"<{first.json()['id']}@relay.test>".encode() in sink.messages[0].content
