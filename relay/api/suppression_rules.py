"""/suppression-rules: patterns of addresses that get no mail, beside the list of single ones; relay.store.suppression_rules says what they match."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from relay.api.core import Core, Input, Owner, Relay, known, resource, whole
from relay.clock import iso
from relay.errors import Invalid
from relay.mail import address
from relay.store import suppression_rules
from relay.store.suppression_rules import SuppressionRule

router = resource("Suppressions")

Kind = Literal["address", "domain", "prefix", "suffix", "wildcard"]


class RuleInput(Input):
    """A pattern of addresses that get no mail; in a wildcard `*` stands for any characters."""

    name: str = Field(min_length=1, max_length=100)
    kind: Kind
    pattern: str = Field(min_length=1, max_length=254)
    enabled: bool = True


class RuleChange(Input):
    """What is given changes."""

    name: str | None = Field(None, min_length=1, max_length=100)
    kind: Kind | None = None
    pattern: str | None = Field(None, min_length=1, max_length=254)
    enabled: bool | None = None


class AddressInput(Input):
    email: str = Field(min_length=1, max_length=320)


@router.get("/suppression-rules")
async def list_rules(here: Core, who: Owner) -> Any:
    """All rules, oldest first."""
    return whole("suppression_rules", [shown(each) for each in await here.store.read(suppression_rules.every, who.project)])


@router.post("/suppression-rules", status_code=201)
async def create_rule(here: Core, who: Owner, given: RuleInput) -> Any:
    """Create a rule; it holds at once, for mail that waits too. 409 when the project has as many as it may."""
    now = here.clock.now()
    made = SuppressionRule(here.maker.next(), who.project, given.name, given.kind, _normal(given.kind, given.pattern), given.enabled, now, now)
    return await _kept(here, suppression_rules.add, made)


@router.post("/suppression-rules/preview")
async def preview_rules(here: Core, who: Owner, given: AddressInput) -> Any:
    """Whether a rule stops mail to an address, and which."""
    match = await matching(here, who.project, "email", given.email)
    return {"suppressed": match is not None, "match": shown(match) if match else None}


async def matching(here: Relay, project: int, field: str, text: str) -> SuppressionRule | None:
    """The rule that stops mail to the address in this text; raises Invalid naming the field for one that is none."""
    try:
        key = address.key(text.strip())
    except Invalid as error:
        raise Invalid(field, error.text) from None
    return suppression_rules.first(await here.store.read(suppression_rules.of, project), key)


@router.get("/suppression-rules/{rule_id}")
async def get_rule(here: Core, who: Owner, rule_id: str) -> Any:
    """One rule."""
    return shown(await _found(here, who.project, rule_id))


@router.patch("/suppression-rules/{rule_id}")
async def change_rule(here: Core, who: Owner, rule_id: str, given: RuleChange) -> Any:
    """Change a rule, or switch it off and on."""
    old = await _found(here, who.project, rule_id)
    changes = {name: getattr(given, name) for name in ("name", "kind", "pattern", "enabled") if getattr(given, name) is not None}
    new = replace(old, **changes, updated_at=here.clock.now())
    return await _kept(here, suppression_rules.put, replace(new, pattern=_normal(new.kind, new.pattern)))


@router.delete("/suppression-rules/{rule_id}")
async def delete_rule(here: Core, who: Owner, rule_id: str) -> Any:
    """Delete a rule; whom it stopped gets mail again."""
    await here.store.write(suppression_rules.remove, who.project, known("rule", rule_id, "Suppression rule"))
    here.control.changed("rules")
    return {"deleted": True}


def _normal(kind: str, pattern: str) -> str:
    try:
        return suppression_rules.normal(kind, pattern)
    except Invalid as error:
        raise Invalid("pattern", error.text) from None


async def _found(here: Relay, project: int, rule_id: str) -> SuppressionRule:
    rule: SuppressionRule = await here.store.read(suppression_rules.get, project, known("rule", rule_id, "Suppression rule"))
    return rule


async def _kept(here: Relay, act: Any, rule: SuppressionRule) -> dict[str, Any]:
    kept = shown(await here.store.write(act, rule))
    here.control.changed("rules")
    return kept


def shown(rule: SuppressionRule) -> dict[str, Any]:
    return {"id": rule.public_id, "name": rule.name, "kind": rule.kind, "pattern": rule.pattern, "enabled": rule.enabled,
            "created_at": iso(rule.created_at), "updated_at": iso(rule.updated_at)}
