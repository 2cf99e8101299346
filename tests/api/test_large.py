"""Large attachments: spooled, unpacked beside the relay, built once; the relay answers others meanwhile."""

import asyncio
import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from relay.api.unpack import unpack
from relay.errors import Invalid
from tests.support.running import OPEN, Running
from tests.support.served import Served, email

FILE = os.urandom(1 << 20) * 6  # 6 MB
MEASURED = """
import sys
from relay.api.unpack import main
main(*sys.argv[1:])
sys.stderr.write(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(pid):
    """The most bytes that were resident of a process (its own; getrusage would start with those of its parent)."""
    return next(int(line.split()[1]) * 1_000 for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    directory = tmp_path_factory.mktemp("large")
    with Served(directory, f"sqlite:///{directory / 'relay.db'}") as served:
        yield served


@pytest.fixture
def tenant(relay):
    return relay.tenant()


def files(count, octets=FILE):
    content = base64.b64encode(octets).decode()
    return [{"filename": f"{n}.bin", "content": content} for n in range(count)]


def test_three_large_files_arrive_intact_while_others_are_served(relay, tenant):
    longest, done = 0.0, threading.Event()

    async def watch():
        """The processor's time of the longest turn of the relay's loop: for so long everybody else waits."""
        nonlocal longest
        while not done.is_set():
            begun = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - begun)

    def ask():
        other = relay.tenant()
        while not done.is_set():
            other.get("/project")

    body = json.dumps(email(attachments=files(3), idempotency_key="large")).encode()
    asker, watching = threading.Thread(target=ask), asyncio.run_coroutine_threadsafe(watch(), relay.loop)
    asker.start()
    try:
        answers = [tenant.http.post("/emails", content=body, headers={"Content-Type": "application/json"}) for _ in range(2)]
    finally:
        done.set()
        asker.join()
        watching.result()
    assert [each.status_code for each in answers] == [202, 202], answers[0].text
    first, again = (each.json() for each in answers)
    assert again == {**first, "replayed": True}
    assert longest < 1.0  # a quiet machine stays under 0.1
    tenant.until(f"/emails/{first['id']}", lambda got: got["status"] == "delivered", 60)
    (content,) = [each.content for each in relay.sink.messages if f"<{first['id']}@".encode() in each.content]
    parts = re.findall(rb"filename=\"\d.bin\"\r\n\r\n(.*?)\r\n--=_", content, re.DOTALL)
    assert [hashlib.sha256(base64.b64decode(part)).digest() for part in parts] == [hashlib.sha256(FILE).digest()] * 3
    assert list((relay.directory / "spool").iterdir()) == []


@pytest.mark.parametrize(("body", "status", "field"), [
    pytest.param(lambda: email(attachments=[{"filename": "a", "content": "?" * 1_400_000}]), 422, "attachments[0].content", id="not base64"),
    pytest.param(lambda: email(attachments=[{"filename": "a", "content": [0, 9, "x"]}], text="x" * 1_400_000), 422, "attachments[0].content",
                 id="a forged place"),
    pytest.param(lambda: email(text="x" * 1_400_000, subject=None), 422, "subject", id="a long text"),
    pytest.param(lambda: [1] * 700_000, 422, "body", id="a list"),
])
def test_what_is_wrong_with_a_large_request_is_named(tenant, body, status, field):
    answer = tenant.http.post("/emails", json=body())
    assert answer.status_code == status, answer.text
    if field != "body":
        assert answer.json()["field"] == field


def test_a_large_body_that_is_no_json(tenant):
    answer = tenant.http.post("/emails", content=b"{" + b" " * 1_400_000)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


def test_a_large_batch_is_independent_sends(tenant):
    rows = [email(attachments=files(1, b"x" * 1_000_000)), email(to=["nobody"])]
    data = tenant.post("/emails/batch", {"emails": rows}, 202)["data"]
    assert ("id" in data[0], data[1]["field"]) == (True, "to")


def test_a_body_above_the_bound_is_a_413(tmp_path):
    with Served(tmp_path, "", RELAY_HTTP__MAX_BODY="2MB") as small:
        answer = small.tenant().http.post("/emails", json=email(text="x" * 2_100_000))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_large_request_is_in_memory_once(tmp_path):
    """Three files of 8 MB are 33 MB of JSON: the relay holds the message once, and what unpacks it one file at a time."""
    body = json.dumps(email(attachments=files(3, FILE + FILE[:2_000_000]))).encode()
    relay = Running(tmp_path / "relay", OPEN, cold=True).start("--hold")  # how a delivery reads it is another test's
    try:
        key, before = relay.key(), peak(relay.process.pid)
        answer = httpx.post(f"http://127.0.0.1:{relay.http}/emails", content=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        assert answer.status_code == 202, answer.text
        assert peak(relay.process.pid) - before < 1.6 * len(body)
    finally:
        relay.kill()
    (tmp_path / "request").write_bytes(body)
    told = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "request"), str(tmp_path / "files")], capture_output=True, text=True, check=True)
    assert int(told.stderr.split()[1]) * 1_000 < len(body) + 60_000_000  # an interpreter, and some copies of one file


def test_unpacking_keeps_everything_but_the_files():
    request = {"emails": [{"a": 1, "attachments": [{"filename": "x", "content": "QUJD", "more": [None]}]}, {"attachments": 7}, 3]}
    out = io.BytesIO()
    answer = unpack(io.BytesIO(json.dumps(request).encode()), out)
    assert answer["request"] == {"emails": [{"a": 1, "attachments": [{"filename": "x", "more": [None]}]}, {"attachments": 7}, 3]}
    assert answer["files"] == [[0, 0, 0, 6, hashlib.sha256(b"QUJD\r\n").hexdigest()]]
    assert out.getvalue() == b"QUJD\r\n"


def test_unpacking_names_the_file_that_is_none():
    with pytest.raises(Invalid) as refused:
        unpack(io.BytesIO(json.dumps({"emails": [{}, {"attachments": [{"content": "QQ=="}, {"content": "?"}]}]}).encode()), io.BytesIO())
    assert refused.value.field == "emails[1].attachments[1].content"
