"""The pickup of the maildrop: what sendmail(1) left while the relay was down enters at the door as its owner's mail.

A file is trusted for one thing only, the uid that owns it, which the kernel wrote. Links, FIFOs, directories, files with a second name (a hard link
could make another user's file into mail) and files over the size limit are not read.

    crash before the commit    the file is still there and is submitted by the next start
    crash before the unlink    the same; the idempotency key that sendmail put into the message keeps it from being sent twice

What the door refuses for good, and what is no mail, moves to `data_dir/refused`, at most KEPT files, and is said in the log: nobody waits for an
answer any more.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from relay import log
from relay.errors import RelayError
from relay.mail import drop, local
from relay.mail.drop import Drop
from relay.metrics import counter

LOG = log.get("maildrop")
INTERVAL = 5.0  # seconds between looks; the drop fills only while we are down or overloaded
ROUND = 100  # files taken in one look, oldest first
ABANDONED = 3600.0  # seconds after which a file that was never finished is removed
KEPT = 1_000  # refused files

PICKED = counter("maildrop_total", "Files of the maildrop by what became of them", "result")

Submit = Callable[[int, Drop, bytes], Awaitable[str]]


class Unfit(Exception):
    """The file is no mail that we may take."""


class Pickup:
    """The maildrop of a running relay.

    data_dir  where `maildrop` and `refused` are made
    hostname  completes addresses without a domain
    submit    uid of the owner, drop with whole addresses, message; gives the em_ id once it is durable, raises RelayError
    max_size  bytes of a message
    """

    def __init__(self, data_dir: Path, hostname: str, submit: Submit, max_size: int):
        self.directory = data_dir / drop.DIRECTORY
        self.refused = data_dir / "refused"
        self._hostname = hostname
        self._submit = submit
        self._max_size = max_size
        self._stuck: set[str] = set()  # refused and not to be moved: said once

    def prepare(self) -> None:
        """Make the directories with their modes; raises OSError."""
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(drop.MODE)  # mkdir's mode is cut by the umask
        self.refused.mkdir(mode=0o700, exist_ok=True)

    async def run(self) -> None:
        """Pick up for ever. A temporary refusal ends the round: the relay is busy, the files wait."""
        while True:
            more = await self.round()
            if not more:
                await asyncio.sleep(INTERVAL)

    async def round(self) -> bool:
        """Submit the oldest files; True when all went well and there may be more."""
        names = await asyncio.to_thread(self._oldest)
        for name in names:
            try:
                await self._take(name)
            except RelayError as error:
                if not error.reply.permanent:
                    PICKED.labels("deferred").inc()
                    LOG.warning("mail waits in the maildrop", file=name, reply=str(error.reply))
                    return False
                await asyncio.to_thread(self._refuse, name, str(error.reply))
            except (Unfit, OSError) as error:
                await asyncio.to_thread(self._refuse, name, str(error))
        return len(names) == ROUND

    async def _take(self, name: str) -> None:
        uid, told, content = await asyncio.to_thread(self._read, name)
        identity = await self._submit(uid, told, content)
        PICKED.labels("submitted").inc()
        LOG.info("picked up", id=identity, file=name, uid=uid)
        await asyncio.to_thread(os.unlink, self.directory / name)

    def _oldest(self) -> list[str]:
        """Names of finished files, oldest first; removes what was begun and never finished."""
        finished, now = [], time.time()
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    _remove_abandoned(entry, now)
                elif entry.name.endswith(drop.SUFFIX) and entry.name not in self._stuck:
                    finished.append(entry.name)
                    if len(finished) > 20 * ROUND:
                        finished = heapq.nsmallest(ROUND, finished)
        return heapq.nsmallest(ROUND, finished)

    def _read(self, name: str) -> tuple[int, Drop, bytes]:
        """Owner, drop and message of a file; raises Unfit for what we do not touch."""
        fd = os.open(self.directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                raise Unfit("it is no plain file, or has a second name")
            if facts.st_size > self._max_size + drop.LINE:
                raise Unfit(f"it is larger than {self._max_size} bytes")
            octets = file.read(self._max_size + drop.LINE)
        try:
            told, content = drop.decode(octets)
        except ValueError as error:
            raise Unfit(str(error)) from None
        return facts.st_uid, self._whole(told), local.qualify(local.canonical(content), self._hostname)

    def _whole(self, told: Drop) -> Drop:
        recipients = tuple(local.whole(address, self._hostname) for address in told.recipients)
        return replace(told, sender=local.whole(told.sender, self._hostname), recipients=recipients)

    def _refuse(self, name: str, why: str) -> None:
        PICKED.labels("refused").inc()
        LOG.error("refused from the maildrop", file=name, reason=why, kept=str(self.refused / name))
        try:
            os.rename(self.directory / name, self.refused / name)
            for surplus in sorted(os.listdir(self.refused))[:-KEPT]:
                os.unlink(self.refused / surplus)
        except OSError:  # another user's directory cannot be moved
            if len(self._stuck) < KEPT:
                self._stuck.add(name)


def _remove_abandoned(entry: os.DirEntry[str], now: float) -> None:
    with suppress(OSError):
        if now - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
            os.unlink(entry.path)
