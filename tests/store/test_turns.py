"""relay.store.turns: pauses of what goes aside, and the checkpoints between its slices."""

import pytest

from relay.store.engine import ASIDE
from relay.store.schema import meta
from relay.store.sqlite_file import CHECKPOINT
from relay.store.turns import COPIED, LATELY, LONGEST, PAUSE, TICK, Turns

PAGES = 100  # of a slice, 4 kB each


@pytest.mark.parametrize(("mailed", "took", "pause"), [
    pytest.param(9.9, 0.02, 0.02 * PAUSE, id="mail-flows"),
    pytest.param(9.9, 5.0, LONGEST * PAUSE, id="a-long-turn"),
    pytest.param(10.0 - LATELY, 0.02, 0.0, id="mail-was-a-while-ago"),
    pytest.param(None, 0.02, 0.0, id="no-mail"),
    pytest.param(9.9, 0.9 * TICK / PAUSE, 0.0, id="less-than-a-timer-can-wait-for"),
])
def test_a_pause_follows_each_turn_while_mail_flows(mailed, took, pause):
    turns = Turns()
    if mailed is not None:
        turns.mailed(mailed)
    turns.copies(10.0 - took)
    turns.over(10.0)
    assert turns.pause(10.0) == pytest.approx(pause)
    assert turns.pause(10.0 + pause) == pytest.approx(0.0)


def test_mail_itself_makes_no_pause():
    turns = Turns()
    turns.mailed(10.0)
    turns.over(10.1)
    assert turns.pause(10.1) == 0.0


def test_a_turn_after_some_slices_is_the_checkpoint_s():
    turns = Turns()
    assert [turns.copies(0.0) for _ in range(2 * COPIED + 2)] == [*[False] * COPIED, True] * 2


async def test_what_goes_aside_leaves_a_short_log(sqlite):
    """A checkpoint every few slices: the next begins at the start of the WAL again, long before the usual checkpoint would come."""
    def fill(conn, number):
        conn.execute(meta.insert().values(key=f"slice-{number}", value="x" * PAGES * 4_000))

    slices = CHECKPOINT // PAGES - 5
    for number in range(slices):
        await sqlite.write(fill, number, lane=ASIDE)
    assert sqlite.path.with_name(f"{sqlite.path.name}-wal").stat().st_size < slices * PAGES * 4_096 / 2
