"""A store on each database, on a loop of its own thread, so that plain tests and Hypothesis can ask it."""

from __future__ import annotations

import pytest

from relay.store import projects
from relay.store.engine import Store
from tests.support.databases import DATABASES
from tests.support.thread import Threaded

PROJECT = 1
NOW = 1_790_000_000.0  # 2026-09-21


class Stored(Threaded):
    def __init__(self, url, directory):
        self.url, self.directory = url, directory

    async def open(self):
        self.store = await Store.open(self.url, self.directory, min_free=0, reserve=0)
        await self.store.write(projects.add, projects.Project(PROJECT, "default", {}, NOW))

    async def shut(self):
        await self.store.close()

    def write(self, fn, *args):
        return self.call(self.store.write(fn, *args))

    def read(self, fn, *args):
        return self.call(self.store.read(fn, *args))


@pytest.fixture(scope="package", params=DATABASES)
def stored(request, tmp_path_factory, empty_store):
    directory = tmp_path_factory.mktemp(f"audience-{request.param}")
    with empty_store(request.param, directory) as url, Stored(url, directory) as opened:
        yield opened


@pytest.fixture
def town(stored):
    from tests.audience.town import Town  # which needs this file

    return Town(stored)
