"""rspamd: the real one, up, down, hanging and talking nonsense; mail is refused for spam only, and never for rspamd's troubles."""

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from policies import rspamd as policy_module
from relay.errors import ConfigError, Refuse
from relay.fetch import Fetch
from relay.mail.message import Decision, Origin, replace
from relay.policy import Chain
from tests.support.rspamd import rspamd as running
from tests.support.services import KEY, SYSTEM, Kept, message, services

CLEAN = (b"From: Joe <joe@example.com>\r\nTo: jane@example.org\r\nSubject: Your invoice\r\nDate: Mon, 21 Sep 2026 10:00:00 +0000\r\n"
         b"Message-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
         b"Hello Jane, your invoice is ready. Regards, Joe\r\n")
GTUBE = CLEAN + b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
ORIGIN = Origin("smtp", "192.0.2.7", "app.example.com", "ESMTPSA")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with running(tmp_path_factory.mktemp("rspamd")) as (url, _):
        yield url


@pytest.fixture
async def fetch():
    client = Fetch(allow_private=True)
    yield client
    await client.close()


def built(url, fetch, kept=None, timeout=60.0, **rules):
    """With a patience that a busy machine does not exhaust, except where the test is about it."""
    return policy_module.make({}, services(kept, fetch, rspamd={"url": url, "timeout": timeout, **rules}))


@asynccontextmanager
async def speaking(*answers):
    """A server that reads a request's header and writes these octets, the last again and again; None never answers. Gives its URL and what it was asked."""
    asked, connections = [], []

    async def serve(reader, writer):
        connections.append(writer)
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        answer = answers[min(len(asked), len(answers)) - 1]
        if answer is not None:
            writer.write(answer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for writer in connections:
            writer.close()


def http(body, status="200 OK"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status.encode(), len(body), body)


async def test_clean_mail_of_a_user_scores_low_and_keeps_its_score(real, fetch):
    given = message(CLEAN, origin=ORIGIN)
    (out,) = await built(real, fetch).apply(given)
    assert out.facts["spam_score"] < 2.0
    assert out.facts["spam_warnings"] == []
    assert all(set(symbol) == {"name", "score", "description"} for symbol in out.facts["spam_symbols"])
    assert out.trace[-1].action == "passed"
    assert out.octets() == given.octets()


async def test_rspamd_is_told_who_is_authenticated(real, fetch):
    (user,) = await built(real, fetch).apply(message(CLEAN, origin=ORIGIN))
    (stranger,) = await built(real, fetch).apply(message(CLEAN, origin=ORIGIN, principal=replace(KEY, kind="trusted")))
    assert stranger.facts["spam_score"] > user.facts["spam_score"] + 2
    assert "HFILTER_HOSTNAME_UNKNOWN" in {symbol["name"] for symbol in stranger.facts["spam_symbols"]}


async def test_a_score_over_five_warns_and_goes_on(real, fetch):
    (out,) = await built(real, fetch).apply(message(CLEAN.replace(b"Your invoice", b"A suspicious invoice"), origin=ORIGIN))
    assert 5.0 <= out.facts["spam_score"] < 10.0
    assert out.facts["spam_warnings"][0] == {"name": "TEST_SUSPICIOUS", "score": 7.0, "description": "a rule of the tests"}
    assert all(symbol["score"] > 0 for symbol in out.facts["spam_warnings"])
    assert out.trace[-1].action == "warned"


async def test_gtube_is_refused(real, fetch):
    with pytest.raises(Refuse) as caught:
        await built(real, fetch).apply(message(GTUBE, origin=ORIGIN))
    assert str(caught.value.reply) == "550 5.7.1 Email rejected by spam filter"
    assert caught.value.code == "spam_rejected"


async def test_a_hanging_one_costs_the_timeout_and_the_mail_goes_on(fetch):
    async with speaking(None) as (url, _):
        (out,) = await built(url, fetch, timeout=0.1).apply(message(CLEAN))
    assert out.trace[-1].action == "skipped"
    assert "spam_score" not in out.facts


BROKEN = {
    "status 500": http(b"{}", "500 Oops"), "no JSON": http(b"<html>"), "no object": http([]), "no score": http({}), "score in words": http({"score": "high"}),
    "endless score": http(b'{"score": NaN}'), "not HTTP": b"220 mail.example ESMTP\r\n", "closes": b"", "half an answer": http({"score": 1.0})[:-4],
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_answer_is_no_answer(fetch, answer):
    async with speaking(answer) as (url, _):
        (out,) = await built(url, fetch).apply(message(CLEAN))
    assert out.trace[-1].action == "skipped"


async def test_after_three_failures_it_is_left_alone_for_ten_seconds(fetch):
    kept = Kept()
    async with speaking(http(b"", "503 Busy")) as (url, asked):
        policy = built(url, fetch, kept)
        for _ in range(5):
            await policy.apply(message(CLEAN))
        assert len(asked) == 3
        kept.elapsed = 9.9
        await policy.apply(message(CLEAN))
        assert len(asked) == 3
        kept.elapsed = 10.1
        await policy.apply(message(CLEAN))
        assert len(asked) == 4


async def test_an_answer_in_between_starts_the_count_anew(fetch):
    bad, good = http(b"", "503 Busy"), http({"score": 1.0})
    async with speaking(bad, bad, good, bad, bad, good) as (url, asked):
        policy = built(url, fetch)
        for _ in range(6):
            await policy.apply(message(CLEAN))
    assert len(asked) == 6


async def test_the_real_one_stopped_and_gone(tmp_path, fetch):
    with running(tmp_path / "rspamd") as (url, process):
        policy, hurried = built(url, fetch, timeout=60.0), built(url, fetch, timeout=0.3)
        workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        (hanging,) = await hurried.apply(message(CLEAN, origin=ORIGIN))
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        (up,) = await policy.apply(message(CLEAN, origin=ORIGIN))
    (gone,) = await policy.apply(message(CLEAN, origin=ORIGIN))
    assert [out.trace[-1].action for out in (hanging, up, gone)] == ["skipped", "passed", "skipped"]


VERDICTS = {
    "below the warning": ({"score": 4.99, "action": "greylist"}, "passed"),
    "at the warning": ({"score": 5.0, "action": "add header"}, "warned"),
    "below the block": ({"score": 9.99}, "warned"),
    "at the block": ({"score": 10.0}, None),
    "reject whatever the score": ({"score": 0.1, "action": "reject"}, None),
    "skipped is not unreachable": ({"score": 15.0, "action": "reject", "is_skipped": True}, None),
    "negative": ({"score": -3, "action": "no action"}, "passed"),
    "symbols that are none": ({"score": 6.0, "symbols": {"A": 1, "B": {"score": "x"}, "C": {"score": 2.0, "description": None}}}, "warned"),
}


@pytest.mark.parametrize(("answer", "action"), VERDICTS.values(), ids=VERDICTS.keys())
async def test_verdicts(fetch, answer, action):
    async with speaking(http(answer)) as (url, _):
        if action is None:
            with pytest.raises(Refuse):
                await built(url, fetch).apply(message(CLEAN))
        else:
            (out,) = await built(url, fetch).apply(message(CLEAN))
            assert out.trace[-1].action == action


async def test_what_it_is_told(fetch):
    async with speaking(http({"score": 0})) as (url, asked):
        await built(f"{url}/base/", fetch).apply(message(CLEAN, "a@example.org", "jürgen@example.org", origin=ORIGIN))
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "POST /base/checkv2 HTTP/1.1"
    assert {"From: joe@example.com", "Rcpt: a@example.org,jürgen@example.org", "Ip: 192.0.2.7", "Helo: app.example.com", "User: app"} <= set(lines)


async def test_our_own_reports_are_not_scored():
    given = message(CLEAN, principal=SYSTEM)
    assert await built("http://127.0.0.1:1", None).apply(given) == (given,)


async def test_without_a_url_the_trace_says_that_it_is_off():
    (out,) = await Chain((("rspamd", built("", None)),)).apply(message(CLEAN))
    assert out.trace == (Decision("rspamd", "skipped", "off"),)
    assert "spam_score" not in out.facts


def test_a_bad_option_names_itself():
    with pytest.raises(ConfigError, match="block"):
        policy_module.make({"block": "ten"}, services())
