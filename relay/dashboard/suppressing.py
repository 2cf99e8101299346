"""Settings, suppression rules: patterns of addresses that get no mail from this project; made, tried on an address, switched off and deleted."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay.api.compat.plunk import suppressions as rules
from relay.api.compat.plunk.suppressions import AddressInput, RuleInput
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError
from relay.store import suppression_rules as stored

PATH = "/dashboard/settings/rules"
KINDS = (("DOMAIN", "everybody at a domain: example.com"), ("ADDRESS", "one address: ann@example.com"), ("PREFIX", "addresses that begin with: test+"),
         ("SUFFIX", "addresses that end with: .example"), ("WILDCARD", "a pattern, * for any characters: *+demo@example.com"))


async def every(visit: Visit, error: RelayError | None = None) -> Response:
    """The rules; with `address`, which of them stops that one."""
    address, tried = visit.asked("address"), None
    try:
        if address:
            tried = await rules.preview(visit.here, visit.who, AddressInput(address=address))
    except (RelayError, ValidationError) as wrong:
        error = error or visit.wrong(wrong)
    found = [rules.shown(each) for each in await visit.here.store.read(stored.every, visit.who.project)]
    return visit.show("settings/rules.html", error=error, rules=found, kinds=KINDS, words=dict(KINDS), address=address, tried=tried, most=stored.MOST)


async def add(visit: Visit) -> Response:
    try:
        pattern = visit.given("pattern")
        given = RuleInput.model_validate({"name": visit.given("name") or pattern[:100], "kind": visit.given("kind"), "pattern": pattern})
        made: Any = await rules.create_rule(visit.here, visit.who, given)
    except (RelayError, ValidationError) as error:
        return await every(visit, visit.wrong(error))
    return visit.go(PATH, f"{made['pattern']} gets no mail from now on.")


async def switch(visit: Visit) -> Response:
    """On or off, as `enabled` says."""
    name = visit.number("rule_id")
    old = await rules.get_rule(visit.here, visit.who, name)
    given = RuleInput(name=old["name"], kind=old["kind"], pattern=old["pattern"], enabled=visit.given("enabled") == "1")
    await rules.change_rule(visit.here, visit.who, name, given)
    return visit.go(PATH, f"{old['pattern']} gets no mail." if given.enabled else f"{old['pattern']} gets mail again.")


async def delete(visit: Visit) -> Response:
    await rules.delete_rule(visit.here, visit.who, visit.number("rule_id"))
    return visit.go(PATH, "The rule is deleted; whom it stopped gets mail again.")


ROUTES = (get("/settings/rules", every), post("/settings/rules", add), post("/settings/rules/{rule_id}/switch", switch),
          post("/settings/rules/{rule_id}/delete", delete))
