"""The chains as relay.toml names them: what loads, what does not and why, and the default ones from the door to the wire."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import policy
from relay.errors import ConfigError, Defer, Invalid, Refuse, RelayError
from relay.mail.dkim import ED25519, RSA
from relay.mail.message import MARKETING, Wishes
from relay.mail.reply import Reply
from relay.policy import Domain, SigningKey, Suppression
from tests.support.dkim import dkimpy, pair, pem
from tests.support.services import KEY, NOW, SYSTEM, Kept, message, recipient, services

BARE = b"From: Joe <joe@example.com>\r\nTo: jane@example.org\r\nSubject: x\r\n\r\nhello\r\n"


def loaded(names, kept=None, **sections):
    return policy.load("policies.submit", [{"use": name} for name in names], services(kept, **sections))


def not_a_policy(options, services):
    return object()


def needs_more(options, services, more):
    return object()


class Broken:
    def __init__(self, options, services):
        pass

    async def apply(self, message):
        raise ZeroDivisionError


BAD = {
    "no use": ({}, r"policies\.submit\[0\]\.use: is missing"),
    "no module": ({"use": "policies.nothing"}, r"policies\.submit\[0\]\.use: there is no module or callable 'policies\.nothing'"),
    "no package": ({"use": "nowhere.at.all"}, r"cannot be imported: No module named 'nowhere'"),
    "no callable": ({"use": "policies.headers.STRIPPED"}, r"has no make"),
    "not a policy": ({"use": f"{__name__}.not_a_policy"}, r"made a object, which has no apply"),
    "wrong signature": ({"use": f"{__name__}.needs_more"}, r"could not be built"),
    "unknown option": (
        {"use": "policies.limit", "per_minute": 3}, r"submit\[0\]\.per_minute: is not an option of this policy; it takes key_per_day, key_per_hour",
    ),
    "bad option": ({"use": "policies.rspamd", "block": "ten"}, r"policies\.submit\[0\]\.block: 'ten' is not a number"),
}


@pytest.mark.parametrize(("entry", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_entry_names_itself_and_the_reason(entry, said):
    with pytest.raises(ConfigError, match=said):
        policy.load("policies.submit", [entry], services())


async def test_a_policy_that_fails_defers_the_mail_and_is_named():
    chain = policy.load("policies.submit", [{"use": f"{__name__}.Broken"}], services())
    with pytest.raises(Defer, match="policy Broken failed") as caught:
        await chain.apply(message(BARE))
    assert caught.value.reply.code == 451


def ours():
    kept = Kept(domains={1: {"example.com": Domain(1, "example.com", True, True, True)}})
    kept.keys[1, "example.com"] = [SigningKey("example.com", "rsa", RSA, pem(RSA))]
    return kept


async def test_from_the_door_to_the_wire():
    kept = ours()
    admit, copy, depart = (loaded(names, kept) for names in (policy.ADMIT, policy.COPY, policy.DEPART))
    html = b"From: Joe <joe@example.com>\r\nContent-Type: text/html\r\nBcc: x@secret.test\r\n\r\n<p><a href='https://a.example/'>a</a>\r\n"
    given = message(html, "jane@example.org", "bob@example.org", "out@example.org", wishes=Wishes(unsubscribe=True, topic="7", stream=MARKETING))
    kept.suppressions[1, "out@example.org", "topic:7"] = Suppression("unsubscribe", "topic:7", NOW)
    (admitted,) = await admit.apply(given)
    assert [r.address for r in admitted.recipients] == ["jane@example.org", "bob@example.org"]
    copies = await copy.apply(admitted)
    kept.suppressions[1, "bob@example.org", "all"] = Suppression("complaint", "all", NOW)
    leaving = [each for one in copies for each in await depart.apply(one)]
    assert [[r.address for r in each.recipients] for each in leaving] == [["jane@example.org"], []]
    octets = leaving[0].octets()
    assert dkimpy(octets, pair(RSA)[1]) == [True]
    assert [field.name for field in leaving[0].header.fields][:5] == [
        b"dkim-signature", b"relay-trace", b"list-unsubscribe", b"list-unsubscribe-post", b"received"]
    assert b"/t/c/" in octets
    assert b"/t/o/" in octets
    assert b"secret" not in octets
    assert [r.address for r, _ in leaving[1].dropped] == ["out@example.org", "bob@example.org"]
    assert not leaving[1].sealed


async def test_a_message_without_wishes_gets_only_its_trace_and_signature():
    kept = ours()
    kept.domains = {1: {"example.com": Domain(1, "example.com", True)}}
    complete = (b"Date: Mon, 21 Sep 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
                b"Content-Transfer-Encoding: 7bit\r\n") + BARE
    (out,) = [message(complete)]
    for names in (policy.ADMIT, policy.COPY, policy.DEPART):
        (out,) = await loaded(names, kept).apply(out)
    assert out.octets().endswith(b"\r\n" + complete)
    assert [field.name for field in out.header.fields][:4] == [b"dkim-signature", b"relay-trace", b"received", b"date"]


async def test_our_own_reports_meet_headers_and_dkim_only():
    kept = Kept(suppressions={(1, "jane@example.org", "all"): Suppression("manual", "all", NOW)})
    out = message(b"From: MAILER-DAEMON@relay.example\r\n\r\nsorry\r\n", sender="", principal=SYSTEM, wishes=Wishes(opens=True, unsubscribe=True))
    for names in (policy.ADMIT, policy.COPY, policy.DEPART):
        (out,) = await loaded(names, kept, limit={"project_per_hour": 1}).apply(out)
    assert len(out.recipients) == 1
    assert kept.used == {}


async def test_rcpt_asks_those_who_have_an_answer():
    kept = ours()
    kept.suppressions[1, "jane@example.org", "all"] = Suppression("hard_bounce", "all", NOW)
    chain = loaded(policy.ADMIT, kept)
    assert [name for name, _ in chain.at_recipient] == ["suppress", "limit"]
    envelope = message(BARE).envelope
    assert isinstance(await chain.recipient(KEY, envelope, recipient("jane@example.org")), Reply)
    assert await chain.recipient(KEY, envelope, recipient("bob@example.org")) is None


PIECES = [b"From: Joe <joe@example.com>\r\n", b"Sender: x\r\n", b"To: \xff\r\n", b"Content-Type: text/html\r\n", b"\r\n",
          b"--b\r\n", b"--b--\r\n",
          b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: text/html; charset=utf-16\r\n", b"Content-Transfer-Encoding: base64\r\n",
          b"Content-Transfer-Encoding: quoted-printable\r\n", b"<a href=https://a.example/>x</a>\r\n", b"PGEgaHJlZj1odHRwOi8vYi5leGFtcGxlPg==\r\n",
          b"</body>", b"=3D=\r\n",
          b"{{unsubscribe_url}}", b"\xe9", b"<!--", b"\r\n ", b"List-Unsubscribe: <x>\r\n", b"Date: never\r\n", b" ", b"\x00", b"Bcc: y\r\n"]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=14).map(lambda found: b"".join((b"From: joe@example.com\r\n", *found))))
async def test_any_octets_pass_or_are_refused(content):
    """No policy fails on what a client may send: a fault would be a 451 for ever, and chains turn faults into Defer."""
    kept = ours()
    kept.keys = {(1, "example.com"): [SigningKey("example.com", "ed25519", ED25519, pem(ED25519))]}
    going = [message(content, "a@example.org", "b@example.org", wishes=Wishes(unsubscribe=True, opens=True, clicks=True, stream=MARKETING))]
    for names in (policy.ADMIT, policy.COPY, policy.DEPART):
        chain = loaded(names, kept, http={"public_url": "https://mail.relay.example"})
        try:
            going = [out for one in going for out in await chain.apply(one)]
        except (Refuse, Invalid):
            assert names is policy.ADMIT
            return
    assert [len(out.recipients) for out in going] == [1, 1]
    assert all(out.sealed for out in going)


async def test_the_admit_chain_costs_little():
    chain = loaded(policy.ADMIT, ours())
    given = message(BARE)
    await chain.apply(given)
    start = time.thread_time()
    for _ in range(1_000):
        await chain.apply(given)
    assert (time.thread_time() - start) / 1_000 < 400e-6  # 45 us of the processor's time here; ten times that is a defect on any machine


TOGETHER = {
    "plain": (BARE, {}),
    "of somebody else": (BARE.replace(b"joe@example.com", b"eve@evil.example"), {}),
    "without From": (b"To: jane@example.org\r\n\r\nhello\r\n", {}),
    "marketing to one who left": (BARE, {"to": "left@example.org", "wishes": Wishes(stream=MARKETING)}),
    "transactional to one who left": (BARE, {"to": "left@example.org"}),
    "to one who gets nothing": (BARE, {"to": "out@example.org"}),
    "scheduled": (BARE, {"wishes": Wishes(send_at=NOW + 1_000)}),
    "complete": (b"Date: Mon, 21 Sep 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nBcc: x@y.z\r\n" + BARE, {}),
}


def brought(names):
    for name in names:
        content, said = TOGETHER[name]
        yield message(content, said.get("to", "jane@example.org"), wishes=said.get("wishes"))


async def alone(chain, given):
    try:
        (out,) = await chain.apply(given)
    except RelayError as error:
        return error.reply
    return out


def consenting():
    kept = ours()
    kept.suppressions = {(1, "left@example.org", "marketing"): Suppression("unsubscribe", "marketing", NOW),
                         (1, "out@example.org", "all"): Suppression("complaint", "all", NOW)}
    return kept


@settings(max_examples=50)
@given(st.lists(st.sampled_from(sorted(TOGETHER)), max_size=12), st.booleans())
async def test_a_chain_makes_of_many_what_it_makes_of_each(names, asked):
    chain = loaded(policy.ADMIT, consenting())
    assert chain.prompt
    many = list(brought(names))
    if asked:  # as at RCPT and for a batch: whom nothing stops altogether is remembered until his message comes
        pairs = [(each.envelope, recipient) for each in many for recipient in each.recipients]
        await chain.recipients(KEY, pairs)
    together = [each.reply if isinstance(each, RelayError) else each for each in await chain.apply_each(many)]
    apart = loaded(policy.ADMIT, consenting())
    assert together == [await alone(apart, each) for each in many]


async def test_a_chain_that_asks_outside_takes_no_many_together():
    assert not loaded(policy.ADMIT, ours(), rspamd={"url": "http://127.0.0.1:1"}).prompt
    assert not loaded(policy.ADMIT, ours(), limit={"key_per_hour": 3}).prompt
    assert not loaded(["policies.headers", f"{__name__}.Broken"]).prompt


class Counted:
    """A policy that counts what is on its way, and refuses what says so."""

    def __init__(self, options, services):
        self.used = services.suppressions.used

    async def apply(self, message):
        raise NotImplementedError

    async def apply_each(self, messages):
        self.used["way"] = self.used.get("way", 0) + len(messages)
        return messages

    async def undo(self, message):
        self.used["way"] -= 1


class Picky(Counted):
    async def apply_each(self, messages):
        return [Refuse(Reply(550, "5.7.1", "no")) if b"no" in each.body else each for each in messages]

    async def undo(self, message):
        raise AssertionError("it has refused the message itself")


class Failing(Picky):
    async def apply_each(self, messages):
        raise ZeroDivisionError


async def test_what_one_of_many_used_up_is_taken_back_when_a_later_policy_refuses_it():
    kept = ours()
    chain = loaded([f"{__name__}.Counted", f"{__name__}.Picky"], kept)
    many = [message(BARE), message(BARE.replace(b"hello", b"no")), message(BARE)]
    out = await chain.apply_each(many)
    assert [getattr(each, "id", None) for each in out] == [many[0].id, None, many[2].id]
    assert out[1].reply.code == 550
    assert kept.used == {"way": 2}


async def test_a_policy_that_fails_for_many_defers_them_all_and_is_named():
    kept = ours()
    chain = loaded([f"{__name__}.Counted", f"{__name__}.Failing"], kept)
    out = await chain.apply_each([message(BARE), message(BARE)])
    assert [(each.reply.code, each.reply.text) for each in out] == [(451, "policy Failing failed, try again later")] * 2
    assert isinstance(out[0].__cause__, ZeroDivisionError)
    assert kept.used == {"way": 0}
