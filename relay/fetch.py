"""HTTP requests to elsewhere: bounded in time and size, not redirected unless that is asked for, and never to a private address unless that is allowed.

The address is checked on the socket that is about to connect, so neither a literal in the URL, nor a name that resolves to a private address, nor one
that changes its answer between check and use (DNS rebinding) gets through. Used by policies (an operator's URL: private is allowed), webhooks and MTA-STS.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import aiohttp

LIMIT = 1_048_576  # bytes of an answer
CONNECTIONS = 100  # open at once, to all hosts together
PIECE = 262_144  # bytes of a large body that are handed to the socket at once, so that the loop gets a turn between
IDLE = 15.0  # seconds a quiet connection is kept

_ELSEWHERE = frozenset({301, 302, 303, 307, 308})  # answers that name another place (RFC 9110 §15.4)
_OF_THE_BODY = frozenset({"content-type", "content-encoding", "content-language"})
_ANYWHERE = _OF_THE_BODY | {"user-agent", "idempotency-key"}  # fields that are for whoever is asked; others may be a secret between two

_UNICAST = ip_network("2000::/3")  # all that is assigned of the IPv6 internet; outside it are NAT64 and other ways to write an IPv4 address
_6TO4 = ip_network("2002::/16")  # holds an IPv4 address of anybody's choice (RFC 3056)

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


def private(text: str) -> bool:
    """Whether an address is anything but a host of the public internet: loopback, RFC 1918, link-local, shared, multicast, reserved, or a tunnel to one."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address not in _UNICAST or address in _6TO4:
            return True
    return not address.is_global or address.is_multicast


def local(host: str) -> bool:
    """Whether this is a private address as it stands, in any form that resolvers read, or this machine's own name (RFC 6761 §6.3)."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return private(name)
    except ValueError:
        pass
    try:
        return private(socket.inet_ntoa(socket.inet_aton(name)))  # 127.1, 0x7f000001, 2130706433
    except (OSError, UnicodeError):
        return False


class Fetch:
    """A client with its own connections; `close` ends them. Build and use it on one event loop."""

    def __init__(self, allow_private: bool = False):
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Headers, timeout: float) -> tuple[int, bytes]:
        """Status and body of the answer; see `request`."""
        return await self.request("POST", url, body, headers, timeout)

    async def get(self, url: str, headers: Headers, timeout: float) -> tuple[int, bytes]:
        """Status and body of the answer; see `request`."""
        return await self.request("GET", url, None, headers, timeout)

    async def request(self, method: str, url: str, body: bytes | None, headers: Headers, timeout: float, redirects: int = 0) -> tuple[int, bytes]:
        """Status and body of the answer; a redirect as it is, after so many that were followed.

        timeout  seconds for everything: resolving, connecting, sending and reading

        Raises TimeoutError, or OSError for everything else that went wrong: no connection, a private address, TLS, not HTTP, more than LIMIT bytes.
        """
        if not url.startswith(("http://", "https://")):
            raise OSError(f"not an http or https URL: {url[:80]!r}")
        try:
            async with asyncio.timeout(timeout):
                status, said, place = await self._ask(method, url, body, headers)
                for _ in range(redirects):
                    if status not in _ELSEWHERE or not place:
                        break
                    method, url, body, headers = onward(status, place, method, url, body, headers)
                    status, said, place = await self._ask(method, url, body, headers)
                return status, said
        except (aiohttp.ClientError, ValueError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, url: str, body: bytes | None, headers: Headers) -> tuple[int, bytes, str]:
        """Status, body and Location of the answer."""
        data: Any = body
        if body is not None and len(body) > PIECE:
            data, headers = _pieces(body), {**dict(headers), "Content-Length": str(len(body))}
        async with self._open().request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
            parts, size = [], 0
            async for part in answer.content.iter_any():
                size += len(part)
                if size > LIMIT:
                    answer.close()
                    raise OSError(f"the answer has more than {LIMIT} bytes")
                parts.append(part)
            return answer.status, b"".join(parts), answer.headers.get("Location", "")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=IDLE, use_dns_cache=False, socket_factory=self._socket)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None),
                headers={"Accept-Encoding": "identity", "User-Agent": "relay"}, skip_auto_headers=("Content-Type",),
            )
        return self._session

    def _socket(self, info: tuple) -> socket.socket:
        """The socket for one resolved address; raises OSError for one that may not be asked."""
        family, kind, proto, _, address = info
        if not self._allow_private and private(address[0]):
            raise OSError(errno.EACCES, f"{address[0]} is not a public address")  # as strerror, which aiohttp repeats
        made = socket.socket(family, kind, proto)
        made.setblocking(False)
        return made


def onward(status: int, place: str, method: str, url: str, body: bytes | None, headers: Headers) -> tuple[str, str, bytes | None, Headers]:
    """The request that a redirect asks for: method, URL, body and fields; raises OSError for a place that is not gone to.

    303, and 301 or 302 of a POST, are a GET without the body (RFC 9110 §15.4). Another origin gets only the fields that are for anybody, and what went
    by TLS does not go on in the clear.
    """
    there = urldefrag(urljoin(url, place)).url
    old, new = urlsplit(url), urlsplit(there)
    if new.scheme not in ("http", "https") or not new.hostname or (old.scheme, new.scheme) == ("https", "http"):
        raise OSError(f"redirected to {there[:80]!r}, which is not gone to")
    fields = headers.items() if isinstance(headers, Mapping) else headers
    if (old.scheme, old.netloc) != (new.scheme, new.netloc):
        fields = [(name, value) for name, value in fields if name.lower() in _ANYWHERE]
    if method not in ("GET", "HEAD") and (status == 303 or (status in (301, 302) and method == "POST")):
        method, body, fields = "GET", None, [(name, value) for name, value in fields if name.lower() not in _OF_THE_BODY]
    return method, there, body, list(fields)


async def _pieces(body: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(body)
    for at in range(0, len(body), PIECE):
        yield view[at:at + PIECE]
