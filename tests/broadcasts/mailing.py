"""A project with contacts that broadcasts, as its owner sees it: over HTTP, and what arrives at the sink."""

from __future__ import annotations

import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from relay.mail.address import key as normal
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from tests.support.served import Tenant
from tests.support.until import PATIENCE

WITHIN = PATIENCE  # seconds for mail to arrive


class Mailing:
    """`http` calls are those of Tenant; addresses and From are of domains that only this project uses, so that its mail is told from others'."""

    def __init__(self, tenant: Tenant):
        self.tenant, self.served, self.number = tenant, tenant.served, tenant.number
        self.get, self.post, self.patch, self.delete, self.until, self.http = (
            tenant.get, tenant.post, tenant.patch, tenant.delete, tenant.until, tenant.http)
        self.domain = f"{tenant.project}.example"
        self.sender = f"News <news@{self.domain}>"

    def people(self, count: int, domains: int = 1, **fields: Any) -> list[Contact]:
        """So many contacts, written at once; the fields of all of them."""
        maker, now = self.served.relay.maker, self.served.relay.clock.now()
        made = []
        for n in range(count):
            email = f"p{n}-{maker.next()}@{f'd{n % domains}.' if domains > 1 else ''}{self.domain}"
            known = {"first_name": f"Ann{n}", "last_name": None, "properties": {"plan": "pro" if n % 2 else "free"}, "tags": [], **fields}
            made.append(Contact(maker.next(), self.number, normal(email), email, unsubscribed=False, unsubscribed_at=None, last_active_at=None,
                                created_at=now, updated_at=now, **known))
        for start in range(0, count, 500):
            self.served.call(self.served.relay.store.write(contacts.add_many, made[start:start + 500]))
        return made

    def draft(self, **given: Any) -> str:
        """The id of a new draft; to all contacts unless it says otherwise."""
        body = {"name": "March", "from": self.sender, "subject": "Hello {{ first_name }}", "text": "Your plan is {{ plan | default: 'unknown' }}.\n",
                "html": "<p>Dear {{ first_name | default: 'friend' }}, you are on {{ properties.plan }}.</p>", **given}
        if not any(name in body for name in ("segment_id", "audience_id", "topic_id", "rules", "all_contacts")):
            body["all_contacts"] = True
        return self.post("/broadcasts", body, 201)["id"]

    def sent(self, number: str, status: str = "sent", within: float = WITHIN) -> dict[str, Any]:
        """The broadcast once it has this status and nothing of it is under way."""
        return self.until(f"/broadcasts/{number}", lambda b: b["status"] == status and b["queued"] == 0 and b["pending"] == 0, within)

    def mail(self, count: int, within: float = WITHIN) -> list[EmailMessage]:
        """What has arrived for this project, parsed; waits until it is so many."""
        until = time.monotonic() + within
        while True:
            mine = [m for m in self.served.sink.messages if any(to.endswith(self.domain) for to in m.recipients)]
            if len(mine) >= count or time.monotonic() > until:
                return [self._parsed(m) for m in mine]
            self.served.sink.wait(len(self.served.sink.messages) + 1, max(0.1, until - time.monotonic()))

    @staticmethod
    def _parsed(received: Any) -> EmailMessage:
        return message_from_bytes(received.content, policy=policy.default)  # type: ignore[return-value]

    def ledger(self, number: str, **query: Any) -> list[dict[str, Any]]:
        return self.get(f"/broadcasts/{number}/recipients", limit=1_000, **query)["recipients"]
