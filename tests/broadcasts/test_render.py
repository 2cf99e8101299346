"""The rendering process: slices come back to who asked for them, a death costs a slice another try, an end leaves nobody waiting."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from relay import copies
from relay.broadcasts.render import FEW, Renderer, content, make
from relay.copies import Letter
from relay.errors import Defer
from relay.mail.mime import Texts

WITHIN = 45.0  # seconds for a process to start on a busy machine


@pytest.fixture
async def renderer():
    made = Renderer()
    yield made
    made.close()


def letter(text: str) -> Letter:
    return Letter("News <news@example.com>", Texts("Hello {{ name }}", f"<p>{text}, {{{{ name }}}}</p>", None))


def people(count: int, mark: str) -> list[tuple[str, dict[str, str]]]:
    return [(f"{mark}{n}@example.com", {"name": f"{mark} {n}"}) for n in range(count)]


@pytest.mark.parametrize("count", [FEW - 1, FEW], ids=["few, in a thread", "many, in the process"])
async def test_copies_are_those_that_are_built_here(renderer, count):
    some = [*people(count - 1, "ann"), ("nobody", {"name": "x"})]
    made = await asyncio.wait_for(renderer.make(letter("hi"), some), WITHIN)
    assert made == make(letter("hi"), some)
    assert "nobody" in made[-1]
    fields, body = content(made[0])
    assert b"".join((*fields.raws(), b"\r\n", body)) == copies.build(letter("hi"), *some[0])
    assert len(renderer.processes) == (count >= FEW)


async def test_slices_asked_for_side_by_side_come_back_to_who_asked(renderer):
    asked = [(letter(f"text {n}"), people(FEW + n, f"p{n}x")) for n in range(5)]
    given_up = asyncio.ensure_future(renderer.make(*asked[0]))
    await asyncio.sleep(0)
    rest = [asyncio.ensure_future(renderer.make(*each)) for each in asked]
    given_up.cancel()
    assert await asyncio.wait_for(asyncio.gather(*rest), WITHIN) == [make(*each) for each in asked]
    assert len(renderer.processes) == 1


async def test_a_process_that_dies_is_replaced(renderer):
    await asyncio.wait_for(renderer.make(letter("one"), people(FEW, "a")), WITHIN)
    first, = renderer.processes
    os.kill(first, signal.SIGSTOP)  # so that the slice is asked for and not answered
    waiting = asyncio.ensure_future(renderer.make(letter("two"), people(FEW, "b")))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(Defer) as later:
        await asyncio.wait_for(waiting, WITHIN)
    assert later.value.retry_after == 1.0
    again = people(FEW, "c")
    assert await asyncio.wait_for(renderer.make(letter("three"), again), WITHIN) == make(letter("three"), again)
    assert renderer.processes != [first]


async def test_an_end_in_the_middle_of_an_answer_leaves_nobody_waiting(renderer):
    await asyncio.wait_for(renderer.make(letter("one"), people(FEW, "a")), WITHIN)
    process, = renderer.processes
    large = asyncio.ensure_future(renderer.make(letter("x" * 100_000), people(200, "b")))  # 20 MB: more than any pipe holds
    await asyncio.sleep(0)
    renderer.close()
    with pytest.raises(Defer):
        await asyncio.wait_for(large, WITHIN)
    await asyncio.wait_for(_gone(process), WITHIN)
    assert renderer.processes == []


async def _gone(process: int) -> None:
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.01)
