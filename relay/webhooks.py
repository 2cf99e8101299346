"""Webhooks: events on their way to endpoints, signed, in order for each email, at least once.

    event log ── cursor ──► endpoint's own task ──► POST ──► 2xx: done
                                                      └────► else: a row that waits 10 s, 1 min, 5 min ... 8 h, given up after 24 h

Each endpoint has a task of its own, which reads the log from where it stands: a slow one delays nobody, and mail never waits for any. An event that failed
holds back the later events of its own email and of no other. After DOWN failures in a row an endpoint is only asked with what waits already, one at a time,
and its place in the log stays where it is until it answers again. After 24 hours without a success and at least 20 failures it is switched off, with the
reason.

Signatures: `X-PostStack-Signature: sha256=<hex HMAC-SHA256 of the body>` with the secret's text as key, and the three fields of Standard Webhooks
(https://www.standardwebhooks.com) with the bytes that the secret stands for. For the grace after a rotation both secrets sign. Redirects are not followed and
private addresses are refused (relay.fetch).

A crash between an answer and its commit repeats the event; its id, also in `webhook-id`, tells a receiver so.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from relay import events, log
from relay.clock import Clock
from relay.errors import NotFound, RelayError
from relay.fetch import Fetch
from relay.mail import ids
from relay.mail.ids import Maker
from relay.metrics import SLOW, counter, histogram
from relay.news import News, Sight
from relay.store import events as stored_events
from relay.store import webhooks as stored
from relay.store.engine import Store
from relay.store.events import Event
from relay.store.secrets import Vault
from relay.store.webhooks import Delivery, Webhook
from relay.store.writes import JOBS

STEPS = (10.0, 60.0, 300.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 28_800.0)  # seconds before each further attempt: 23.6 h together
LASTS = 86_400.0  # seconds after which an event is given up, and an endpoint without a success is switched off
FAILURES = 20  # in a row, before an endpoint is switched off
DOWN = 5  # failures in a row from which an endpoint is only probed
BATCH = 100  # events read at once
TOGETHER = 10  # requests to one endpoint at once
FAULT = 60.0  # seconds that an endpoint rests after a fault of ours
AWAY = 1.0  # seconds until a store that is away is asked again, or whether this node leads
REST = 5.0  # seconds between two looks of a quiet endpoint at its own rows
ANSWER = 1_000  # characters of an answer that are kept

LOG = log.get("webhooks")
DELIVERIES = counter("webhook_deliveries_total", "Webhook requests by result", "result")
LAG = histogram("event_delivery_lag_seconds", "From an event to the endpoint that took it, further attempts and replays by hand included", buckets=SLOW)


Carry = Callable[[int, str, bytes], Awaitable[bytes]]


async def _as_it_is(project: int, kind: str, payload: bytes) -> bytes:
    return payload


def new_secret() -> str:
    """`whsec_` and base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(texts: Sequence[str], name: str, at: int, body: bytes) -> dict[str, str]:
    """The signature fields of a request.

    texts  the secrets that sign, the present one first
    name   the event's id
    at     UTC seconds
    """
    plain, standard = [], []
    for text in texts:
        plain.append("sha256=" + hmac.digest(text.encode(), body, hashlib.sha256).hex())
        key = base64.b64decode(text.removeprefix("whsec_"))
        standard.append("v1," + base64.b64encode(hmac.digest(key, f"{name}.{at}.".encode() + body, hashlib.sha256)).decode())
    return {"X-PostStack-Signature": ",".join(plain), "webhook-id": name, "webhook-timestamp": str(at), "webhook-signature": " ".join(standard)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said; `status` None when it said nothing."""

    status: int | None
    text: str

    @property
    def good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def after(delivery: Delivery, answer: Answer, now: float) -> Delivery:
    """The delivery as it stands after an attempt: done, waiting, or given up."""
    attempts = delivery.attempts + 1
    told = replace(delivery, status=answer.status, answer=answer.text[:ANSWER], attempts=attempts)
    if answer.good:
        return replace(told, delivered_at=now, next_at=None)
    late = attempts > len(STEPS) or now - delivery.created_at + STEPS[attempts - 1] > LASTS
    return replace(told, next_at=None if late else now + STEPS[attempts - 1])


def health(webhook: Webhook, answers: Sequence[Answer], now: float) -> dict[str, Any]:
    """What some answers, in their order, change of an endpoint's columns; after too long without a success it is switched off."""
    failures, since, changes = webhook.failures, webhook.failing_since, {}
    for answer in answers:
        if answer.good:
            failures, since = 0, None
            changes |= {"delivered_at": now, "delivered_status": answer.status}
        else:
            failures, since = failures + 1, since if since is not None else now
            changes["delivered_status"] = answer.status
    changes |= {"failures": failures, "failing_since": since}
    if since is not None and failures >= FAILURES and now - since >= LASTS:
        reason = f"{failures} failures and no success in 24 hours; the last: {answers[-1].text[:200] or answers[-1].status}"
        changes |= {"enabled": False, "disabled_at": now, "disabled_reason": reason}
    return changes


class Webhooks:
    """All endpoints of this relay. `run` delivers for ever, `occurred` says that there is something new.

    leading  whether this node is the one of several that delivers; the others only answer `ask`
    carry    what a call's body is, of project, type and payload: some events carry more than the log keeps
    """

    def __init__(
        self, store: Store, news: News, fetch: Fetch, seals: Vault, clock: Clock, maker: Maker, timeout: float, leading: Callable[[], bool] = lambda: True,
        carry: Carry | None = None,
    ):
        self.carry = carry or _as_it_is
        self.store, self.clock, self.maker = store, clock, maker
        self._leading = leading
        self._fetch, self._seals, self._timeout = fetch, seals, timeout
        self._news = news
        self._endpoints: dict[int, Endpoint] = {}
        self._switched = self._latest = ""

    def occurred(self) -> None:
        self._news.tell()

    async def close(self) -> None:
        await self._fetch.close()

    async def run(self) -> None:
        """Watch the log, and keep a task for each endpoint that is switched on."""
        try:
            while True:
                try:
                    if self._leading():
                        await self._look(await self._news.look())
                    else:
                        await asyncio.sleep(AWAY)
                except RelayError as error:
                    LOG.warning("the store is away, webhooks wait", error=error.text)
        finally:
            for endpoint in self._endpoints.values():
                endpoint.stop()

    async def _look(self, sight: Sight) -> None:
        """Start and end endpoints as the store has them, and wake those that wait when the log has grown or somebody said so."""
        if sight.last != self._latest or sight.told:
            for endpoint in self._endpoints.values():
                endpoint.news.set()
        self._latest = sight.last
        if sight.endpoints == self._switched and not sight.told:
            return
        found = {webhook.id: webhook for webhook in await self.store.read(stored.enabled)}
        for number in self._endpoints.keys() - found.keys():
            self._endpoints.pop(number).stop()
        for number, webhook in found.items():
            if number not in self._endpoints or self._endpoints[number].ended:
                self._endpoints[number] = Endpoint(self, webhook)
                self._endpoints[number].start()
        self._switched = sight.endpoints

    async def ask(self, webhook: Webhook, name: str, body: bytes) -> Answer:
        """One request; every fault of the endpoint or the way to it is an Answer."""
        now = self.clock.now()
        texts = [self._seals.open(webhook.secret, f"webhook:{webhook.id}")]
        if webhook.previous_secret and (webhook.previous_until or 0.0) > now:
            texts.append(self._seals.open(webhook.previous_secret, f"webhook:{webhook.id}"))
        headers = {"Content-Type": "application/json", "User-Agent": "Relay-Webhooks/1", **sign(texts, name, int(now), body)}
        try:
            status, answer = await self._fetch.post(webhook.url, body, headers, self._timeout)
        except TimeoutError:
            return self._counted(Answer(None, f"no answer within {self._timeout:g} s"))
        except OSError as error:
            return self._counted(Answer(None, str(error)))
        return self._counted(Answer(status, answer[:ANSWER * 4].decode("utf-8", "replace").replace("\0", "\ufffd")))

    @staticmethod
    def _counted(answer: Answer) -> Answer:
        DELIVERIES.labels("delivered" if answer.good else "refused" if answer.status else "unreachable").inc()
        return answer


class Endpoint:
    """One endpoint's way through the log."""

    def __init__(self, hooks: Webhooks, webhook: Webhook):
        self._hooks, self._store, self._clock = hooks, hooks.store, hooks.clock
        self.webhook = webhook
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self.run(), name=f"webhook {self.webhook.public_id}")

    @property
    def ended(self) -> bool:
        """Whether it was found switched off; it may have been switched on since."""
        return self.task is not None and self.task.done()

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Deliver until it is switched off or removed. A fault of ours rests this endpoint for a while and touches no other, nor mail."""
        while True:
            try:
                if not await self._turns():
                    return
            except NotFound:
                return
            except RelayError as error:
                LOG.warning("a webhook waits", webhook=self.webhook.public_id, error=error.text)
                await self._rest(self._clock.now() + AWAY)
            except Exception:
                LOG.exception("a webhook failed", webhook=self.webhook.public_id)
                await asyncio.sleep(FAULT)

    async def _turns(self) -> bool:
        """Deliver what there is and wait for more; False once it is switched off."""
        self.webhook = await self._store.read(stored.get, self.webhook.project_id, self.webhook.id)
        if not self.webhook.enabled:
            return False
        if not await self.turn():
            await self._rest(await self._store.read(stored.next_at, self.webhook.id))
        return True

    async def _rest(self, until: float | None) -> None:
        """Wait for news, or until an attempt is due; another node may have made one due without a word."""
        try:
            async with asyncio.timeout(REST if until is None else min(REST, max(0.01, until - self._clock.now()))):
                await self.news.wait()
        except TimeoutError:
            return
        self.news.clear()

    async def turn(self) -> bool:
        """Make the attempts that are due and deliver what is new; whether there may be more at once."""
        down = self.webhook.failures >= DOWN
        waiting = await self._store.read(stored.due, self.webhook.id, self._clock.now(), 1 if down else BATCH)
        if waiting:
            await self._deliver(waiting, self.webhook.cursor)
            return True
        return False if down else await self._follow()

    async def _follow(self) -> bool:
        """Deliver the next events of the log."""
        found, cursor, self.webhook = await self._store.read(_following, self.webhook)
        if not found or not self.webhook.enabled:
            return False
        now = self._clock.now()
        wanted = [event for event in found if events.wanted(self.webhook.events, event.type) and now - event.at < LASTS]
        held = await self._store.read(stored.held, self.webhook.id, {event.message_id for event in wanted if event.message_id is not None})
        await self._deliver([self._delivery(event, now) for event in wanted], cursor, held)
        return True

    def _delivery(self, event: Event, now: float) -> Delivery:
        payload = orjson.dumps(events.body(event)).decode()
        return Delivery(self._hooks.maker.next(), self.webhook.id, event.id, event.message_id, event.type, payload, None, "", 0, now, None, now)

    async def _deliver(self, deliveries: Sequence[Delivery], cursor: str, held: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        """Attempt these, several emails at once and the events of one in their order, and record what came of it."""
        lines: dict[Any, list[Delivery]] = {}
        for delivery in deliveries:
            lines.setdefault(delivery.message_id or delivery.event_id, []).append(delivery)
        turns, answers, done = asyncio.Semaphore(TOGETHER), [], []

        async def line(each: list[Delivery]) -> None:
            stopped = each[0].message_id in held
            for delivery in each:
                if stopped:
                    done.append(delivery)
                    continue
                async with turns:
                    body = await self._hooks.carry(self.webhook.project_id, delivery.type, delivery.payload.encode())
                    answer = await self._hooks.ask(self.webhook, _name(delivery), body)
                answers.append(answer)
                done.append(after(delivery, answer, self._clock.now()))
                if answer.good:
                    LAG.observe(max(0.0, self._clock.now() - ids.made_at(delivery.event_id)))
                stopped = done[-1].next_at is not None

        await asyncio.gather(*(line(each) for each in lines.values()))
        changes = {"cursor": cursor, **(health(self.webhook, answers, self._clock.now()) if answers else {})}
        await self._store.write(stored.record, self.webhook, sorted(done, key=lambda d: d.id), changes, lane=JOBS)
        if any(delivery.next_at is None for delivery in done):
            await self._store.write(stored.prune, self.webhook.id, self._clock.now(), lane=JOBS)
        if changes.get("disabled_at"):
            LOG.warning("webhook switched off", webhook=self.webhook.public_id, reason=changes["disabled_reason"])


def _following(conn: Any, webhook: Webhook) -> tuple[list[Event], str, Webhook]:
    """What the log has for an endpoint after its cursor, the cursor after that, and the endpoint as it was not before any of that: a secret that was rotated
    away signs nothing that came later."""
    found, cursor = stored_events.since(conn, webhook.cursor, project=webhook.project_id, limit=BATCH)
    return found, cursor, stored.get(conn, webhook.project_id, webhook.id)


def _name(delivery: Delivery) -> str:
    """The event's id as its body has it."""
    return orjson.loads(delivery.payload)["id"]
