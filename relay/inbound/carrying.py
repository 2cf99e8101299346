"""Puts the files of a message into the webhook call that tells of it. The event itself names them only, so the log stays small and a retry carries the same."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import orjson

from relay.errors import NotFound, RelayError
from relay.mail import ids, reading
from relay.store.engine import Store
from relay.store.inbound import mail

EVENT = "email.inbound"


@dataclass(frozen=True, slots=True)
class Carrying:
    """`limit`: octets of files in one call; those beyond have content null and are at /inbound/{id}/attachments/{number}."""

    store: Store
    limit: int

    async def __call__(self, project: int, kind: str, payload: bytes) -> bytes:
        """The call's body, with `content` (base64, or null) of each attachment; other events as they are."""
        if kind != EVENT:
            return payload
        told = orjson.loads(payload)
        data = told["data"]
        number = ids.internal(data.get("inbound_id", ""), "in")
        if number is None or not data.get("attachments"):
            return payload
        try:
            octets = await self.store.read(mail.octets, project, number)
            return await asyncio.to_thread(_carried, told, octets, self.limit)
        except NotFound:  # retention or its owner has dropped it
            return payload


def _carried(told: dict[str, Any], octets: bytes, limit: int) -> bytes:
    try:
        files = reading.read(octets).attachments
    except RelayError:
        files = ()
    for entry, file in zip(told["data"]["attachments"], files, strict=False):
        fits = entry["size"] <= limit
        limit -= entry["size"] if fits else 0
        entry["content"] = base64.b64encode(file.content).decode() if fits else None
    return orjson.dumps(told)
