"""What fails around a relay: the disk, the database, DNS, and receivers in every way. Nothing acknowledged is lost, nothing arrives twice, each has one end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.outage import Outage
from tests.support import postgres
from tests.support.dns import DnsServer, mail
from tests.support.ports import free_port
from tests.support.running import by_mx, routed
from tests.support.sink import CUT, Script, Sink
from tests.support.until import PATIENCE

DISK = 48_000_000  # bytes


def arrived(sink: Sink) -> Counter[str]:
    return Counter(address for message in sink.messages for address in message.recipients)


def once(sink: Sink, addresses: list[str]) -> None:
    """Each of these came, and came once."""
    assert arrived(sink) == Counter(addresses)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory for a relay whose data has a file system of its own."""
    place = tmp_path / "data"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "relay-test", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(directory: Path, leave: int = 0) -> Path:
    """Take all of the relay's disk but so many bytes."""
    disk = directory / "data"
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave:
                file.write(bytes(min(1_000_000, max(4096, free - leave))))
        except OSError:
            pass
    return path


@pytest.mark.parametrize("octets", [500, 40_000], ids=["in rows", "in segments"])
def test_a_full_disk_refuses_for_now_and_loses_nothing(small_disk: Path, octets: int) -> None:
    with Sink() as sink, Outage(small_disk, routed(sink.address)) as case:
        told = case.submit("a.test", 20, octets)
        filler = fill(small_disk)
        told += case.submit("b.test", 400 if octets < 1_000 else 100, octets)  # SQLite's log has room for a while, then none
        assert case.refused
        assert {code // 100 for code in case.refused} == {4}
        filler.unlink()
        refused = len(case.refused)
        deadline = time.monotonic() + PATIENCE
        while not (again := case.submit("c.test", 1, octets)):
            assert time.monotonic() < deadline, case.refused[refused:]
        told += again + case.submit("c.test", 20, octets)
        assert set(case.ended(told).values()) == {"delivered"}
        once(sink, told)


def test_a_disk_that_is_nearly_full_takes_no_mail_and_delivers_what_it_has(small_disk: Path) -> None:
    room = {"RELAY_STORE__MIN_FREE": "16MB", "RELAY_STORE__RESERVE": "4MB"}
    with Sink(Script(delays={"dot": 0.05})) as sink, Outage(small_disk, {**room, **routed(sink.address)}) as case:
        told = case.submit("a.test", 30)
        filler = fill(small_disk, leave=10_000_000)
        deadline = time.monotonic() + PATIENCE
        while not case.refused:  # free space is looked at once a second
            told += case.submit("b.test", 1)
            assert time.monotonic() < deadline
        assert set(case.refused) == {452}
        assert set(case.ended(told).values()) == {"delivered"}
        filler.unlink()
        while not (again := case.submit("c.test", 1)):
            assert time.monotonic() < deadline
        case.ended(again)
        once(sink, told + again)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for PostgreSQL, which gives up root: pytest's own are shut to others again whenever another pytest starts."""
    with tempfile.TemporaryDirectory(prefix="relay-pg-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_a_database_that_is_gone_and_back(tmp_path: Path, place: Path) -> None:
    """While it is away clients hear 4yz; what was on its way is recorded afterwards, so nothing is sent twice by a relay that lived on."""
    port = free_port()
    postgres.make(place)
    with Sink(Script(delays={"dot": 0.02})) as sink:
        with postgres.serving(place, port) as server:
            url = asyncio.run(server.create())
            case = Outage(tmp_path / "relay", {**routed(sink.address), "RELAY_STORE__URL": url})
            case.relay.start()
            told = case.submit("a.test", 60)
        assert not case.submit("b.test", 5)
        assert {code // 100 for code in case.refused} == {4}
        assert len(case.refused) == 5
        with postgres.serving(place, port):
            try:
                deadline = time.monotonic() + PATIENCE
                while not (again := case.submit("c.test", 1)):
                    assert time.monotonic() < deadline, case.refused
                told += again + case.submit("c.test", 20)
                assert set(case.ended(told, retry=True).values()) == {"delivered"}  # what was about to leave has been put off by a minute
            finally:
                case.relay.stop()
        once(sink, told)


def test_dns_that_is_gone_defers_and_delivers_when_it_is_back(tmp_path: Path) -> None:
    zones = mail("a.test", "b.test")
    with Sink() as sink:
        with DnsServer(zones) as dns:
            nameserver, port = dns.address, dns.port
            case = Outage(tmp_path, by_mx(nameserver, sink.port))
            case.relay.start()
            first = case.submit("a.test", 3)
            case.ended(first)
        try:
            second = case.submit("b.test", 3)
            case.reached(second, {"deferred"})
            assert {(result, phase) for address, result, phase in case.attempts() if address in second} == {("conn_error", "dns")}
            with DnsServer(zones, port=port):
                assert set(case.ended(second, retry=True).values()) == {"delivered"}  # a failed lookup is remembered for five seconds
        finally:
            case.relay.stop()
        once(sink, first + second)


@pytest.mark.parametrize(("faults", "results"), [
    ({"drop_data": 2_000}, {("conn_error", "dot"), ("conn_error", "data"), ("ambiguous", "dot")}),  # we may have written all when it breaks off
    ({"dot": CUT}, {("ambiguous", "dot")}),
    ({"data": CUT}, {("conn_error", "data")}),
    ({"data": "421 4.3.2 shutting down"}, {("tempfail", "data")}),
    ({"dot": "451 4.3.0 no room"}, {("tempfail", "dot")}),
], ids=["cut in the middle of DATA", "cut after the final dot", "cut at DATA", "421 at DATA", "451 after the final dot"])
def test_a_receiver_that_breaks_off_is_tried_again(tmp_path: Path, faults: dict[str, Any], results: set[tuple[str, str]]) -> None:
    """The attempt is recorded for what it was; a whole receiver then takes each message once."""
    with Sink(Script(**faults)) as sink, Outage(tmp_path, routed(sink.address)) as case:
        told = case.submit("a.test", 3, 400_000)
        case.reached(told, {"deferred"})
        tries = case.attempts()
        assert {(result, phase) for _, result, phase in tries} <= results
        assert {address for address, _, _ in tries} == set(told)
        for name in faults:
            setattr(sink.script, name, getattr(Script(), name))
        assert set(case.ended(told, retry=True).values()) == {"delivered"}
        assert Counter(result for _, result, _ in case.attempts())["delivered"] == len(told)
        once(sink, told)


def test_a_tarpit_with_five_thousand_messages_delays_nobody_else(tmp_path: Path) -> None:
    """And they wait in good order: a restart finds every one of them, and delivers when the tarpit has become a server."""
    with Sink(Script(delays={"greeting": 3_600.0})) as pit, Sink() as sink:
        with Outage(tmp_path, routed(sink.address, {"slow.test": pit.address})) as case:
            stuck = case.submit("slow.test", 50, people=100)
            assert len(stuck) == 5_000
            told = case.submit("fast.test", 50)
            sink.wait(len(told))
            assert set(case.ended(told).values()) == {"delivered"}
            assert {state for address, state in case.states() if address in set(stuck)} == {"queued"}
            assert {address for address, _, _ in case.attempts()} == set(told), "all this while no attempt at the tarpit has ended"
            case.relay.kill()
            pit.script = Script()
            case.relay.start()
            assert set(case.ended(stuck, 60).values()) == {"delivered"}
        once(sink, told)
        once(pit, stuck)


def test_a_site_that_answers_421_above_five_connections(tmp_path: Path) -> None:
    """Few connections are refused, and a refused one costs no message an attempt as long as others stand."""
    with Sink(Script(connections=5, delays={"dot": 0.02})) as sink, DnsServer(mail("busy.test")) as dns:
        with Outage(tmp_path, by_mx(dns.address, sink.port)) as case:
            told = case.submit("busy.test", 400)
            assert set(case.ended(told).values()) == {"delivered"}
            results = Counter(result for _, result, _ in case.attempts())
        once(sink, told)
        share = 1 - results["delivered"] / results.total()
        print(f"{share:.1%} of {results.total()} attempts deferred; {sink.rejected} of {sink.opened} connections refused")
        assert share < 0.05
        assert sink.rejected < 40
