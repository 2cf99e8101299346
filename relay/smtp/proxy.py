"""The PROXY protocol, versions 1 and 2, read from bytes (haproxy's proxy-protocol.txt).

Only listed peers may say for whom they speak; the listener asks nobody else. A header that is not exactly right ends the connection, because what
follows it could not be told from a client's own words.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from relay.errors import Invalid

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1_LONGEST = 107  # octets with CRLF, says the protocol
V2_LONGEST = 16 + 4_096  # octets; addresses and TLVs of real proxies take less than 600

_V1 = re.compile(rb"PROXY (?:UNKNOWN(?: [ -~]*)?|(TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))\r\n")


@dataclass(frozen=True, slots=True)
class Source:
    """Whom the peer speaks for; `address` is "" when it speaks for itself (LOCAL, UNKNOWN). `length` octets of header were read."""

    address: str
    port: int
    length: int


def read(data: bytes) -> Source | None:
    """The header at the start of `data`, or None while it is not complete; raises Invalid for anything else."""
    if data.startswith(SIGNATURE):
        return _v2(data)
    if data.startswith(b"PROXY "):
        return _v1(data)
    if SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise _invalid("it does not begin with a PROXY header")


def _v1(data: bytes) -> Source | None:
    end = data.find(b"\n", 0, V1_LONGEST)
    if end < 0:
        if len(data) >= V1_LONGEST:
            raise _invalid("version 1 header without end")
        return None
    found = _V1.fullmatch(data, 0, end + 1)
    if found is None:
        raise _invalid("version 1 header that cannot be read")
    if found[1] is None:
        return Source("", 0, end + 1)
    kind = IPv4Address if found[1] == b"TCP4" else IPv6Address
    try:
        address, _ = kind(found[2].decode()), kind(found[3].decode())
    except ValueError:
        raise _invalid("version 1 header with an address that is none") from None
    port = int(found[4])
    if port > 65_535 or int(found[5]) > 65_535:
        raise _invalid("version 1 header with a port that is none")
    return Source(plain(str(address)), port, end + 1)


def _v2(data: bytes) -> Source | None:
    if len(data) < 16:
        return None
    version, command = data[12] >> 4, data[12] & 15
    length = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or length > V2_LONGEST:
        raise _invalid("version 2 header that cannot be read")
    if len(data) < length:
        return None
    family, transport = data[13] >> 4, data[13] & 15
    if command == 0 or family not in (1, 2) or transport != 1:  # LOCAL, UNSPEC, Unix: the connection's own peer
        return Source("", 0, length)
    size = 4 if family == 1 else 16
    if length < 16 + 2 * size + 4:
        raise _invalid("version 2 header shorter than its addresses")
    address = socket.inet_ntop(socket.AF_INET if family == 1 else socket.AF_INET6, data[16:16 + size])
    return Source(plain(address), int.from_bytes(data[16 + 2 * size:18 + 2 * size], "big"), length)


def plain(address: str) -> str:
    """An address as we compare it: IPv4 where IPv6 only carries it (::ffff:192.0.2.1)."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or parsed)


def _invalid(text: str) -> Invalid:
    return Invalid("PROXY", text)
