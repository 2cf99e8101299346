"""Relay processes that the tests of this folder share, each started when a test first asks for its kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end import world as places
from tests.end_to_end.world import Far, World

KINDS = {"one": 0, "workers": 2, "postgres": 2}  # submission workers


@pytest.fixture(scope="session")
def far(tmp_path_factory) -> Iterator[Far]:
    with places.far(tmp_path_factory.mktemp("far")) as running:
        yield running


@pytest.fixture(scope="session")
def worlds(far, tmp_path_factory, request) -> Iterator[Callable[[str], World]]:
    """The running relay of a kind."""
    started: dict[str, World] = {}
    with contextlib.ExitStack() as stack:
        def get(kind: str) -> World:
            if kind not in started:
                url = asyncio.run(request.getfixturevalue("postgres_server").create()) if kind == "postgres" else ""
                started[kind] = stack.enter_context(places.world(kind, tmp_path_factory.mktemp(kind), far, KINDS[kind], url))
            return started[kind]

        yield get


@pytest.fixture
def world(worlds, request) -> World:
    """The relay that a test names by `parametrize("world", [...], indirect=True)`, else the one of one process."""
    return worlds(getattr(request, "param", "one"))
