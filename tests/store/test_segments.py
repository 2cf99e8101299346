"""Segments: what was appended and flushed is read back, and damage is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import StoreError
from relay.store import segments as module
from relay.store.segments import PIECE, Segments


@pytest.fixture
def segments(tmp_path):
    (tmp_path / "data").mkdir()
    opened = Segments(tmp_path / "data" / "bodies")
    yield opened
    opened.close()


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_octets_come_back(segments, size):
    data = bytes(n & 0xFF for n in range(251)) * (size // 251 + 1)
    data = data[:size]
    segments.append(b"before")
    number, offset, crc = segments.append(data)
    segments.append(b"after")
    segments.flush()
    assert segments.read(number, offset, size, crc) == data
    pieces = list(segments.pieces(number, offset, size, crc))
    assert b"".join(pieces) == data
    assert all(len(piece) <= PIECE for piece in pieces)


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damage_is_noticed(segments, damage):
    number, offset, crc = segments.append(b"x" * 100)
    segments.flush()
    path = segments.path(number)
    path.write_bytes(b"y" + b"x" * 99 if damage == "flipped" else b"x" * 50)
    with pytest.raises(StoreError, match="damaged"):
        segments.read(number, offset, 100, crc)
    with pytest.raises(StoreError, match="damaged"):
        list(segments.pieces(number, offset, 100, crc))


def test_a_full_segment_is_followed_by_the_next(segments, monkeypatch):
    monkeypatch.setattr(module, "LENGTH", 100)
    places = [segments.append(bytes([n]) * 60) for n in range(5)]
    segments.flush()
    assert [number for number, _, _ in places] == [1, 1, 2, 2, 3]
    assert segments.numbers() == [1, 2, 3]
    assert [segments.read(n, o, 60, c) for n, o, c in places] == [bytes([n]) * 60 for n in range(5)]


def test_a_restart_appends_after_what_is_there(segments):
    first = segments.append(b"first")
    segments.flush()
    again = Segments(segments.directory)
    second = again.append(b"second")
    again.flush()
    assert again.read(first[0], first[1], 5, first[2]) == b"first"
    assert again.read(second[0], second[1], 6, second[2]) == b"second"
    again.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=80), st.sampled_from(["flush", "rewind"])), max_size=30))
def test_what_was_flushed_stays_whatever_is_rewound(tmp_path_factory, acts):
    directory = tmp_path_factory.mktemp("data")
    segments, module_length = Segments(directory / "bodies"), module.LENGTH
    module.LENGTH = 120
    kept, pending = [], []
    try:
        for act in acts:
            if act == "flush":
                segments.flush()
                kept, pending = kept + pending, []
            elif act == "rewind":
                segments.rewind()
                pending = []
            else:
                pending.append((act, segments.append(act)))
        for data, (number, offset, crc) in kept:
            assert segments.read(number, offset, len(data), crc) == data
    finally:
        module.LENGTH = module_length
        segments.close()
