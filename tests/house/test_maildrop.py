"""The pickup: what it takes as whose mail, what it leaves for later, what it never touches."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import maildrop
from relay.cli.handing import leave
from relay.errors import Defer, Refuse
from relay.mail import drop
from relay.mail.drop import Drop
from relay.mail.reply import Reply
from relay.maildrop import Pickup

CONTENT = b"From: root\r\nSubject: x\r\n\r\nhello\r\n"
TOLD = Drop("root", ("ops@example.com", "root"), notify="NEVER")


class Door:
    """Takes what comes; a subject of `refuse`, `later` or `crash` meets that."""

    def __init__(self):
        self.taken: list[tuple[int, Drop, bytes]] = []

    async def submit(self, uid: int, told: Drop, content: bytes) -> str:
        if b"Subject: refuse" in content:
            raise Refuse(Reply(550, "5.7.1", "not your domain"))
        if b"Subject: later" in content:
            raise Defer(Reply(452, "4.3.1", "disk full"))
        self.taken.append((uid, told, content))
        return f"em_{len(self.taken):013d}"


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def pickup(tmp_path, door) -> Pickup:
    pickup = Pickup(tmp_path, "relay.test", door.submit, max_size=10_000)
    pickup.prepare()
    return pickup


def left(pickup: Pickup) -> list[str]:
    return sorted(os.listdir(pickup.directory))


async def test_it_enters_as_its_owners_mail_with_whole_addresses(pickup, door):
    leave(pickup.directory, TOLD, CONTENT)
    os.chown(next(pickup.directory.iterdir()), 12345 if os.getuid() == 0 else -1, -1)
    assert not await pickup.round()
    assert door.taken == [(12345 if os.getuid() == 0 else os.getuid(), Drop("root@relay.test", ("ops@example.com", "root@relay.test"), notify="NEVER"),
                           b"From: root@relay.test\r\nSubject: x\r\n\r\nhello\r\n")]
    assert left(pickup) == []


async def test_the_oldest_come_first(pickup, door):
    for number in range(5):
        leave(pickup.directory, TOLD, CONTENT.replace(b"hello", b"%d" % number))
    await pickup.round()
    assert [content[-3:-2] for _, _, content in door.taken] == [b"0", b"1", b"2", b"3", b"4"]


async def test_many_take_several_rounds(pickup, door):
    octets = drop.encode(TOLD, CONTENT)
    for number in range(maildrop.ROUND + 1):
        (pickup.directory / f"{number}.mail").write_bytes(octets)
    assert await pickup.round()
    assert len(door.taken) == maildrop.ROUND
    assert not await pickup.round()
    assert len(door.taken) == maildrop.ROUND + 1


async def test_not_now_leaves_it_and_the_rest_for_later(pickup, door):
    leave(pickup.directory, TOLD, CONTENT.replace(b"Subject: x", b"Subject: later"))
    leave(pickup.directory, TOLD, CONTENT)
    before = left(pickup)
    assert not await pickup.round()
    assert left(pickup) == before
    assert door.taken == []


async def test_what_is_refused_is_kept_where_nobody_retries_it(pickup, door):
    leave(pickup.directory, TOLD, CONTENT.replace(b"Subject: x", b"Subject: refuse"))
    leave(pickup.directory, TOLD, CONTENT)
    await pickup.round()
    assert (len(door.taken), left(pickup)) == (1, [])
    assert len(os.listdir(pickup.refused)) == 1


async def test_refused_files_have_a_bound(pickup, monkeypatch):
    monkeypatch.setattr(maildrop, "KEPT", 3)
    for _ in range(6):
        leave(pickup.directory, TOLD, CONTENT.replace(b"Subject: x", b"Subject: refuse"))
    names = left(pickup)
    await pickup.round()
    assert sorted(os.listdir(pickup.refused)) == names[-3:]


def secret(path: Path) -> Path:
    """A file that is no mail of the user's, but looks like one."""
    path.write_bytes(drop.encode(TOLD, CONTENT))
    return path


@pytest.mark.parametrize("trick", [
    pytest.param(lambda at, other: at.symlink_to(secret(other)), id="symbolic link"),
    pytest.param(lambda at, other: os.link(secret(other), at), id="hard link"),
    pytest.param(lambda at, _: os.mkfifo(at), id="FIFO"),
    pytest.param(lambda at, _: at.mkdir(), id="directory"),
    pytest.param(lambda at, _: at.write_bytes(drop.encode(TOLD, b"x" * 1_000_000)), id="too large"),
    pytest.param(lambda at, _: at.write_bytes(b""), id="empty"),
    pytest.param(lambda at, _: at.write_bytes(b"From: x\n\nno first line\n"), id="not of ours"),
    pytest.param(lambda at, _: at.write_bytes(b'{"version": 2, "sender": "", "recipients": ["a@b"]}\n'), id="of a later version"),
    pytest.param(lambda at, _: at.write_bytes(b'{"version": 1, "sender": "a\\r\\nRCPT TO:<x>", "recipients": ["a@b"]}\n'), id="line break in an address"),
])
async def test_what_is_no_mail_is_never_submitted(pickup, door, tmp_path, trick):
    trick(pickup.directory / "1.mail", tmp_path / "other")
    leave(pickup.directory, TOLD, CONTENT)
    async with asyncio.timeout(60):  # a FIFO without a writer would hold an open() for ever
        await pickup.round()
    assert len(door.taken) == 1
    assert left(pickup) == []


async def test_what_cannot_be_moved_is_said_once_and_stops_nothing(pickup, door, capfd):
    (pickup.directory / "1.mail").mkdir()
    (pickup.refused / "1.mail").mkdir()
    (pickup.refused / "1.mail" / "full").touch()  # so that the rename fails, as with another user's directory
    await pickup.round()
    leave(pickup.directory, TOLD, CONTENT)
    await pickup.round()
    assert len(door.taken) == 1
    assert capfd.readouterr().err.count("refused from the maildrop") == 1


async def test_files_never_finished_are_removed_after_an_hour(pickup, door):
    old, young = pickup.directory / ".old", pickup.directory / ".young"
    for path in (old, young):
        path.write_bytes(drop.encode(TOLD, CONTENT))
    os.utime(old, (time.time() - maildrop.ABANDONED - 1,) * 2)
    await pickup.round()
    assert (left(pickup), door.taken) == ([".young"], [])


def test_the_directories_have_their_modes_whatever_the_umask(tmp_path, door):
    before = os.umask(0o077)
    try:
        pickup = Pickup(tmp_path, "relay.test", door.submit, 10_000)
        pickup.prepare()
        pickup.prepare()
    finally:
        os.umask(before)
    assert stat.S_IMODE(pickup.directory.stat().st_mode) == 0o3733
    assert stat.S_IMODE(pickup.refused.stat().st_mode) == 0o700


async def test_it_runs_until_it_is_cancelled(pickup, door):
    leave(pickup.directory, TOLD, CONTENT)
    taken = asyncio.Event()
    submit = pickup._submit

    async def tell(*given) -> str:
        taken.set()
        return await submit(*given)

    pickup._submit = tell
    running = asyncio.create_task(pickup.run())
    async with asyncio.timeout(60):
        await taken.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["version", "sender", "recipients", "ret", "x"]), inner)).map(lambda value: __import__("json").dumps(value).encode() + b"\nx"))
def test_any_file_is_read_or_refused(octets):
    try:
        told, _ = drop.decode(octets)
    except ValueError:
        return
    assert told.recipients


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=50), st.lists(st.just("a@b.example"), min_size=1, max_size=5), st.binary(max_size=100))
def test_what_is_written_is_read_again(sender, recipients, content):
    told = Drop(sender, tuple(recipients))
    assert drop.decode(drop.encode(told, content)) == (told, content)
