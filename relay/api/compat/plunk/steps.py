"""Workflow steps in Plunk's words, and the nodes that they are: another grammar over the one engine.

    TRIGGER         trigger                                       SEND_EMAIL {templateId}              send_email
    DELAY {amount, unit}                    wait, delay           WAIT_FOR_EVENT {eventName, timeout}   wait, event
    CONDITION {field, operator, value}      condition, rules      WEBHOOK {url, method, headers, body}  webhook
    CONDITION {mode: "multi", branches}     condition, branches   UPDATE_CONTACT {updates, subscriptionAction}    update_contact
                                                                  EXIT {reason}                         exit

A node keeps what it was written as beside what it means, under `plunk`, and is shown as it was written. A node that another grammar made is shown in its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relay.api.compat.plunk.errors import Bad
from relay.api.compat.plunk.events import NAMES, OURS
from relay.workflows import steps
from relay.workflows.graph import Edge, Node
from relay.workflows.steps import MATCH, NO_MATCH

DAYS = 365  # of a delay
UNITS = {"minutes": 1_440, "hours": 24, "days": 1}  # of a day
BRANCHES = {"yes": MATCH, "true": MATCH, "received": MATCH, "no": NO_MATCH, "false": NO_MATCH, "timeout": NO_MATCH, "default": NO_MATCH, "else": NO_MATCH}
SHOWN = {MATCH: "yes", NO_MATCH: "no"}
TIMEOUT = 30 * 86_400.0  # seconds that an event is waited for where nothing says how long


def node(name: str, kind: str, title: str, config: Mapping[str, Any], place: Mapping[str, Any]) -> Node:
    """The node of a step; raises Bad naming what of its config is wrong."""
    meaning = MEANINGS[kind](config)
    if kind != "TRIGGER":
        faults = steps.read(NATIVE[kind], meaning)[1]
        if faults:
            field, text = faults[0]
            raise Bad(f"config.{field}", text)
    x, y = (place.get(each, 0) for each in ("x", "y"))
    told = {"type": kind, "name": title, "config": dict(config)}
    return Node(name, NATIVE[kind], {**meaning, "plunk": told}, _place(x), _place(y))


def _place(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not abs(given) < 1e9:
        raise Bad("position", "position is {x, y}, two numbers")
    return given


def _trigger(config: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _email(config: Mapping[str, Any]) -> dict[str, Any]:
    template = config.get("templateId")
    if not isinstance(template, str) or not template:
        raise Bad("config.templateId", "templateId is required")
    return {"template_id": template, **({"from": config["from"]} if config.get("from") else {})}


def _delay(config: Mapping[str, Any]) -> dict[str, Any]:
    amount, unit = config.get("amount"), config.get("unit", "minutes")
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or unit not in UNITS or not 0 < amount <= DAYS * UNITS[unit]:
        raise Bad("config.amount", f"a DELAY is an amount of minutes, hours or days, {DAYS} days at most")
    return {"delay": {"amount": amount, "unit": unit}}


def _event(config: Mapping[str, Any]) -> dict[str, Any]:
    name, timeout = config.get("eventName"), config.get("timeout") or TIMEOUT
    if not isinstance(name, str) or not name:
        raise Bad("config.eventName", "eventName is required")
    return {"event": OURS.get(name, name), "timeout": timeout}


def _condition(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("mode") != "multi":
        return {"rules": _rules(config, {}, "config")}
    given = config.get("branches")
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise Bad("config.branches", "branches is a list of {name, operator, value}")
    return {"branches": [{"name": str(each.get("id") or each.get("name") or number), "rules": _rules(each, config, f"config.branches[{number}]")}
                         for number, each in enumerate(given)]}


def _rules(given: Mapping[str, Any], common: Mapping[str, Any], at: str) -> dict[str, Any]:
    """A condition in nested groups, from one filter, or as it is."""
    inner = given.get("condition") if isinstance(given.get("condition"), Mapping) else given
    if "groups" in inner:
        return {name: inner[name] for name in ("logic", "groups") if name in inner}
    field = inner.get("field", common.get("field"))
    if not isinstance(field, str):
        raise Bad(f"{at}.field", f"{at}.field is required: data.plan, subscribed, segment.<id> ...")
    one = {**{name: inner[name] for name in ("value", "unit") if name in inner}, "field": field.removeprefix("contact."), "operator": inner.get("operator")}
    return {"logic": "AND", "groups": [{"filters": [one]}]}


def _webhook(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("url", "method", "headers", "body") if config.get(name) is not None}


def _update(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"set": config.get("updates") or {}, "subscription": config.get("subscriptionAction") or "none"}


def _exit(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"reason": config["reason"]} if config.get("reason") else {}


MEANINGS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "TRIGGER": _trigger, "SEND_EMAIL": _email, "DELAY": _delay, "WAIT_FOR_EVENT": _event, "CONDITION": _condition, "WEBHOOK": _webhook,
    "UPDATE_CONTACT": _update, "EXIT": _exit}
NATIVE = {"TRIGGER": "trigger", "SEND_EMAIL": "send_email", "DELAY": "wait", "WAIT_FOR_EVENT": "wait", "CONDITION": "condition", "WEBHOOK": "webhook",
          "UPDATE_CONTACT": "update_contact", "EXIT": "exit"}
_WORDS = {"trigger": "TRIGGER", "send_email": "SEND_EMAIL", "wait": "DELAY", "condition": "CONDITION", "webhook": "WEBHOOK", "update_contact": "UPDATE_CONTACT",
          "exit": "EXIT"}


def written(each: Node) -> dict[str, Any]:
    """Type, name and config of a node, as they were written or in the words of whoever made it."""
    said = each.config.get("plunk")
    if isinstance(said, Mapping) and said.get("type") in NATIVE:
        return {"type": said["type"], "name": said.get("name") or said["type"], "config": said.get("config") or {}}
    kind = "WAIT_FOR_EVENT" if each.kind == "wait" and "event" in each.config else _WORDS[each.kind]
    return {"type": kind, "name": kind.replace("_", " ").title(), "config": each.config}


def shown(each: Node, workflow: str) -> dict[str, Any]:
    told = written(each)
    return {"id": each.id, "workflowId": workflow, **told, "position": {"x": each.x, "y": each.y}, "templateId": told["config"].get("templateId")}


# Transitions.


def branch(condition: Any) -> str | None:
    """The branch that a transition's condition means; raises Bad."""
    if condition is None:
        return None
    name = condition.get("branch") if isinstance(condition, Mapping) else None
    if not isinstance(name, str):
        raise Bad("condition", 'condition is {"branch": "yes"}, {"branch": "no"} or the name of a branch')
    return BRANCHES.get(name.lower(), name)


def transition(edge: Edge) -> dict[str, Any]:
    return {"id": number(edge), "fromStepId": edge.origin, "toStepId": edge.target, "priority": edge.priority,
            "condition": None if edge.branch is None else {"branch": SHOWN.get(edge.branch, edge.branch)}}


def number(edge: Edge) -> str:
    """A transition's id: its ends, which no other has."""
    return "~".join((edge.origin, edge.target, *([edge.branch] if edge.branch else [])))


def theirs(name: str) -> str:
    """An event's name in this dialect."""
    return NAMES.get(name, name)
