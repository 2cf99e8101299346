"""/email-validations: what can be said of an address without writing to it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field

from relay.api.core import Core, Input, Owner, Relay, resource
from relay.audience.validation import Validation, validate

router = resource("Email validations")

BATCH = 100  # addresses of one request
LOOKUPS = 20  # addresses looked at at once

Address = Annotated[str, Field(min_length=1, max_length=320)]


class ValidationInput(Input):
    email: Address


class BatchInput(Input):
    emails: list[Address] = Field(min_length=1, max_length=BATCH)


@router.post("/email-validations")
async def validate_email(here: Core, _who: Owner, given: ValidationInput) -> Any:
    """Validate an address: its form, its domain in DNS, and whether it is disposable, a role, at a free provider, or a misspelling."""
    return shown(await validate(here.control.resolver, given.email))


@router.post("/email-validations/batch")
async def validate_batch(here: Core, _who: Owner, given: BatchInput) -> Any:
    """Validate up to 100 addresses."""
    return {"results": [shown(each) for each in await _every(here, given.emails)]}


async def _every(here: Relay, emails: list[str]) -> list[Validation]:
    turns = asyncio.Semaphore(LOOKUPS)

    async def one(email: str) -> Validation:
        async with turns:
            return await validate(here.control.resolver, email)

    return await asyncio.gather(*map(one, emails))


def shown(found: Validation) -> dict[str, Any]:
    return {"email": found.email, "result": found.result, "risk": found.risk, "suggestion": found.suggestion, "reasons": list(found.reasons),
            "checks": {"syntax": found.syntax, "mx": found.mx, "disposable": found.disposable, "role": found.role, "free": found.free,
                       "typo": found.suggestion is not None}}
