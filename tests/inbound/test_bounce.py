"""Bounces that come back by mail: from a send, over its return path, to ledger, events, suppression, contact and `relay explain`, on both databases."""

import smtplib
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from relay.control import bounces
from relay.control.explain import explain
from relay.mail import ids
from relay.mail.tokens import BOUNCE, pack
from relay.store import domains
from relay.store.domains import VERIFIED, Domain
from tests.inbound.samples import sample
from tests.inbound.test_refused import shift
from tests.support.until import until


@pytest.fixture
def sender(served, tenant):
    """A project whose domain's bounces come to us."""
    name = f"{tenant.project}.example"
    add_domain(served, tenant, name)
    return SimpleNamespace(tenant=tenant, name=name, served=served)


def add_domain(served, tenant, name):
    back = f"bounces.{name}"
    row = Domain(served.relay.maker.next(), tenant.number, name, VERIFIED, {f"MX {back}": True}, {"return_path": back}, time.time(), time.time())
    served.call(served.relay.store.write(domains.add, row))
    served.relay.changed("domains")


def send(sender, to="user@example.com", **given):
    """The id of a message that was delivered, and the reverse-path of its copy."""
    sent = sender.tenant.send(**{"from": f"you@{sender.name}", "to": [to], **given})
    sender.tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    (copy,) = [each for each in sender.served.sink.messages if f"<{sent['id']}@relay.test>".encode() in each.content]
    return sent["id"], copy.sender


def state(sender, number):
    """Status of the email, its events without those of every delivery, and the suppressed addresses of the project."""
    types = [each["type"] for each in sender.tenant.get(f"/emails/{number}/events")["events"]]
    assert types[:3] == ["queued", "sent", "delivered"]
    stopped = [(each["email"], each["reason"]) for each in sender.tenant.get("/suppressions")["suppressions"]]
    return sender.tenant.get(f"/emails/{number}")["status"], types[3:], stopped


HARD = ("bounced", ["bounced"], [("user@example.com", "hard_bounce")])
LOST = ("bounced", ["bounced"], [])
QUIET = ("delivered", [], [])
TABLE = {  # sample -> what it changes for user@example.com
    "postfix": HARD, "exim": HARD, "qmail": HARD, "exchange": HARD, "gmail": HARD, "ironport": HARD, "one_group_no_types": HARD,
    "sendmail": HARD, "microsoft365": HARD, "lotus": HARD, "japanese": HARD, "spanish_qmail": HARD, "no_final_recipient": HARD,
    "sendmail_freeform": LOST, "yahoo": LOST, "courier": LOST, "exchange_full": LOST,
    "postfix_delayed": ("delivered", ["deferred"], []),
    "postfix_relayed": QUIET,
    "postfix_several": ("delivered", ["soft_bounced"], []),
    "exchange_reputation": LOST, "nothing_said": LOST,
    "forward_broken": ("delivered", ["soft_bounced"], []),
    "vacation": QUIET, "person": QUIET,
}


@pytest.mark.parametrize("name", TABLE)
def test_what_a_report_changes(sender, name):
    number, path = send(sender)
    assert path.startswith("bounce+")
    assert path.endswith(f"@bounces.{sender.name}")
    assert sender.served.post(path, sample(name)) == (250, b"2.0.0 done")
    assert state(sender, number) == TABLE[name]


def test_soft_reports_wear_an_address_out(sender):
    """Guesses out of free text count as soft ones: one suppresses nobody, five on five days rest the address for a while."""
    for _ in range(5):
        assert sender.tenant.get("/suppressions")["suppressions"] == []
        shift(sender.tenant, "user@example.com", 1)
        _, path = send(sender)
        sender.served.post(path, sample("yahoo"))
    assert [(each["reason"], each["expires_at"] is None) for each in sender.tenant.get("/suppressions")["suppressions"]] == [("soft_bounce", False)]


def test_one_report_for_several_recipients_finds_each_by_its_own_path(sender):
    sent = {to: send(sender, to) for to in ("gone@example.com", "full@example.com", "slow@example.com")}
    for _, path in sent.values():
        sender.served.post(path, sample("postfix_several"))
    found = {to.partition("@")[0]: sender.tenant.get(f"/emails/{number}")["status"] for to, (number, _) in sent.items()}
    assert found == {"gone": "bounced", "full": "bounced", "slow": "failed"}
    assert [each["email"] for each in sender.tenant.get("/suppressions")["suppressions"]] == ["gone@example.com"]


def test_the_same_report_twice_changes_nothing_more(sender):
    number, path = send(sender)
    for _ in range(15):
        assert sender.served.post(path.upper(), sample("postfix"))[0] == 250
    assert state(sender, number) == HARD
    (told,) = sender.served.act(explain, number)["messages"]
    assert len(told["recipients"][0]["attempts"]) <= 11


def test_explain_tells_the_report_and_the_suppression(sender):
    number, path = send(sender)
    sender.served.post(path, sample("postfix"))
    told = sender.served.act(explain, number)["messages"][0]["recipients"][0]
    delivered, heard = told["attempts"]
    assert (delivered["phase"], heard["phase"], heard["result"], heard["mx"]) == ("dot", "report", "permfail", "mail.example.com")
    assert (heard["class"], heard["rule"], delivered["class"]) == ("hard", "no-such-user", None)
    assert told["state"] == "bounced"
    assert told["reply"].startswith("550 5.1.1 <user@example.com>: Recipient address rejected")
    (entry,) = sender.served.act(explain, "user@example.com", project=sender.tenant.project)["suppressions"]
    assert entry["evidence"]["reporter"] == "mx.far.test"
    assert entry["evidence"]["rule"] == "no-such-user"
    assert entry["evidence"]["email_id"] == number
    assert not {"message_id", "recipient_id"} & set(entry["evidence"])


def test_a_hard_bounce_unsubscribes_the_contact_and_stops_what_waits(sender):
    contact = sender.tenant.post("/contacts", {"email": "User@Example.com"}, 201)
    _, path = send(sender)
    waiting = sender.tenant.send(**{"from": f"you@{sender.name}", "to": ["user@example.com"], "scheduled_at": "2027-06-01T09:00:00Z"})
    sender.served.post(path, sample("gmail"))
    assert sender.tenant.get(f"/emails/{waiting['id']}")["status"] == "suppressed"
    assert sender.tenant.get(f"/contacts/{contact['id']}")["unsubscribed"] is True
    types = [each["type"] for each in sender.tenant.get("/events")["events"]]
    assert {"email.bounced", "contact.bounced", "contact.unsubscribed"} <= set(types)


def test_two_projects_never_cross(served, sender):
    """The same person has mail of two projects; a report on one's path, at the other's host or naming everything of the other, touches one only."""
    other_tenant = served.tenant()
    other = SimpleNamespace(tenant=other_tenant, name=f"{other_tenant.project}.example", served=served)
    add_domain(served, other_tenant, other.name)
    mine, path = send(sender)
    theirs, their_path = send(other)
    local = path.partition("@")[0]
    with pytest.raises(smtplib.SMTPResponseException, match="relaying denied"):
        served.post(f"{local}@bounces.{other.name}", sample("postfix"))
    served.post(path, sample("postfix").replace(b"Message-Id", f"X-About: {their_path} {theirs}\r\nMessage-Id".encode()))
    assert state(sender, mine) == HARD
    assert state(other, theirs) == QUIET


def test_recipients_share_a_transaction_where_bounces_cannot_come_back(served, tenant):
    sent = tenant.send(to=["a@example.com", "b@example.com"])
    tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "delivered")
    (copy,) = [each for each in served.sink.messages if f"<{sent['id']}@relay.test>".encode() in each.content]
    assert copy.sender == "you@yourdomain.com"
    assert sorted(copy.recipients) == ["a@example.com", "b@example.com"]


def test_who_submitted_by_smtp_hears_of_the_failure_at_their_own_reverse_path(served, sender):
    author = f"app.{sender.tenant.project}@{sender.name}"
    with smtplib.SMTP("127.0.0.1", served.smtp_port, "app.test", timeout=60) as line:
        line.login("app", sender.tenant.key)
        line.sendmail(author, ["user@example.com"], f"From: {author}\r\nTo: user@example.com\r\nSubject: over SMTP\r\n\r\nhello\r\n")
    copy = until(lambda: next((each for each in served.sink.messages if author.encode() in each.content), None))
    assert copy.sender.startswith("bounce+")
    served.post(copy.sender, sample("gmail"))
    notice = until(lambda: next((each for each in served.sink.messages if each.recipients == [author]), None))
    assert notice.sender == ""
    assert b"Status: 5.1.1" in notice.content
    assert b"The email account that you tried to reach does not exist" in notice.content


def test_a_success_that_a_later_hop_reports_goes_on_to_the_submitter_who_asked(served, sender):
    author = f"asks.{sender.tenant.project}@{sender.name}"
    octets = f"From: {author}\r\nTo: user@example.com\r\nSubject: asked\r\n\r\nhello\r\n"
    with smtplib.SMTP("127.0.0.1", served.smtp_port, "app.test", timeout=60) as line:
        line.login("app", sender.tenant.key)
        line.sendmail(author, ["user@example.com"], octets, (), ["NOTIFY=SUCCESS,FAILURE"])
    copy = until(lambda: next((each for each in served.sink.messages if author.encode() in each.content), None))
    assert copy.rcpts[0].endswith("NOTIFY=SUCCESS,FAILURE")
    served.post(copy.sender, sample("postfix_relayed"))
    notice = until(lambda: next((each for each in served.sink.messages if each.recipients == [author]), None))
    assert notice.sender == ""
    assert b"Action: delivered" in notice.content


def waits(sender, to):
    """The id of a message that the far side defers, its recipient's number, and the return path that its copies have."""
    sender.served.sink.script.rcpt[to] = "451 4.2.0 come back later"
    sent = sender.tenant.send(**{"from": f"you@{sender.name}", "to": [to]})
    sender.tenant.until(f"/emails/{sent['id']}", lambda got: got["status"] == "deferred")
    (told,) = sender.served.act(explain, sent["id"])["messages"]
    number = ids.internal(told["recipients"][0]["id"], "rcp")
    token = sender.served.relay.tools.services.tokens.make(BOUNCE, pack(number), time.time() + 1_000)
    return sent["id"], f"bounce+{token}@bounces.{sender.name}"


def test_a_recipient_that_still_waits_ends_by_the_report(sender):
    """The far side took the mail and its 250 was lost: it is not sent again."""
    number, path = waits(sender, "waits@example.com")
    sender.served.post(path, sample("postfix", user="waits@example.com"))
    assert sender.tenant.get(f"/emails/{number}")["status"] == "bounced"
    assert [each["email"] for each in sender.tenant.get("/suppressions")["suppressions"]] == ["waits@example.com"]
    (told,) = sender.served.act(explain, number)["messages"]
    assert told["recipients"][0]["next_attempt_at"] is None


def test_an_end_that_is_not_a_delivery_stays(sender):
    number, path = waits(sender, "cancelled@example.com")
    sender.tenant.post(f"/emails/{number}/cancel")
    sender.served.post(path, sample("postfix", user="cancelled@example.com"))
    assert sender.tenant.get(f"/emails/{number}")["status"] == "cancelled"
    assert sender.tenant.get("/suppressions")["suppressions"] == []


def replayed(sender, **given):
    """What a replay of the project's bounces changed, page by page."""
    total, following = {"looked": 0, "lifted": [], "suppressed": []}, ""
    while following is not None:
        page = sender.served.act(bounces.replay, project=sender.tenant.project, after=following, **given)
        total = {"looked": total["looked"] + page["looked"], **{name: total[name] + page[name] for name in ("lifted", "suppressed")}}
        following = page["next"]
    return total


def ruled(served, path, text):
    """Let the relay's settings name a file with these rules; "" takes it away."""
    path.write_text(text)
    config = served.relay.control.settings
    served.relay.control.settings = replace(config, suppress=replace(config.suppress, rules=str(path) if text else ""))


def test_replay_takes_back_what_a_rule_misread_and_finds_what_was_missed(sender, tmp_path):
    """The contact whom the bounce had unsubscribed comes back too; a guess, and an address that has had mail since, stay as they are."""
    contact = sender.tenant.post("/contacts", {"email": "user@example.com"}, 201)["id"]
    _, path = send(sender)
    sender.served.post(path, sample("postfix"))
    for to, name in (("full@example.com", "courier"), ("guess@example.com", "yahoo"), ("well@example.com", "courier")):
        _, path = send(sender, to)
        sender.served.post(path, sample(name, user=to))
    send(sender, "well@example.com")
    ruled(sender.served, tmp_path / "mine.toml", """rules = [
        {name = "their-directory-was-down", category = "soft", text = "unknown in local recipient table"},
        {name = "gone-when-full", category = "hard", code = "5", text = "quota"}]""")
    would = replayed(sender, dry_run=True)
    assert (would["lifted"][0]["address"], would["lifted"][0]["rule"]) == ("user@example.com", "their-directory-was-down")
    assert [each["email"] for each in sender.tenant.get("/suppressions")["suppressions"]] == ["user@example.com"]
    assert replayed(sender) == would
    (entry,) = sender.tenant.get("/suppressions")["suppressions"]
    assert (entry["email"], entry["evidence"]["rule"], entry["evidence"]["source"]) == ("full@example.com", "gone-when-full", "replay")
    assert sender.tenant.get(f"/contacts/{contact}")["unsubscribed"] is False
    ruled(sender.served, tmp_path / "mine.toml", "")
    assert [each["address"] for each in replayed(sender)["lifted"]] == ["full@example.com"]
    assert replayed(sender)["suppressed"] == []


def counted(sender, category):
    """How many recipients have ended by this category, as the relay's metrics say."""
    lines = sender.tenant.http.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'relay_bounces_total{{category="{category}"}}'))


@pytest.mark.parametrize(("name", "category", "more"), [
    pytest.param("postfix", "hard", 1, id="hard"),
    pytest.param("exchange_full", "mailbox-full", 1, id="full"),
    pytest.param("forward_broken", "hard", 0, id="about-another-address"),
])
def test_a_late_bounce_counts_once_among_the_bounces(sender, name, category, more):
    _, path = send(sender)
    before = counted(sender, category)
    for _ in range(2):
        sender.served.post(path, sample(name))
    assert counted(sender, category) - before == more
