"""What a step of a workflow is told to do, as the fields of a form and back: a row of FORMS for each kind, and TRIGGERS for what begins a workflow.

A config that the form does not change stays as it was written, to the letter; so do keys that the form has no field for. Rules of conditions are fields of
relay.dashboard.rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from relay.errors import Invalid
from relay.mail import ids
from relay.workflows.form import Form as Config

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Form:
    """`fields` shows a config as texts by field, `config` makes one of them; `keys` are what of a config the fields stand for, in any spelling."""

    fields: Callable[[Config], dict[str, str]]
    config: Callable[[Fields], dict[str, Any]]
    keys: frozenset[str]

    def shown(self, config: Mapping[str, Any]) -> dict[str, str]:
        return {name: _plain(text) for name, text in self.fields(Config(config)).items()}

    def kept(self, old: Mapping[str, Any], given: Fields) -> dict[str, Any]:
        """The config after the form came back; raises Invalid."""
        given = {name: _plain(text) for name, text in given.items()}
        if given == self.shown(old):
            return dict(old)
        return {**{name: value for name, value in old.items() if name not in self.keys}, **self.config(given)}


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def _some(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty."""
    return {name: value for name, value in found.items() if value not in ("", None, [], {})}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def _id(prefix: str, value: Any) -> str:
    """An id as people choose it; some write its number."""
    return ids.public(prefix, value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else _word(value)


def _listed(value: Any) -> str:
    return ", ".join(map(_word, value)) if isinstance(value, list) else _word(value)


def _parts(text: str) -> list[str]:
    return [part for part in map(str.strip, text.split(",")) if part]


def _span(value: Any) -> str:
    """A time span as text: "3d", also of {"amount": 3, "unit": "days"}."""
    if isinstance(value, Mapping):
        return f"{_word(value.get('amount', value.get('value')))}{str(value.get('unit', ''))[:1]}"
    return f"{value:g}s" if isinstance(value, (int, float)) and not isinstance(value, bool) else _word(value)


def _value(text: str) -> Any:
    """What a value of a property means: JSON where it is a number, true, false or quoted; else the text."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return found if isinstance(found, (str, int, float, bool, list, dict)) else text


def _shown(value: Any) -> str:
    """The same, to be read again as it is."""
    plain = isinstance(value, str) and _value(value) == value and value == value.strip() and "\n" not in value
    return value if plain else orjson.dumps(value).decode()


def lines(text: str, mark: str, name: str) -> dict[str, str]:
    """`name = value`, a line each; raises Invalid."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, there, value = line.partition(mark)
        if not there or not key.strip():
            raise Invalid(name, f'{name} are lines such as "plan{mark} pro"' if mark == ":" else f'{name} are lines such as "plan {mark} pro"')
        found[key.strip()] = value.strip()
    return found


# Emails.


def _email(config: Config) -> dict[str, str]:
    said = config.value("transactional")
    return {"template_id": _id("tpl", config.value("template_id", "templateId")), "subject": _word(config.value("subject")),
            "html": _word(config.value("html")), "text": _word(config.value("text")), "from": _word(config.value("from", "sender")),
            "reply_to": _listed(config.value("reply_to", "replyTo")), "topic_id": _id("top", config.value("topic_id", "topicId")),
            "transactional": {True: "true", False: "false"}.get(said, "") if isinstance(said, bool) else "", "tags": _listed(config.value("tags"))}


def _email_config(given: Fields) -> dict[str, Any]:
    reply_to = _parts(given["reply_to"])
    return _some({**given, "reply_to": reply_to[0] if len(reply_to) == 1 else reply_to, "tags": _parts(given["tags"]),
                  "transactional": {"true": True, "false": False}.get(given["transactional"])})


# Waits.


def _wait(config: Config) -> dict[str, str]:
    how = "event" if config.has("event", "event_name", "eventName") else "until" if config.has("until", "property") else "delay"
    amount = config.given if config.has("amount") else config.value("delay", "duration")
    return {"how": how, "delay": _span(amount), "until": _word(config.value("until", "property")), "offset": _span(config.value("offset")),
            "missing": _word(config.value("missing")) or "exit", "event": _word(config.value("event", "event_name", "eventName")),
            "timeout": _span(config.value("timeout"))}


def _wait_config(given: Fields) -> dict[str, Any]:
    names = {"event": ("event", "timeout"), "until": ("until", "offset", "missing")}.get(given["how"], ("delay",))
    return _some({name: given[name] for name in names if (name, given[name]) != ("missing", "exit")})


# Calls.


def _call(config: Config) -> dict[str, str]:
    headers, body = config.value("headers"), config.value("body")
    told = "\n".join(f"{name}: {_word(value)}" for name, value in headers.items()) if isinstance(headers, Mapping) else ""
    return {"url": _word(config.value("url")), "method": (_word(config.value("method")) or "post").lower(), "headers": told,
            "body": "" if body is None else orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()}


def _call_config(given: Fields) -> dict[str, Any]:
    try:
        body = orjson.loads(given["body"]) if given["body"] else None
    except orjson.JSONDecodeError as error:
        raise Invalid("body", f"body is no JSON: {error}") from None
    return _some({**given, "headers": lines(given["headers"], ":", "headers"), "body": body})


# Changes of the contact.

_NAMES = {"first_name": ("first_name", "firstName"), "last_name": ("last_name", "lastName")}
_PROPERTIES = ("properties", "data", "customFields")


def _change(config: Config) -> dict[str, str]:
    held = config.value("set", "updates")
    there = held if isinstance(held, Mapping) else {name: config.given[name] for name in ("first_name", "last_name", "properties") if name in config.given}
    nested = next((there[name] for name in _PROPERTIES if isinstance(there.get(name), Mapping)), {})
    known = {spelled for names in _NAMES.values() for spelled in names} | set(_PROPERTIES)
    loose = {name.removeprefix("data.").removeprefix("properties."): value for name, value in there.items() if name not in known}
    topics = config.value("topics")
    said = {_id("top", name): wanted for name, wanted in topics.items()} if isinstance(topics, Mapping) else {}
    return {**{name: _word(next((there[each] for each in names if each in there), "")) for name, names in _NAMES.items()},
            "properties": "\n".join(f"{name} = {_shown(value)}" for name, value in {**loose, **nested}.items()),
            "add_tags": _listed(config.value("add_tags")), "remove_tags": _listed(config.value("remove_tags")),
            "subscription": _word(config.value("subscription", "subscription_action", "subscriptionAction")) or "none",
            "subscribe": ",".join(name for name, wanted in said.items() if wanted is True),
            "unsubscribe": ",".join(name for name, wanted in said.items() if wanted is False),
            "add_to_segment": _id("seg", config.value("add_to_segment")), "remove_from_segment": _id("seg", config.value("remove_from_segment"))}


def _change_config(given: Fields) -> dict[str, Any]:
    properties = {name: _value(value) for name, value in lines(given["properties"], "=", "properties").items()}
    fields = _some({"first_name": given["first_name"], "last_name": given["last_name"], "properties": properties})
    topics = {**dict.fromkeys(_parts(given["subscribe"]), True), **dict.fromkeys(_parts(given["unsubscribe"]), False)}
    return _some({"set": fields, "add_tags": _parts(given["add_tags"]), "remove_tags": _parts(given["remove_tags"]), "topics": topics,
                  "subscription": "" if given["subscription"] == "none" else given["subscription"], "add_to_segment": given["add_to_segment"],
                  "remove_from_segment": given["remove_from_segment"]})


FORMS: dict[str, Form] = {
    "send_email": Form(_email, _email_config, frozenset({"template_id", "templateId", "subject", "html", "text", "from", "sender", "reply_to", "replyTo",
                                                         "topic_id", "topicId", "transactional", "tags"})),
    "wait": Form(_wait, _wait_config, frozenset({"delay", "duration", "amount", "unit", "until", "property", "offset", "missing", "event", "event_name",
                                                 "eventName", "timeout"})),
    "webhook": Form(_call, _call_config, frozenset({"url", "method", "headers", "body"})),
    "update_contact": Form(_change, _change_config, frozenset({
        "set", "updates", "first_name", "last_name", "properties", "add_tags", "remove_tags", "subscription", "subscription_action", "subscriptionAction",
        "topics", "add_to_segment", "remove_from_segment"})),
    "exit": Form(lambda config: {"reason": _word(config.value("reason"))}, _some, frozenset({"reason"})),  # type: ignore[arg-type]
}


# What begins a workflow.


def _begins(config: Config) -> dict[str, str]:
    everyone = config.value("all_contacts") is True
    return {"event": _word(config.value("event", "event_name", "eventName")), "property": _word(config.value("property", "property_name", "field")),
            **{name: _shown(config.given[name]) if name in config.given else "" for name in ("from", "to")},
            "segment_id": _id("seg", config.value("segment_id", "segmentId")), "whom": "all" if everyone else "",
            **{name: _word(config.value(name)) for name in ("cron", "timezone", "at", "start")}, "every": _span(config.value("every"))}


def _begins_config(given: Fields) -> dict[str, Any]:
    compared = {name: _value(given[name]) for name in ("from", "to") if given[name]}
    return _some({**{name: given[name] for name in ("event", "property", "segment_id", "cron", "timezone", "at", "start", "every")}, **compared,
                  "all_contacts": True if given["whom"] == "all" else None})


BEGINS = Form(_begins, _begins_config, frozenset({
    "event", "event_name", "eventName", "property", "property_name", "field", "from", "to", "segment_id", "segmentId", "all_contacts", "cron", "timezone", "at",
    "start", "every"}))
OF_TRIGGER = {  # the fields that each trigger has
    "custom": ("event",), "property.changed": ("property", "from", "to"), "segment.entry": ("segment_id",), "segment.exit": ("segment_id",),
    "schedule": ("cron", "every", "at", "start", "timezone", "segment_id", "whom"),
}
