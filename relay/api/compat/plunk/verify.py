"""POST /v1/verify: what can be said of an address without writing to it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from relay.api.core import Core, Input, Sender, resource
from relay.audience.validation import DELIVERABLE, RISKY, validate

router = resource("Emails")


class VerifyInput(Input):
    email: str = Field(min_length=1, max_length=320)


@router.post("/v1/verify")
async def verify(here: Core, who: Sender, given: VerifyInput) -> Any:
    """Verify an address."""
    found = await validate(here.control.resolver, given.email)
    data: dict[str, Any] = {
        "email": found.email, "valid": found.result in (DELIVERABLE, RISKY) and not found.suggestion, "isDisposable": found.disposable, "isAlias": found.role,
        "isTypo": found.suggestion is not None, "isPlusAddressed": found.plus, "isPersonalEmail": found.free, "domainExists": found.exists,
        "hasWebsite": found.website, "hasMxRecords": found.mx, "reasons": list(found.reasons),
    }
    if found.suggestion:
        data["suggestedEmail"] = found.suggestion
    return {"success": True, "data": data}
