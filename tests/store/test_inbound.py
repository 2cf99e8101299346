"""How long mail to domains and reports are kept, and that their octets stay as long and go with them; on both databases."""

import pytest

from relay.errors import Defer, NotFound
from relay.mail.ids import EPOCH
from relay.store import bodies, domains, retention
from relay.store.domains import Domain
from relay.store.inbound import mail, reports
from relay.store.inbound.mail import Inbound
from relay.store.inbound.reports import Kept, Source
from relay.store.retention import Keep
from tests.store.conftest import NOW, PROJECT

DAY = 86_400.0
KEEP = Keep(bodies=7 * DAY, inbound=30 * DAY, reports=180 * DAY)
DOMAIN = Domain(77, PROJECT, "home.test", "pending", {}, {"inbound_enabled": True}, NOW)


def number(days):
    return int((NOW - days * DAY) * 1000 - EPOCH) << 21


def letter(days, **changes):
    given = {
        "id": number(days), "project_id": PROJECT, "domain_id": 77, "domain": "home.test", "digest": f"{days}", "client": "192.0.2.1", "sender": "a@b.test",
        "recipients": ["x@home.test"], "from_address": "a@b.test", "from_name": "", "to_addresses": [], "cc_addresses": [], "subject": "hello\0",
        "message_id": "m", "in_reply_to": "", "answers": None, "mailbox_hash": "", "size": 20_000, "spam_verdict": "", "authentication": {}, "attachments": [],
        "spam_score": None, "created_at": NOW - days * DAY, **changes}
    return Inbound(**given)


def report(days, kind="dmarc", **changes):
    given = {"kind": kind, "id": number(days), "project_id": PROJECT, "domain_id": 77, "report_id": f"{kind}{days}", "organisation": "o", "contact": "",
             "domain": "home.test", "begins": NOW - days * DAY, "ends": NOW, "policy": {}, "status": "processed", "error": "", "created_at": NOW - days * DAY}
    return Kept(**given | changes)


@pytest.fixture
async def home(store):
    await store.write(domains.add, DOMAIN)
    return store


@pytest.mark.parametrize(("days", "kept"), [(1, True), (20, True), (31, False)])
async def test_mail_is_kept_its_own_time_and_not_that_of_our_own_mail(home, days, kept):
    new = await home.write(mail.add, letter(days), b"x" * 20_000, {})
    await retention.sweep(home, KEEP, NOW)
    if kept:
        assert await home.read(mail.octets, PROJECT, new.id) == b"x" * 20_000
    else:
        with pytest.raises(NotFound):
            await home.read(mail.get, PROJECT, new.id)
        with pytest.raises(NotFound):
            await home.read(bodies.get, new.id)


async def test_octets_go_with_the_domain(home):
    new = await home.write(mail.add, letter(8), b"x" * 20_000, {})
    await home.write(domains.remove, PROJECT, "home.test")
    await retention.sweep(home, KEEP, NOW)
    with pytest.raises(NotFound):
        await home.read(bodies.get, new.id)


async def test_odd_texts_wedge_nothing(home):
    odd = letter(1, from_name="\ud800", subject="x" * 5_000, message_id="y" * 2_000, attachments=[{"filename": "a\0"}], to_addresses=["\ud800"])
    new = await home.write(mail.add, odd, b"x", {"text": "\0\ud800"})
    assert (await home.read(mail.get, PROJECT, new.id)).subject == "x" * 2_000


async def test_a_message_twice_is_known(home):
    assert await home.write(mail.add, letter(1), b"x", {}) is not None
    assert await home.write(mail.add, letter(1, id=number(1) + 1), b"x", {}) is None


async def test_reports_go_with_their_counts(home):
    for days in (1, 181):
        await home.write(reports.add, report(days), [Source("192.0.2.1", 5, 5, 5, 0)])
        await home.write(reports.add, report(days, "tls", successes=3))
    await retention.sweep(home, KEEP, NOW)
    assert await home.read(reports.totals, 77, 0.0) == (5, 5, 5, 0)
    assert await home.read(reports.sessions, 77, 0.0) == (3, 0)


async def test_reports_of_a_day_are_bounded(home):
    def many(conn):
        for at in range(reports.DAILY):
            assert reports.add(conn, report(0, "tls", id=number(0) - at, report_id=f"r{at}"))

    await home.write(many)
    assert await home.write(reports.add, report(0))
    with pytest.raises(Defer) as caught:
        await home.write(reports.add, report(0, "tls", id=number(0) + 1, report_id="one more"))
    assert caught.value.reply.code == 452
