"""The event email.inbound at a webhook, with the files of the message."""

import base64

import orjson
import pytest

from relay.inbound.carrying import Carrying
from tests.inbound.letters import Stranger, home
from tests.inbound.test_received import told, with_files
from tests.webhooks.conftest import receiver  # noqa: F401  a fixture

PNG = bytes(range(256)) * 40


@pytest.fixture
def hooked(tenant, receiver):  # noqa: F811
    tenant.post("/webhooks", {"url": receiver.url, "events": ["email.inbound"]}, status=201)
    return receiver


def test_the_call_carries_the_files(served, tenant, hooked):
    name, _ = home(tenant)
    far = Stranger(served)
    served.post(f"help+7@{name}", with_files(far, f"help+7@{name}", PNG), f"joe@{far.name}")
    (call,) = hooked.wait(1)
    (found,) = told(tenant)
    data = call.event["data"]
    assert call.event["type"] == "email.inbound"
    assert (data["inbound_id"], data["domain"], data["to"]) == (found["id"], name, [f"help+7@{name}"])
    assert (data["from"], data["from_name"]) == (f"joe@{far.name}", "Joe")
    assert (data["subject"], data["text"], data["mailbox_hash"], data["spam_verdict"]) == ("hello", "see file", "7", "clean")
    assert data["authentication"]["dmarc"]["result"] == "pass"
    assert [(each["filename"], base64.b64decode(each["content"])) for each in data["attachments"]] == [("ü .._x.html", b"<script>"), ("", PNG)]


def test_the_log_and_the_list_of_deliveries_name_the_files_only(served, tenant, hooked):
    name, _ = home(tenant)
    far = Stranger(served)
    served.post(f"help@{name}", with_files(far, f"help@{name}", PNG), f"joe@{far.name}")
    hooked.wait(1)
    event = tenant.get("/events", type="email.inbound")["events"][0]
    assert [sorted(each) for each in event["data"]["attachments"]] == [["content_id", "content_type", "filename", "id", "size"]] * 2


def test_a_large_file_is_named_and_left_to_be_fetched(served, tenant):
    name, _ = home(tenant)
    far = Stranger(served)
    served.post(f"help@{name}", with_files(far, f"help@{name}", PNG), f"joe@{far.name}")
    event = tenant.get("/events", type="email.inbound")["events"][0]
    body = served.call(Carrying(served.relay.store, 1_000)(tenant.number, "email.inbound", orjson.dumps(event)))
    assert [each["content"] is None for each in orjson.loads(body)["data"]["attachments"]] == [False, True]


def test_another_project_hears_nothing(served, tenant, hooked):
    other = served.tenant()
    (mine, _), (theirs, _) = home(tenant), home(other)
    far = Stranger(served)
    for to in (f"a@{theirs}", f"a@{mine}"):
        served.post(to, far.letter(to), f"joe@{far.name}")
    (call,) = hooked.wait(1)
    assert call.event["data"]["domain"] == mine
