"""kill -9 at every commit boundary and at random moments: nothing acknowledged is lost, and each recipient is in exactly one state."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from relay.store import messages, queue
from relay.store.engine import Store
from relay.store.messages import ENDS
from relay.store.schema import events, recipients, reports
from relay.store.schema import queue as queue_table
from relay.store.segments import Segments

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("RELAY_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
CHANCE = random.Random(SEED)
FAULTS = [f"{point}:{CHANCE.randrange(2, 12)}" for point in ("store.begun", "store.before-commit", "store.committed")]
MOMENTS = [f"after {CHANCE.randrange(1, 400)} lines" for _ in range(2)]


def crash(url: str, data: Path, moment: str) -> dict[str, set[int]]:
    """What the process acknowledged before it died at this moment; RELAY_TEST_SEED repeats a run."""
    print(f"seed {SEED}: {moment}")
    environment = {**os.environ, **({} if moment.startswith("after") else {"RELAY_FAULT": moment})}
    left = int(moment.split()[1]) if moment.startswith("after") else 1 << 30
    said: dict[str, set[int]] = {"ready": set(), "accepted": set(), "settled": set(), "cancelled": set()}
    command = [sys.executable, "-m", "tests.store.crash_writer", url, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True) as process:
        for line in process.stdout:
            word, number = line.split()
            said[word].add(int(number))
            left -= 1
            if left == 0:
                process.kill()
        assert process.wait() == -signal.SIGKILL
    return said


@pytest.mark.parametrize("moment", FAULTS + MOMENTS, ids=["begun", "before commit", "committed", "some time", "another time"])
async def test_nothing_acknowledged_is_lost(store_url, tmp_path, moment):
    said = crash(store_url, tmp_path / "data", moment)
    store = await Store.open(store_url, tmp_path / "data", min_free=0, reserve=0)
    try:
        await store.read(_consistent)
        kept = set(await store.read(lambda conn: conn.scalars(select(recipients.c.message_id)).all()))
        assert said["accepted"] <= kept
        states = dict(await store.read(lambda conn: conn.execute(select(recipients.c.id, recipients.c.state)).all()))
        assert {states[number] for number in said["settled"]} <= {"delivered"}
        assert {states[number] for number in said["cancelled"]} <= {"cancelled"}
        for number in kept:  # every body that a row names is there, whole
            assert len((await store.read(messages.load, number, False)).body) in (100, 30_000)
    finally:
        await store.close()


def _consistent(conn):
    """Each recipient waits or has ended, and its events, reports and queue row say the same."""
    waiting = set(conn.scalars(select(queue_table.c.recipient_id)))
    told = Counter(conn.execute(select(events.c.recipient_id, events.c.type)).all())
    owed = {number for row in conn.scalars(select(reports.c.recipient_ids)) for number in row}
    for r in conn.execute(recipients.select()):
        assert (r.id in waiting) == (r.state not in ENDS)
        assert (r.ended_at is None) == (r.id in waiting)
        assert told[r.id, "email.queued"] == 1
        assert told[r.id, "email.delivered"] == (r.state == "delivered")
        assert (r.id in owed) == (r.state == "delivered")


async def test_a_store_that_crashed_again_and_again_goes_on(sqlite_url, tmp_path):
    accepted: set[int] = set()
    for moment in ("store.committed:5", "store.before-commit:7", "after 40 lines"):
        accepted |= crash(sqlite_url, tmp_path / "data", moment)["accepted"]
    store = await Store.open(sqlite_url, tmp_path / "data", min_free=0, reserve=0)
    await store.read(_consistent)
    assert await store.read(lambda conn: queue.due(conn, 2e9, 10_000, per_domain=10_000))
    assert len(await store.read(messages.load_many, list(accepted), False)) == len(accepted)
    await store.close()


def test_a_torn_segment_tail_is_dead_space(tmp_path):
    one = Segments(tmp_path / "bodies")
    place = one.append(b"whole" * 100)
    one.flush()
    one.close()
    with one.path(1).open("ab") as file:
        file.write(b"torn")
    two = Segments(tmp_path / "bodies")
    after = two.append(b"after" * 100)
    two.flush()
    assert two.read(place[0], place[1], 500, place[2]) == b"whole" * 100
    assert two.read(after[0], after[1], 500, after[2]) == b"after" * 100
    two.close()
