"""Delivery reports end to end (RFC 3461, RFC 3464): asked for over SMTP, built when a recipient ends, sent by MX lookup to the sender's own server."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from itertools import count

import pytest

from tests.end_to_end.world import World
from tests.support import dkim
from tests.support.until import until

_number = count(1)


def nobody(world: World, domain: str = "example.net") -> str:
    """An address to which Postfix answers 550 5.1.1 at RCPT; another each time, since it is suppressed then."""
    return world.address(f"nobody.{next(_number)}", domain)


def reports(world: World, to: str) -> list[EmailMessage]:
    """The delivery reports of our relay that have arrived for this sender."""
    found = [email.message_from_bytes(mail.sent, policy=email.policy.default) for mail in world.mx.mails() if mail.recipient == to and mail.sender == ""]
    return [report for report in found if report.get_param("report-type") == "delivery-status"]


def report(world: World, to: str) -> EmailMessage:
    (found,) = until(lambda: reports(world, to))
    return found


def fields(found: EmailMessage) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of the message and those of its one recipient, from the machine's part."""
    of_message, of_recipient = found.get_payload(1).get_payload()
    return {k.lower(): v for k, v in of_message.items()}, {k.lower(): v for k, v in of_recipient.items()}


@pytest.mark.parametrize("world", ["one", "workers", "postgres"], indirect=True)
def test_a_failure_is_told_to_the_sender_in_the_words_of_the_remote(world):
    sender, to = world.address("fails", "example.com"), nobody(world)
    octets = world.send(to, sender, ["RET=FULL", "ENVID=order+2B42"], ["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;Nobody+2Bone@example.net"])
    found = report(world, sender)
    assert found["To"] == sender
    assert "MAILER-DAEMON@relay.test" in found["From"]
    assert found["Auto-Submitted"] == "auto-replied"
    of_message, of_recipient = fields(found)
    assert of_message["reporting-mta"] == "dns; relay.test"
    assert of_message["original-envelope-id"] == "order+42"
    assert of_recipient["original-recipient"] == "rfc822; Nobody+one@example.net"
    assert of_recipient["final-recipient"] == f"rfc822; {to}"
    assert of_recipient["action"] == "failed"
    assert of_recipient["status"] == "5.1.1"
    assert of_recipient["remote-mta"] == "dns; mx.example.net"
    assert of_recipient["diagnostic-code"].startswith("smtp; 550 5.1.1 ")
    assert to in found.get_payload(0).get_content()
    original = found.get_payload(2)
    assert original.get_content_type() == "message/rfc822"
    assert original.get_payload(0)["Subject"] == f"to {to}"
    assert octets.decode().split("\r\n\r\n")[1].split() == original.get_payload(0).get_content().split()


def test_ret_hdrs_sends_the_header_only(world):
    sender = world.address("header", "example.com")
    world.send(nobody(world), sender, ["RET=HDRS"])
    original = report(world, sender).get_payload(2)
    assert original.get_content_type() in ("text/rfc822-headers", "message/rfc822-headers")
    assert "hello" not in original.as_string()


@pytest.mark.parametrize(("domain", "status", "words"), [
    ("null.test", "5.1.10", "null MX"),
    ("absent.test", "5.1.2", "does not exist"),
], ids=["null MX", "no such domain"])
def test_a_domain_without_mail_is_told_at_once(world, domain, status, words):
    sender, to = world.address(domain, "example.com"), world.address("who", domain)
    world.send(to, sender)
    assert fields(report(world, sender))[1]["status"] == status
    assert words in world.told(to, "bounced")


def test_no_report_where_none_is_wanted(world):
    """NOTIFY=NEVER, NOTIFY=SUCCESS alone, and mail that is itself a report (null reverse-path); the last one shows that reports do arrive."""
    never, success, last = (world.address(name, "example.com") for name in ("never", "success", "last"))
    itself = nobody(world, "example.com")
    world.send(itself, "", [], [])
    world.send(nobody(world), never, [], ["NOTIFY=NEVER"])
    world.send(nobody(world), success, [], ["NOTIFY=SUCCESS"])
    world.told(itself, "bounced")
    world.send(nobody(world), last)
    assert report(world, last)
    assert reports(world, never) == reports(world, success) == []
    assert [mail for mail in world.mx.mails() if mail.recipient == itself] == []


def test_a_report_is_not_reported(world):
    """One that cannot be delivered ends, and nothing answers it: the sender of the failing message does not exist either."""
    author = nobody(world, "example.com")
    world.send(nobody(world), author)
    told = world.told(author, "bounced")
    assert "MAILER-DAEMON" in told
    assert "reverse-path <>" in told


def test_success_is_reported_as_relayed_where_the_next_server_knows_no_dsn(world):
    sender, to = world.address("relayed", "example.com"), world.address("plain", "plain.test")
    world.send(to, sender, ["ENVID=e1"], ["NOTIFY=SUCCESS"])
    of_message, of_recipient = fields(report(world, sender))
    assert (of_recipient["action"], of_recipient["status"][0], of_message["original-envelope-id"]) == ("relayed", "2", "e1")
    (received,) = [each for each in world.far.sink.messages if each.recipients == [to]]
    assert "NOTIFY" not in received.rcpts[0].upper()


def test_success_is_reported_by_the_next_server_where_it_knows_dsn(world):
    """What was asked goes on with the message, and we say nothing ourselves (RFC 3461 §5.2.2)."""
    sender, to = world.address("passed", "example.com"), world.address("known")
    world.send(to, sender, ["ENVID=e2"], ["NOTIFY=SUCCESS"])
    of_message, of_recipient = fields(report(world, sender))
    assert of_message["reporting-mta"] == "dns; mx.postfix.test"
    assert of_message["original-envelope-id"] == "e2"
    assert of_recipient["action"] == "delivered"
    assert len(reports(world, sender)) == 1


def test_a_delay_is_reported_once_to_those_who_asked(world):
    sender, to = world.address("delay", "example.com"), world.address("late", "plain.test")
    world.far.sink.script.rcpt[to] = "451 4.2.0 come back later"
    world.send(to, sender, [], ["NOTIFY=DELAY,FAILURE"])
    world.told(to, "come back later")

    def delayed() -> list[EmailMessage]:
        world.relay.run("queue", "retry", to)
        return reports(world, sender)

    (found,) = until(delayed)
    assert fields(found)[1]["action"] == "delayed"
    assert fields(found)[1]["status"] == "4.2.0"
    world.relay.command("queue", "cancel", to)
    assert "cancelled" in world.told(to, "cancelled")
    assert len(reports(world, sender)) == 1


def test_a_report_from_a_hostname_that_nobody_added_leaves_unsigned(world):
    sender = world.address("unsigned", "example.com")
    world.send(nobody(world), sender)
    report(world, sender)
    (mail,) = [mail for mail in world.mx.mails() if mail.recipient == sender]
    assert dkim.dkimpy(mail.sent, world.records) == []
    assert mail.sender == ""
