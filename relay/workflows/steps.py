"""STEPS: the kinds of nodes a graph is made of, a row each: how their config reads, and which answers lead on from them.

    send_email      template_id, or subject with html or text; from, reply_to, topic_id, transactional, variables, tags
    wait            {"delay": "3d"}   {"until": "trial_ends_at", "offset": "-3d"}   {"event": "purchased", "timeout": "7d"}: match, no_match
    condition       {"rules": ...} in any grammar of segments: match, no_match     {"branches": [{"name", "rules"}]}: the first that holds, or no_match
    webhook         url, method, headers, body: match for a 2xx, no_match
    update_contact  set, add_tags, remove_tags, subscription, topics, add_to_segment, remove_from_segment
    exit            reason

Texts may have {{ variables }}: those of the contact, and `event` with what began the run. Each `read` gives a frozen value and notes in its Form all that is
wrong with the config.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from relay import templates
from relay.audience import grammars
from relay.errors import Invalid
from relay.mail import mime
from relay.mail.mime import Texts
from relay.store.audience.rules import All, Rule
from relay.store.audience.rules import segments as asked
from relay.workflows.form import Form, said

MATCH, NO_MATCH = "match", "no_match"
METHODS = ("get", "post", "put", "patch", "delete")
HEADERS = 50  # of a webhook
BRANCHES = 20  # of a condition
TAGS, TAG = 9, 64  # of an email, which has one more of ours

_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # a field name (RFC 9110 §5.1)
_OWN = frozenset({"host", "content-length", "transfer-encoding", "connection", "idempotency-key", "expect", "upgrade", "te", "trailer"})
_BRANCH = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Email:
    """`transactional` None: as the template is, and marketing where none says; `topic` and `template` are numbers."""

    template: int | None
    texts: Texts
    sender: str
    reply_to: tuple[str, ...]
    topic: int | None
    transactional: bool | None
    variables: dict[str, Any]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delay:
    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Until a date that the contact has as a property, and `offset` seconds more (less, if negative); `leave` ends the run where there is no such date."""

    path: tuple[str, ...]
    offset: float
    leave: bool


@dataclass(frozen=True, slots=True)
class ForEvent:
    name: str
    timeout: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The first branch whose rules hold; `rules` as written, for the history."""

    branches: tuple[tuple[str, Rule], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """`body` None: what is known of contact, workflow, run and event."""

    url: str
    method: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Change:
    """`fields` as relay.audience.contacts takes them, texts with variables; `topics` by number; segments are static ones."""

    fields: dict[str, Any]
    topics: dict[int, bool] = field(default_factory=dict)
    put: int | None = None
    take: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    reason: str


Step = Email | Delay | Until | ForEvent | Decision | Call | Change | Exit


# How configs read.


def _email(form: Form) -> Email:
    template = form.id("tpl", "template_id", "templateId")
    subject, html, text = (form.text(name, longest=templates.SOURCE) for name in ("subject", "html", "text"))
    if template is None and form.has("template_id", "templateId") is None:
        if not subject.strip():
            form.wrong("subject", "is required without a template_id")
        if not (html or text):
            form.wrong("html", "or text is required without a template_id")
    texts = Texts(subject, html or None, text or None)
    try:
        templates.variables(texts)
    except Invalid as error:
        form.faults.append((error.field, error.text))
    sender = form.text("from", "sender", longest=1_000)
    reply_to = form.value("reply_to", "replyTo") or []
    listed = tuple([reply_to] if isinstance(reply_to, str) else reply_to if isinstance(reply_to, list) else [""])
    for name, each in [("from", sender)] * bool(sender) + [("reply_to", each) for each in listed]:
        try:
            mime.mailboxes(each if isinstance(each, str) else "", name)
        except Invalid as error:
            form.faults.append((name, error.text))
    tags = form.value("tags") or []
    if not isinstance(tags, list) or len(tags) > TAGS or not all(isinstance(tag, str) and 0 < len(tag) <= TAG for tag in tags):
        form.wrong("tags", f"are up to {TAGS} texts of 1 to {TAG} characters")
        tags = []
    return Email(template, texts, sender, tuple(each for each in listed if isinstance(each, str)), form.id("top", "topic_id", "topicId"),
                 form.flag("transactional"), form.object("variables"), tuple(tags))


def _wait(form: Form) -> Delay | Until | ForEvent:
    if form.has("event", "event_name", "eventName"):
        timeout = form.seconds("timeout")
        if timeout is None and form.has("timeout") is None:
            form.wrong("timeout", 'is required: how long to wait for the event, such as "7d"')
        return ForEvent(event_name(form), timeout or 0.0)
    if form.has("until", "property"):
        path = form.text("until", "property", required=True).removeprefix("properties.").removeprefix("data.")
        offset = form.seconds("offset", signed=True) or 0.0
        return Until(tuple(path.split(".")), offset, form.choice("missing", ("exit", "continue"), "exit") == "exit")
    delay = form.seconds("delay", "duration")
    if form.has("amount"):
        delay = Form({"delay": dict(form.given)}, form.faults).seconds("delay")
    if delay is None and not form.faults:
        form.wrong("delay", 'is required: "3d"; or until, the name of a date; or event and timeout')
    return Delay(delay or 0.0)


def event_name(form: Form) -> str:
    name = form.text("event", "event_name", "eventName", required=True, longest=64)
    if name and (not name.isprintable() or '"' in name or "\\" in name):
        form.wrong("event", "is a name without quotation marks, backslashes and control characters")
    return name


def _condition(form: Form) -> Decision:
    given = form.value("branches")
    if given is None:
        return Decision(((MATCH, _rules(form, "rules", question(form))),))
    if not isinstance(given, list) or not 0 < len(given) <= BRANCHES:
        form.wrong("branches", f"are 1 to {BRANCHES} of {{name, rules}}")
        return Decision(())
    found: list[tuple[str, Rule]] = []
    for number, each in enumerate(given):
        name = each.get("name") if isinstance(each, Mapping) else None
        if not isinstance(name, str) or not _BRANCH.fullmatch(name) or name == NO_MATCH or name in dict(found):
            form.wrong(f"branches[{number}].name", f"is a name of its own, of letters, digits and _ . : -, and not {NO_MATCH}")
            continue
        found.append((name, _rules(form, f"branches[{number}].rules", each.get("rules", each.get("condition")))))
    return Decision(tuple(found))


def question(form: Form) -> Any:
    """The rules of a condition with one question: in `rules` or `condition`, as {field, operator, value}, or the whole config in a grammar with groups."""
    found = form.value("rules", "condition")
    if isinstance(found, Mapping) and "field" in found:
        return [found]
    if found is None and form.has("field"):
        return [{name: value for name, value in form.given.items() if name in ("field", "operator", "comparator", "value", "unit", "windowDays")}]
    if found is None and form.has("groups", "conditions"):
        return dict(form.given)
    return found


def _rules(form: Form, name: str, given: Any) -> Rule:
    if given is None:
        form.wrong(name, "is required: what to ask of the contact, as a segment asks")
        return All(())
    try:
        return grammars.read(given)
    except Invalid as error:
        said(form, name, error)
        return All(())


def _call(form: Form) -> Call:
    url = form.text("url", required=True, longest=2_000)
    if url and not (url.startswith(("http://", "https://", "{{")) if "{{" in url else sound(url)):  # with variables it is looked at once it has them
        form.wrong("url", "is an http or https URL")
    headers = form.object("headers")
    if len(headers) > HEADERS:
        form.wrong("headers", f"are at most {HEADERS}")
    for name, value in headers.items():
        if not _FIELD.fullmatch(name) or name.lower() in _OWN:
            form.wrong(f"headers.{name[:80]}", "is no header that may be set")
        elif not isinstance(value, str) or len(value) > 2_000 or any(c in value for c in "\r\n\0"):
            form.wrong(f"headers.{name}", "is a text of one line, at most 2000 characters")
    body = form.value("body")
    for place, text in _texts({"url": url, "headers": headers, "body": body}):
        _template(form, place, text)
    return Call(url, form.choice("method", METHODS, "post").upper(), {name: str(value) for name, value in headers.items()}, body)


def sound(url: str) -> bool:
    """Whether this is a URL that may be asked; its address is looked at when it is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and url.isprintable() and " " not in url


def _texts(given: Any, place: str = "") -> list[tuple[str, str]]:
    """Every text in a value, with its place."""
    if isinstance(given, str):
        return [(place, given)]
    if isinstance(given, Mapping):
        return [found for name, each in given.items() for found in _texts(each, f"{place}.{name}" if place else str(name))]
    return [found for number, each in enumerate(given) for found in _texts(each, f"{place}[{number}]")] if isinstance(given, list) else []


def _template(form: Form, place: str, text: str) -> None:
    try:
        templates.compiled("text", text)
    except Invalid as error:
        form.wrong(place, error.text.removeprefix("text "))


_SUBSCRIPTION = {"subscribe": False, "unsubscribe": True}


def _change(form: Form) -> Change:
    given = form.object("set") or form.object("updates") or {name: form.given[name] for name in ("first_name", "last_name", "properties") if name in form.given}
    known = {"first_name": "first_name", "firstName": "first_name", "last_name": "last_name", "lastName": "last_name"}
    fields: dict[str, Any] = {known[name]: value for name, value in given.items() if name in known}
    loose = {name.removeprefix("data.").removeprefix("properties."): value for name, value in given.items()
             if name not in known and name not in ("properties", "data", "customFields")}
    nested = next((given[name] for name in ("properties", "data", "customFields") if isinstance(given.get(name), dict)), {})
    if properties := {**loose, **nested}:
        fields["properties"] = properties
    for name in ("add_tags", "remove_tags"):
        tags = form.value(name)
        if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
            form.wrong(name, "is a list of tags")
        elif tags:
            fields[name] = tags
    choice = form.choice("subscription" if form.has("subscription") else "subscription_action" if form.has("subscription_action") else "subscriptionAction",
                         ("none", "subscribe", "unsubscribe"), "none")
    if choice != "none":
        fields["unsubscribed"] = _SUBSCRIPTION[choice]
    topics: dict[int, bool] = {}
    for name, wanted in form.object("topics").items():
        number = Form({"topics": name}).id("top", "topics")
        if number is None or not isinstance(wanted, bool):
            form.wrong(f"topics.{str(name)[:40]}", "is true or false, by the id of a topic")
        else:
            topics[number] = wanted
    for place, text in _texts(fields):
        _template(form, place, text)
    change = Change(fields, topics, form.id("seg", "add_to_segment"), form.id("seg", "remove_from_segment"))
    if not (fields or topics or form.has("add_to_segment", "remove_from_segment") or form.faults):
        form.wrong("set", "is required: the fields to change; or add_tags, remove_tags, subscription, topics, add_to_segment, remove_from_segment")
    return change


def _exit(form: Form) -> Exit:
    return Exit(form.text("reason", longest=200))


STEPS: dict[str, Callable[[Form], Step]] = {
    "send_email": _email, "wait": _wait, "condition": _condition, "webhook": _call, "update_contact": _change, "exit": _exit}


def read(kind: str, config: Mapping[str, Any]) -> tuple[Step, list[tuple[str, str]]]:
    """What a node is to do, and all that is wrong with its config: then it is not to be done."""
    form = Form(config)
    return STEPS[kind](form), form.faults


def branches(step: Step) -> tuple[str, ...]:
    """The answers that lead on from a node; none = one way."""
    if isinstance(step, Decision):
        return (*(name for name, _ in step.branches), NO_MATCH)
    return (MATCH, NO_MATCH) if isinstance(step, (ForEvent, Call)) else ()


def segments(step: Step) -> set[int]:
    """The segments that a step speaks of."""
    if isinstance(step, Decision):
        return {number for _, rule in step.branches for number in asked(rule)}
    return {number for number in (step.put, step.take) if number is not None} if isinstance(step, Change) else set()
