"""What every test may ask for: a store on each database, real programs, free ports, an event loop, and a limit on its time.

    store_url           the URL of an empty store, once on SQLite and once on PostgreSQL
    postgres_url        a PostgreSQL database with our tables and nothing in them; sqlite_url such a file; new_sqlite_url a file that is not there yet
    empty_store(...)    the same for fixtures of a wider scope
    need("swaks")       the path of a program; without it the test is skipped, or fails where CI is set
    free_port()         a loopback port
    @mark.both_loops    run an async test on asyncio and on uvloop; others run on uvloop, as Relay does
    @mark.limit(120)    seconds a test may take (LIMIT without it); a test that hangs fails with its stacks printed
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import inspect
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

try:
    import uvloop
except ImportError:
    uvloop = None

from relay import heap
from relay.store.engine import Store
from tests.support import peers, ports, postgres
from tests.support.databases import DATABASES, Databases
from tests.support.thread import apart

# A busy machine is no defect: nothing is judged by time, LIMIT catches what hangs. Where CI is set each property draws the same examples in every run, so that
# a run says something about the change it is for; elsewhere it draws new ones, and looks further. Either way a failure prints what repeats it.
settings.register_profile("anew", deadline=None, derandomize=False, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("anew"), derandomize=True, database=None)
settings.load_profile("same" if os.environ.get("CI") else "anew")

LIMIT = 180.0  # seconds; most tests take less than one, and what waits in a test gives up after PATIENCE
BLOCKED = 1.0  # seconds the alarm waits for the loop's own limit
LASTS_THE_SESSION = {"fsync": "off", "full_page_writes": "off"}  # a process that is killed loses nothing that the kernel has; power cuts are not tested
GRACE = 20.0  # seconds after the limit in which a test may unwind before the run is ended with all stacks


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_loops: run on asyncio and on uvloop")
    config.addinivalue_line("markers", "limit(seconds): time that this test may take")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories = {"uvloop": uvloop.new_event_loop} if uvloop else {}
    if not factories or item.get_closest_marker("both_loops"):
        factories["asyncio"] = asyncio.new_event_loop
    return factories


def pytest_collection_finish() -> None:
    """What has been imported and collected stays to the end: no collection of garbage looks at it again, and they are as rare as in a relay (relay.heap)."""
    heap.settle()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each async test its time; it is cancelled, so its clean-up still runs."""
    for item in items:
        if inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.obj = _limited(item.obj, _limit(item))


def _limit(item: pytest.Item) -> float:
    marker = item.get_closest_marker("limit")
    return float(marker.args[0]) if marker else LIMIT


def _limited(test: Callable[..., Awaitable[None]], limit: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        try:
            async with asyncio.timeout(limit) as time:
                await test(*args, **kwargs)
        except TimeoutError:
            if time.expired():
                pytest.fail(f"took more than {limit:g} seconds")
            raise

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Give every test its time. The alarm fails one that blocks; if even that cannot reach it, the run ends with every thread's stack."""
    limit = _limit(item)
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        return (yield)

    def late(_number: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=sys.__stderr__)
        pytest.fail(f"took more than {limit:g} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit + BLOCKED)
    faulthandler.dump_traceback_later(limit + GRACE, exit=True, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the programs that tests missed, so that a green run without them does not look complete."""
    reports = [*terminalreporter.stats.get("skipped", ()), *terminalreporter.stats.get("failed", ())]
    texts = (report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext for report in reports)
    wanted = Counter(name for name in map(peers.absent_from, texts) if name)
    if wanted:
        terminalreporter.section("missing peers")
        for program, tests in sorted(wanted.items()):
            terminalreporter.line(f"{program}: {tests} tests not run; `make peers` installs what is needed on Debian")


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    return peers.need


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return ports.free_port


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    with postgres.server(**LASTS_THE_SESSION) as running:
        yield running


@pytest.fixture(scope="session")
def databases(postgres_server: postgres.Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Databases with our tables that go from test to test."""
    made = apart(Databases.of(postgres_server, tmp_path_factory.mktemp("template")))
    yield made
    apart(made.close())


@pytest.fixture
def postgres_url(empty_store: Callable[[str, Path], AbstractContextManager[str]], tmp_path: Path) -> Iterator[str]:
    with empty_store("postgresql", tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def empty_store(request: pytest.FixtureRequest) -> Callable[[str, Path], AbstractContextManager[str]]:
    """`with empty_store("postgresql", directory) as url:` for fixtures that outlive a test; the file of "sqlite" is in the directory."""
    @contextmanager
    def made(database: str, directory: Path) -> Iterator[str]:
        if database == "sqlite":
            yield f"sqlite:///{directory / 'relay.db'}"
            return
        databases = request.getfixturevalue("databases")
        url = apart(databases.take())
        yield url
        apart(databases.give_back(url))

    return made


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with our tables and nothing in them, to copy: a fifth of the time that making them takes."""
    directory = tmp_path_factory.mktemp("template")

    async def make() -> Path:
        path = directory / "relay.db"
        await (await Store.open(f"sqlite:///{path}", directory, accept_old_sqlite=True)).close()
        return path

    return apart(make())


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    return f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'relay.db')}"


@pytest.fixture
def new_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new.db'}"


@pytest.fixture(params=DATABASES)
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store on each database; what a test writes there is seen by nobody else."""
    return request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_url")


os.environ.setdefault("PYTHONUNBUFFERED", "1")  # processes that tests start speak at once
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "authorities.pem")  # a real list takes each client 40 ms to read
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling Relay anew takes each process that a test starts two seconds
sys.dont_write_bytecode = False
