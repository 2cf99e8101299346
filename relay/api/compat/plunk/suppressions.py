"""/suppressions in the Plunk dialect: rules on recipients. Mail to whom an enabled one matches is taken down as suppressed and never leaves.

These are no bounce list: that is the native /suppressions, which bounces, complaints and one-click links fill by themselves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from relay.api.compat.plunk.errors import Bad
from relay.api.core import Core, Input, Json, Owner, Relay, known, resource
from relay.api.suppression_rules import matching
from relay.clock import iso
from relay.errors import Conflict, Invalid
from relay.mail import ids
from relay.mail.message import Principal
from relay.store import emails, suppression_rules
from relay.store.pages import Page
from relay.store.suppression_rules import SuppressionRule

router = resource("Suppressions")


class RuleInput(Input):
    """A pattern of addresses that get no mail; in a WILDCARD `*` stands for any characters."""

    name: str = Field(min_length=1, max_length=100)
    kind: Literal["ADDRESS", "DOMAIN", "PREFIX", "SUFFIX", "WILDCARD"]
    pattern: str = Field(min_length=1, max_length=254)
    enabled: bool = True


class AddressInput(Input):
    address: str = Field(min_length=1, max_length=254)


@router.get("/suppressions")
async def list_rules(here: Core, who: Owner) -> Any:
    """All rules, oldest first."""
    return Json([shown(each) for each in await here.store.read(suppression_rules.every, who.project)])


@router.post("/suppressions", status_code=201)
async def create_rule(here: Core, who: Owner, given: RuleInput) -> Any:
    """Create a rule; it holds at once."""
    now = here.clock.now()
    rule = _rule(here.maker.next(), who, given, now, now)
    try:
        return shown(await _kept(here, suppression_rules.add, rule))
    except Conflict as error:
        raise Bad("name", error.text) from None


@router.post("/suppressions/preview")
async def preview(here: Core, who: Owner, given: AddressInput) -> Any:
    """Whether a rule stops mail to an address, and which."""
    match = await matching(here, who.project, "address", given.address)
    return {"suppressed": match is not None, "match": shown(match) if match else None}


@router.get("/suppressions/emails")
async def list_captured(
    here: Core, who: Owner, limit: Annotated[int, Query(description="Up to 100")] = 20, cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Any:
    """A page of mail that went to nobody because everybody was suppressed, newest first."""
    after = None if cursor is None else ids.internal(cursor, "em")
    if cursor is not None and after is None:
        raise Bad("cursor", "cursor is not one that a page gave")
    size = min(max(limit, 1), 100)
    found = await here.store.read(emails.page, who.project, emails.Filter(status="suppressed"), Page(1, size, after))
    rows = [{"id": ids.public("em", each.row.id), "createdAt": iso(each.row.created_at), "recipientAddress": each.recipients[0].address,
             "subject": each.row.subject, "status": "SUPPRESSED"} for each in found.rows if each.recipients]
    return {"emails": rows, "nextCursor": rows[-1]["id"] if found.last is not None and rows else None}


@router.get("/suppressions/{rule_id}")
async def get_rule(here: Core, who: Owner, rule_id: str) -> Any:
    """One rule."""
    return shown(await here.store.read(suppression_rules.get, who.project, _id(rule_id)))


@router.put("/suppressions/{rule_id}")
async def change_rule(here: Core, who: Owner, rule_id: str, given: RuleInput) -> Any:
    """Put another rule in the place of this one, or switch it off."""
    old = await here.store.read(suppression_rules.get, who.project, _id(rule_id))
    await _kept(here, suppression_rules.put, _rule(old.id, who, given, old.created_at, here.clock.now()))
    return {"success": True}


@router.delete("/suppressions/{rule_id}", status_code=204)
async def delete_rule(here: Core, who: Owner, rule_id: str) -> Response:
    """Delete a rule; whom it stopped gets mail again."""
    await here.store.write(suppression_rules.remove, who.project, _id(rule_id))
    here.control.changed("rules")
    return Response(status_code=204)


def _rule(number: int, who: Principal, given: RuleInput, made: float, now: float) -> SuppressionRule:
    """Raises Bad for a pattern that no address can match."""
    kind = given.kind.lower()
    try:
        pattern = suppression_rules.normal(kind, given.pattern)
    except Invalid as error:
        raise Bad("pattern", error.text) from None
    return SuppressionRule(number, who.project, given.name, kind, pattern, given.enabled, made, now)


async def _kept(here: Relay, act: Any, rule: SuppressionRule) -> SuppressionRule:
    kept: SuppressionRule = await here.store.write(act, rule)
    here.control.changed("rules")
    return kept


def _id(rule_id: str) -> int:
    return known("rule", rule_id, "Suppression rule")


def shown(rule: SuppressionRule) -> dict[str, Any]:
    return {"id": rule.public_id, "name": rule.name, "kind": rule.kind.upper(), "pattern": rule.pattern, "enabled": rule.enabled,
            "projectId": ids.public("prj", rule.project_id), "createdAt": iso(rule.created_at), "updatedAt": iso(rule.updated_at)}
