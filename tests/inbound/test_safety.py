"""Mail made to loop, to burst or to flood, at the door of domains: refused in words, or taken and causing nothing; and the relay goes on."""

import smtplib

import pytest

from relay.clock import Clock
from relay.inbound.pace import SENDERS, Pace, source
from relay.mail import traces
from relay.mail.tokens import TRACE, pack
from relay.services import StoredCounters
from relay.store.engine import Store
from tests.inbound.conftest import Receiving
from tests.inbound.letters import Stranger, home
from tests.inbound.test_received import refusal, told
from tests.mail.test_reading import nested
from tests.support.services import Kept


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A relay that honours p=reject and takes three recipients of a sender in an hour."""
    directory = tmp_path_factory.mktemp("strict")
    options = {"RELAY_INBOUND__DMARC": "reject", "RELAY_INBOUND__PER_SENDER": "3", "RELAY_SMTP__MAX_SIZE": "200kB"}
    with Receiving(directory, f"sqlite:///{directory / 'relay.db'}", **options) as relay:
        yield relay


@pytest.mark.parametrize(("field", "subject"), [
    pytest.param("Auto-Submitted: auto-replied", "hello", id="auto-replied"),
    pytest.param("Precedence: bulk", "Out of Office: hello", id="vacation"),
    pytest.param("X-Auto-Response-Suppress: All", "Automatic reply: hello", id="exchange"),
    pytest.param("Content-Type: multipart/report; report-type=disposition-notification; boundary=b", "Read: hello", id="receipt"),
])
def test_automatic_answers_cause_nothing(served, tenant, field, subject):
    name, _ = home(tenant)
    far = Stranger(served)
    sent = tenant.send(to=[f"joe@{far.name}"])
    letter = far.letter(f"help@{name}", field, f"In-Reply-To: <{sent['id']}@relay.test>", subject=subject)
    assert served.post(f"help@{name}", letter, f"joe@{far.name}")[0] == 250
    assert told(tenant) == []
    assert "email.inbound" not in [each["type"] for each in tenant.get("/events")["events"]]


def test_a_null_sender_to_a_domain_causes_nothing(served, tenant):
    name, _ = home(tenant)
    far = Stranger(served)
    assert served.post(f"help@{name}", far.letter(f"help@{name}"), "")[0] == 250
    assert told(tenant) == []


def test_nothing_is_ever_answered_by_mail(served, tenant):
    name, _ = home(tenant)
    far = Stranger(served)
    letter = far.letter(f"help@{name}", f"Disposition-Notification-To: joe@{far.name}", f"Return-Receipt-To: joe@{far.name}", f"Reply-To: joe@{far.name}")
    served.post(f"help@{name}", letter, f"joe@{far.name}")
    tenant.until("/inbound", lambda got: len(got["inbound_emails"]) == 1)
    assert tenant.get("/emails")["pagination"]["total"] == 0
    assert not [each for each in served.sink.messages if f"joe@{far.name}" in each.recipients]


@pytest.mark.parametrize(("content", "code", "words"), [
    pytest.param(b"Received: by a.test\r\n" * 51 + b"From: a@b.test\r\n\r\nx\r\n", 554, "mail loop", id="too-many-hops"),
    pytest.param(nested(25) + b"\r\n", 554, "nests more than", id="nested-mime"),
    pytest.param(nested(20_000) + b"\r\n", 554, "nests more than", id="a-tower-of-mime"),
    pytest.param(b"".join(b"X-%d: y\r\n" % number for number in range(1_100)) + b"\r\nx\r\n", 552, "header over", id="too-many-fields"),
])
def test_what_is_made_to_break_the_reader_is_refused(served, tenant, content, code, words):
    name, _ = home(tenant)
    far = Stranger(served)
    answer = served.post(f"help@{name}", content, f"joe@{far.name}")
    assert (answer[0], words in answer[1].decode()) == (code, True), answer
    assert told(tenant) == []


def trace(served, number):
    """A trace field that this relay has put on a message."""
    return traces.field(served.relay.tools.services.tokens.make(TRACE, pack(number))).raw.decode().strip()


@pytest.mark.parametrize(("rounds", "code"), [(1, 250), (2, 554)], ids=["an-answer-or-a-forward", "a-loop"])
def test_a_letter_that_we_sent_on_twice_loops(served, tenant, rounds, code):
    name, _ = home(tenant)
    far = Stranger(served)
    letter = far.letter(f"help@{name}", *(trace(served, number) for number in range(rounds)), "Relay-Trace: " + "a" * 40, "Relay-Trace: " + "b" * 40)
    answer = served.post(f"help@{name}", letter, f"joe@{far.name}")
    assert (answer[0], b"5.4.6" in answer[1]) == (code, code == 554)
    assert len(told(tenant)) == (code == 250)


def test_a_message_above_the_limit_is_refused_by_its_declared_size(strict):
    with strict.dial() as line:
        line.ehlo()
        assert line.mail("a@b.test", ["SIZE=300000"])[0] == 552


def test_a_sender_has_its_rate(strict):
    tenant = strict.tenant()
    name, _ = home(tenant)
    far, other = Stranger(strict), Stranger(strict)
    for _ in range(3):
        strict.post(f"help@{name}", far.letter(f"help@{name}"), f"joe@{far.name}")
    code, said = refusal(strict, f"help@{name}", far.letter(f"help@{name}"), f"Joe@{far.name}")
    assert (code, "too much mail" in said) == (450, True)
    strict.post(f"help@{name}", other.letter(f"help@{name}"), f"ann@{other.name}")
    assert len(told(tenant)) == 4


@pytest.mark.parametrize(("policy", "code"), [("v=DMARC1; p=reject", 550), ("v=DMARC1; p=quarantine", 250), ("v=DMARC1; p=none", 250)])
def test_where_asked_for_a_disowned_message_is_refused(strict, policy, code):
    tenant = strict.tenant()
    name, _ = home(tenant)
    far, victim = Stranger(strict), Stranger(strict, policy=policy)
    answer = strict.post(f"help@{name}", far.letter(f"help@{name}", author=f"boss@{victim.name}"), f"{victim.name}@{far.name}")
    assert answer[0] == code
    assert len(told(tenant)) == (code == 250)
    if code == 550:
        assert answer[1].startswith(b"5.7.26")


def test_talking_before_the_answer_ends_the_connection(served):
    with smtplib.SMTP("127.0.0.1", served.inbound_port, timeout=60) as line:
        line.send(b"EHLO far.test\r\nMAIL FROM:<>\r\n")
        assert line.getreply()[0] == 554


def test_a_greeting_comes_first(served):
    with served.dial() as line:
        assert line.docmd("MAIL FROM:<a@b.test>")[0] == 503
        assert line.docmd("EHLO", "two words.test x")[0] == 501


def test_more_recipients_than_mail_to_us_has_hear_452(served, tenant):
    name, _ = home(tenant)
    with served.dial() as line:
        line.ehlo()
        line.mail("a@b.test")
        codes = [line.rcpt(f"n{number}@{name}")[0] for number in range(25)]
    assert codes == [250] * 20 + [452] * 5


class TestPace:
    async def test_a_window_ends(self):
        pace = Pace(2)
        assert [await pace.take("a", at) for at in (0.0, 10.0, 20.0, 3_600.0)] == [True, True, False, True]

    async def test_no_limit(self):
        pace = Pace(0)
        assert all([await pace.take("a", 0.0) for _ in range(5)])

    async def test_memory_is_bounded(self):
        pace = Pace(1)
        for number in range(SENDERS + 10):
            await pace.take(str(number), 0.0)
        assert len(pace._seen) == SENDERS

    @pytest.mark.parametrize("limit", [3, 100])
    async def test_several_relays_on_one_store_share_a_limit(self, postgres_url, tmp_path, limit):
        clock = Clock(now=lambda: 1_790_000_000.0)
        stores = [await Store.open(postgres_url, tmp_path / name) for name in ("one", "two")]
        paces = [Pace(limit, StoredCounters(store, clock)) for store in stores]
        taken = [await paces[turn % 2].take("joe@far.test", 0.0) for turn in range(3 * limit)]
        assert sum(taken) == limit
        assert await paces[0].take("ann@far.test", 0.0)
        for store in stores:
            await store.close()

    async def test_who_has_used_all_is_not_asked_about_again(self):
        kept = Kept()
        pace = Pace(20, kept)
        assert sum([await pace.take("a", 0.0) for _ in range(50)]) == 20
        kept.used.clear()
        assert not await pace.take("a", 1.0)
        assert kept.used == {}

    @pytest.mark.parametrize(("client", "counted"), [("192.0.2.7", "192.0.2.7"), ("2001:db8::1:2:3:4", "2001:db8::/64"), ("uid:7", "uid:7")])
    def test_an_ipv6_customer_is_one(self, client, counted):
        assert source(client) == counted
