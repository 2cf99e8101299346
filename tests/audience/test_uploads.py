"""Files of imports on their way to the disk: all of it arrives in order, and a disk that is full is no import."""

from __future__ import annotations

import io
import os
import resource

import pytest

from relay.audience import uploads
from relay.errors import Defer


async def pieces(*given):
    for each in given:
        yield each


@pytest.mark.parametrize("size", [0, 1, uploads.STEP, 3 * uploads.STEP + 5])
async def test_a_file_is_kept_as_it_came(tmp_path, size):
    octets = os.urandom(size)
    assert uploads.copied(io.BytesIO(octets), tmp_path / "copied") == octets.count(b"\n")
    await uploads.received(pieces(*(octets[at:at + 70_001] for at in range(0, size, 70_001))), tmp_path / "received")
    assert [(tmp_path / name).read_bytes() for name in ("copied", "received")] == [octets, octets]


async def test_a_disk_that_takes_no_more_is_told(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (uploads.STEP, before[1]))
    try:
        with pytest.raises(Defer, match="could not be kept"):
            uploads.copied(io.BytesIO(b"x" * (2 * uploads.STEP)), tmp_path / "copied")
        with pytest.raises(Defer, match="could not be kept"):
            await uploads.received(pieces(b"x" * (2 * uploads.STEP)), tmp_path / "received")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(Defer, match="could not be kept"):
        uploads.copied(io.BytesIO(b"x"), tmp_path / "nowhere" / "copied")
