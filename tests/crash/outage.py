"""A real relay, its far side and what it was told, for tests in which something around it fails: submit, wait, and look at the books.

    with Outage(tmp_path, routed(sink.address)) as case:
        told = case.submit("a.test", 20)          addresses that were acknowledged
        case.refused                              replies of those that were not
        case.ended(told)                          waits until each has its end, gives state by address
        case.ended(told, retry=True)              what was deferred is due at once
        case.attempts()                           (address, result, phase) of every attempt
"""

from __future__ import annotations

import asyncio
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select

from relay.store.engine import Store
from relay.store.messages import ENDS
from relay.store.schema import attempts, recipients
from tests.support.running import OPEN, TRUSTING, Running
from tests.support.until import PATIENCE

SETTINGS = {
    **OPEN, **TRUSTING, "RELAY_STORE__MIN_FREE": "0", "RELAY_STORE__RESERVE": "0", "RELAY_SECRET_KEY": "an outage is a fact of life, not a defect",
}

class Outage:
    """A relay with its data in `directory/data`, and `settings` as RELAY_*."""

    def __init__(self, directory: Path, settings: Mapping[str, str]):
        self.relay = Running(directory, {**SETTINGS, "RELAY_DATA_DIR": str(directory / "data"), **settings})
        self.refused: list[int] = []
        self._count = 0

    def __enter__(self) -> Self:
        self.relay.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.relay.__exit__(*exc)

    def submit(self, domain: str, count: int, octets: int = 500, people: int = 1) -> list[str]:
        """So many messages to `people` recipients each at the domain, on one connection while it lasts; the addresses that were acknowledged."""
        told: list[str] = []
        left = count
        while left:
            with smtplib.SMTP("127.0.0.1", self.relay.smtp, timeout=PATIENCE) as smtp:
                while left:
                    left -= 1
                    self._count += 1
                    to = [f"u{self._count}-{n}@{domain}" for n in range(people)]
                    try:
                        smtp.sendmail("app@crash.example", to, f"Subject: {self._count}\r\n\r\n" + ("x" * 70 + "\r\n") * (octets // 72))
                        told += to
                    except smtplib.SMTPResponseException as refusal:
                        self.refused.append(refusal.smtp_code)
                        if refusal.smtp_code == 421:
                            break
                    except smtplib.SMTPRecipientsRefused as refusals:
                        self.refused += [code for code, _ in refusals.recipients.values()]
                    except smtplib.SMTPServerDisconnected:  # after a hundred refusals the relay has had enough of a client
                        break
        return told

    def ask(self, fn: Callable[..., Any]) -> Any:
        """fn(connection) on the store, beside the running relay."""
        return asyncio.run(self._ask(fn))

    async def _ask(self, fn: Callable[..., Any]) -> Any:
        store = await Store.open(self.relay.store_url, self.relay.data, read_only=True)
        try:
            return await store.read(fn)
        finally:
            await store.close()

    def states(self) -> list[tuple[str, str]]:
        """Address and state of every recipient."""
        return self.ask(lambda conn: [tuple(row) for row in conn.execute(select(recipients.c.address, recipients.c.state))])

    def attempts(self) -> list[tuple[str, str, str]]:
        """Address, result and phase of every attempt, in their order."""
        statement = select(recipients.c.address, attempts.c.result, attempts.c.phase).join(recipients, recipients.c.id == attempts.c.recipient_id)
        return self.ask(lambda conn: [tuple(row) for row in conn.execute(statement.order_by(attempts.c.at))])

    def reached(self, addresses: Iterable[str], wanted: Iterable[str], within: float = PATIENCE, *, retry: bool = False) -> dict[str, str]:
        """State by address once all of these are in one of the wanted states; each is in the books exactly once. `retry`: again and again."""
        addresses, wanted, deadline = set(addresses), set(wanted), time.monotonic() + within
        while True:
            found = [(address, state) for address, state in self.states() if address in addresses]
            if len(found) == len(addresses) and all(state in wanted for _, state in found):
                return dict(found)
            assert time.monotonic() < deadline, Counter(state for _, state in found)
            if retry:
                self.relay.text("queue", "retry", "--all")
            threading.Event().wait(0.1)

    def ended(self, addresses: Iterable[str], within: float = PATIENCE, *, retry: bool = False) -> dict[str, str]:
        return self.reached(addresses, ENDS, within, retry=retry)
