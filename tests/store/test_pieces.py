"""Large bodies: on PostgreSQL in rows of their own, read as those of other stores are."""

import os

import pytest
from sqlalchemy import func, select

from relay.errors import NotFound
from relay.store import bodies, messages, pieces
from relay.store.schema import body_pieces
from tests.store.conftest import NOW

HEAD = b"Subject: large\r\nX-Long: " + b"x" * 5_000 + b"\r\n\r\n"
SIZES = [
    pytest.param(pieces.LARGE - len(HEAD) - 1, False, id="the largest that a row holds"), pytest.param(pieces.LARGE - len(HEAD), True, id="the first beyond"),
    pytest.param(5 * pieces.PIECE, True, id="whole pieces"), pytest.param(4_321_098, True, id="odd"),
]


def rows(conn, number):
    return conn.scalar(select(func.count()).select_from(body_pieces).where(body_pieces.c.body_id == number))


@pytest.mark.parametrize(("length", "is_cut"), SIZES)
async def test_a_large_body_is_as_it_was(store, length, is_cut):
    body = os.urandom(length)
    await store.write(bodies.put_many, [(7, (HEAD, body), NOW), (8, b"small", NOW)])
    assert await store.read(bodies.get, 7) == HEAD + body
    head, rest = await store.read(bodies.parted, 7)
    assert head + rest == HEAD + body
    for most in (100, len(HEAD) + 10, pieces.PIECE, 2 * pieces.PIECE + 17):
        found = await store.read(bodies.beginning, 7, most)
        assert found.startswith((HEAD + body)[:most])
    assert (await store.read(rows, 7) > 0) == (is_cut and store.dialect == "postgresql")
    assert await store.read(bodies.get, 8) == b"small"


@pytest.mark.parametrize("octets", [b"\r\n".join([b"no header at all"] * 300_000), b"a: b\r\n" * 800_000], ids=["no header", "no body"])
async def test_one_that_has_no_two_parts_is_whole(store, octets):
    await store.write(bodies.put, 7, octets, NOW)
    assert await store.read(bodies.parted, 7) == (octets, b"")
    assert await store.read(bodies.get, 7) == octets


async def test_its_pieces_go_with_it_and_no_others(store):
    for number in (7, 8):
        await store.write(bodies.put, number, bytes(pieces.LARGE), NOW)
    await store.write(bodies.drop, [7])
    with pytest.raises(NotFound):
        await store.read(bodies.get, 7)
    assert await store.read(rows, 7) == 0
    assert await store.read(bodies.get, 8) == bytes(pieces.LARGE)


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_one_whose_pieces_are_gone_is_not_shown_short(store):
    await store.write(bodies.put, 7, bytes(pieces.LARGE), NOW)
    await store.write(lambda conn: conn.execute(body_pieces.delete().where(body_pieces.c.number == 2)))
    with pytest.raises(NotFound):
        await store.read(bodies.get, 7)
    with pytest.raises(NotFound):
        await store.read(bodies.parted, 7)


async def test_a_large_message_comes_back(store, make):
    message = make("ann@example.net", body=os.urandom(pieces.LARGE))
    await store.write_many(messages.accept_many, (message,))
    found = await store.read(messages.load, message.id)
    assert (found.header, found.body) == (message.header, message.body)
