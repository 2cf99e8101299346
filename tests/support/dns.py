"""An authoritative DNS server of the tests' own, over UDP and TCP on loopback.

    with DnsServer({"example.com": {"MX": "10 mx.example.com."}, "mx.example.com": {"A": "127.0.0.2"}}) as dns:
        ...nameservers=[dns.address]

A zone is names to types to values as in a zone file (one, or a list of them); names are written in lower case and without their final dot. A
name that is not there is NXDOMAIN, a type that is not there is NODATA, both with a SOA; a name whose child is there exists. CNAMEs are followed.
`dns.zones` may be changed while it runs; `dns.faults[name]` or `dns.faults[(name, "MX")]` makes answers go wrong; `dns.queries` counts them.

As a process: `python -m tests.support.dns --listen 127.0.0.1:5353 --zone zone.json`, which prints the address it listens on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.thread import Threaded

TTL = 60  # seconds, of every record
NEGATIVE = 30  # seconds, the SOA minimum
Zones = dict[str, dict[str, str | list[str]]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: `rcode` ("SERVFAIL", "REFUSED", ...), `delay` in seconds, `drop` (no answer at all), `truncated` over UDP."""

    rcode: str = ""
    delay: float = 0.0
    drop: bool = False
    truncated: bool = False


class DnsServer(Threaded):
    """The server; `address` is "127.0.0.1:port" once it runs."""

    def __init__(self, zones: Zones | None = None, host: str = "127.0.0.1", port: int = 0):
        self.zones: Zones = zones if zones is not None else {}
        self.faults: dict[str | tuple[str, str], Fault] = {}
        self.queries: Counter[tuple[str, str]] = Counter()
        self.over_tcp = 0
        self.in_flight = self.most_in_flight = 0
        self.host, self.port = host, port

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def open(self) -> None:
        self._tcp = await asyncio.start_server(self._stream, self.host, self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (self.host, self.port))
        self._tasks: set[asyncio.Task[None]] = set()

    async def shut(self) -> None:
        self._udp.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()

    async def answer(self, wire: bytes, udp: bool) -> bytes | None:
        """The response to a query, or None for silence."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.queries[name, kind] += 1
        fault = self.faults.get((name, kind)) or self.faults.get(name) or Fault()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(fault.delay)
        finally:
            self.in_flight -= 1
        if fault.drop:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if fault.rcode:
            response.set_rcode(dns.rcode.from_text(fault.rcode))
        elif fault.truncated and udp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, kind)
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        for _ in range(9):
            types = self.zones.get(name)
            if types is None:
                if not any(other.endswith(f".{name}") for other in self.zones):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                break
            if kind in types:
                response.answer.append(_records(name, kind, types[kind]))
                return
            if "CNAME" not in types:
                break
            response.answer.append(_records(name, "CNAME", types["CNAME"]))
            name = response.answer[-1][0].target.to_text(omit_final_dot=True).lower()
        response.authority.append(dns.rrset.from_text(".", NEGATIVE, "IN", "SOA", f". . 1 60 60 60 {NEGATIVE}"))

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.over_tcp += 1
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                response = await self.answer(await reader.readexactly(length), udp=False)
                if response is not None:
                    writer.write(struct.pack("!H", len(response)) + response)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer):
        self.server = server

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer) -> None:
        task = asyncio.get_running_loop().create_task(self._reply(data, peer))
        self.server._tasks.add(task)
        task.add_done_callback(self.server._tasks.discard)

    async def _reply(self, data: bytes, peer) -> None:
        response = await self.server.answer(data, udp=True)
        if response is not None:
            self.transport.sendto(response, peer)


def _records(name: str, kind: str, values: str | list[str]) -> dns.rrset.RRset:
    texts = [values] if isinstance(values, str) else values
    return dns.rrset.from_text(dns.name.from_text(name), TTL, "IN", kind, *texts)


def reverse(address: str) -> str:
    """The name under which the PTR record of an address is kept: `zones[reverse("127.0.0.2")] = {"PTR": "mail.example.com."}`."""
    import dns.reversename

    return dns.reversename.from_address(address).to_text(omit_final_dot=True)


def mail(*domains: str, address: str = "127.0.0.1", more: Mapping[str, dict] | None = None) -> Zones:
    """Zones in which each domain has one MX, `mx.<domain>`, at this address."""
    zones: Zones = dict(more or {})
    for domain in domains:
        zones[domain] = {"MX": f"10 mx.{domain}."}
        zones[f"mx.{domain}"] = {"A": address}
    return zones


async def _serve(server: DnsServer) -> None:
    await server.open()
    print(f"listening {server.address}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--zone", type=Path, required=True)
    given = parser.parse_args()
    host, _, port = given.listen.rpartition(":")
    asyncio.run(_serve(DnsServer(json.loads(given.zone.read_text()), host, int(port))))


if __name__ == "__main__":
    main()
