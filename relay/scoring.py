"""rspamd over HTTP: one message in, its score out, and an rspamd that is away costs little and fails nothing.

It speaks rspamd's own protocol (`POST /checkv2`). No answer within `timeout` means that nobody has scored the message; after FAILURES such in a row rspamd is
left alone for PAUSE seconds, so that a hanging one costs three timeouts and not one for each message. `is_skipped` in an answer is not that: GTUBE answers
reject, 15.0, is_skipped.

Asked about mail at our door by policies/rspamd.py, about mail to domains by relay.inbound.receiving; what a score means is theirs to say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from relay.clock import Clock
from relay.metrics import counter, histogram

FAILURES = 3  # in a row, before rspamd is left alone
PAUSE = 10.0  # seconds it is left alone
MOST = 50_000_000  # octets of a message that is shown; rspamd itself reads no more (its max_message)
SYMBOLS = 50  # kept of an answer, the weightiest
TEXT = 200  # characters kept of a description

REQUESTS = counter("rspamd_requests_total", "Messages that rspamd was asked about, by what came of it: scored or failed", "result")
SECONDS = histogram("rspamd_seconds", "How long rspamd took to answer, or we to give up", buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0))
SCORE = histogram("rspamd_score", "Scores of messages", buckets=(-5.0, 0.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0))


class Post(Protocol):
    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
        """As relay.policy.Fetch has it."""


@dataclass(frozen=True, slots=True)
class Score:
    """What rspamd said: `action` its advice ("no action", "add header", "reject", ...), `symbols` [{name, score, description}], weightiest first."""

    score: float
    action: str
    symbols: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Unscored:
    """Nobody has scored the message; `why` in words."""

    why: str


OFF = Unscored("off")


class Scorer:
    """One rspamd, whose failures are counted in this process only, since each worker has its own way to it.

    url      where it listens, "" switches scoring off
    timeout  seconds for everything
    """

    def __init__(self, fetch: Post, clock: Clock, url: str, timeout: float):
        self._fetch, self._clock, self._timeout = fetch, clock, timeout
        self._url = f"{url.rstrip('/')}/checkv2" if url else ""
        self._failures = 0
        self._paused_until = -math.inf  # elapsed()

    @property
    def off(self) -> bool:
        return not self._url

    async def score(self, octets: bytes, told: Mapping[str, str]) -> Score | Unscored:
        """What rspamd makes of the message; never raises.

        told  what the wire knew, by the names of rspamd's protocol: From, Rcpt (a comma list, which it reads as several fields), Ip, Helo, User
        """
        if not self._url:
            return OFF
        if self._clock.elapsed() < self._paused_until:
            return Unscored("rspamd did not answer lately")
        try:
            with SECONDS.time():
                found = _read(*await self._fetch.post(self._url, octets, {name: _plain(value) for name, value in told.items() if value}, self._timeout))
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            REQUESTS.labels("failed").inc()
            return self._failed(error)
        REQUESTS.labels("scored").inc()
        SCORE.observe(found.score)
        self._failures = 0
        return found

    def _failed(self, error: Exception) -> Unscored:
        self._failures += 1
        if self._failures >= FAILURES:
            self._failures, self._paused_until = 0, self._clock.elapsed() + PAUSE
        return Unscored(f"no answer: {str(error) or 'it took too long'}")


def _plain(value: str) -> str:
    """The value without what no HTTP field may hold; UTF-8 is rspamd's own reading of it."""
    return "".join(c for c in value if c >= " " and c != "\x7f")


def _read(status: int, body: bytes) -> Score:
    """The answer, whose score is a finite number; raises ValueError for anything else."""
    if status != 200:
        raise ValueError(f"HTTP status {status}")
    answer = json.loads(body)
    score = answer.get("score") if isinstance(answer, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError("an answer without a score")
    return Score(round(score, 2), str(answer.get("action", ""))[:TEXT], _symbols(answer.get("symbols")))


def _symbols(found: Any) -> list[dict[str, Any]]:
    """What weighed, the weightiest first: [{name, score, description}]."""
    rows = []
    for name, symbol in found.items() if isinstance(found, dict) else ():
        score = symbol.get("score") if isinstance(symbol, dict) else None
        if isinstance(score, int | float) and score:
            rows.append({"name": name[:TEXT], "score": round(score, 2), "description": str(symbol.get("description") or "")[:TEXT]})
    rows.sort(key=lambda row: -abs(row["score"]))
    return rows[:SYMBOLS]
