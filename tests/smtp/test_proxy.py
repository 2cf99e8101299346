"""PROXY headers, with aiosmtpd's reader as the second opinion."""

from __future__ import annotations

import asyncio
import struct

import pytest
from aiosmtpd.proxy_protocol import get_proxy
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.smtp import proxy
from relay.smtp.proxy import SIGNATURE, Source

V4 = b"\xc0\x00\x02\x07\x7f\x00\x00\x01" + struct.pack("!HH", 4711, 25)
V6 = bytes.fromhex("20010db8000000000000000000000007") + bytes(15) + b"\x01" + struct.pack("!HH", 4711, 25)
MAPPED = bytes(10) + b"\xff\xff\xc0\x00\x02\x07" + bytes(15) + b"\x01" + struct.pack("!HH", 4711, 25)


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + bytes((0x20 | command, family)) + struct.pack("!H", len(payload)) + payload


@pytest.mark.parametrize(
    ("header", "address", "port"),
    [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n", "192.0.2.7", 4711),
        (b"PROXY TCP6 2001:DB8::7 ::1 4711 25\r\n", "2001:db8::7", 4711),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 25\r\n", "192.0.2.7", 4711),
        (b"PROXY UNKNOWN\r\n", "", 0),
        (b"PROXY UNKNOWN ffff::1 ::1 65535 1\r\n", "", 0),
        (v2(1, 0x11, V4), "192.0.2.7", 4711),
        (v2(1, 0x11, V4 + b"\x04\x00\x01x"), "192.0.2.7", 4711),
        (v2(1, 0x21, V6), "2001:db8::7", 4711),
        (v2(1, 0x21, MAPPED), "192.0.2.7", 4711),
        (v2(0, 0x11, V4), "", 0),
        (v2(0, 0x00, b""), "", 0),
        (v2(1, 0x31, bytes(216)), "", 0),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_headers(header: bytes, address: str, port: int):
    assert proxy.read(header + b"EHLO x\r\n") == Source(address, port, len(header))
    for length in range(len(header)):
        assert proxy.read(header[:length]) is None, "a part of a header is waited for"


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n",
        b"PROXY TCP4 192.0.2.700 127.0.0.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 04711 25\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\n",
        b"PROXY TCP4 ::1 ::1 4711 25\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + V4,
        SIGNATURE + b"\x22\x11\x00\x0c" + V4,
        SIGNATURE + b"\x21\x11\x00\x08" + V4[:8],
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_header(octets: bytes):
    with pytest.raises(Invalid):
        proxy.read(octets)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(SIGNATURE.__add__), st.binary(max_size=120).map(b"PROXY ".__add__)))
def test_any_octets_are_a_header_wait_for_more_or_are_refused(octets: bytes):
    try:
        source = proxy.read(octets)
    except Invalid:
        return
    assert source is None or 0 < source.length <= len(octets)


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65_535), st.integers(0, 65_535))
def test_version_1_says_what_aiosmtpd_reads(source, target, port, other):
    if source.version != target.version:
        return
    header = f"PROXY TCP{source.version} {source} {target} {port} {other}\r\n".encode()
    ours = proxy.read(header)
    assert ours == Source(proxy.plain(str(source)), port, len(header))

    async def theirs():
        reader = asyncio.StreamReader()
        reader.feed_data(header)
        reader.feed_eof()
        return await get_proxy(reader)

    read = asyncio.run(theirs())
    if read.valid:
        assert (proxy.plain(str(read.src_addr)), read.src_port) == (ours.address, ours.port)
