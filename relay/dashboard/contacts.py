"""Contacts: found by address or name, added, and everything about one of them on one page: fields, tags, properties, consent with its history, topics."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from relay.api import contacts, properties
from relay.api.contacts import ContactInput, by, changed, done, number
from relay.api.core import known
from relay.audience import contacts as acts
from relay.audience.contacts import By
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, RelayError
from relay.store.audience import topics
from relay.store.pages import Page

SEARCH = 200  # characters
ENTRIES = Page(1, 50)  # of the history that a contact's page shows
STATES = (("", "any"), ("subscribed", "subscribed"), ("unsubscribed", "unsubscribed"))
KINDS = (("text", "text"), ("number", "number"), ("boolean", "true or false"), ("date", "date"), ("json", "JSON"))
OF_PROPERTY = "property."  # before the name of a property in a form


async def every(visit: Visit) -> Response:
    """The list, newest first."""
    search, state = visit.asked("search")[:SEARCH], visit.asked("state")
    wanted = {"subscribed": False, "unsubscribed": True}.get(state)
    if (search or wanted is not None) and await visit.later():
        return visit.show("contacts/list.html", later=True, search=search, state=state, states=STATES)
    found = await contacts.list_contacts(visit.here, visit.who, visit.page(), search=search or None, segment_id=None, audience_id=None, unsubscribed=wanted)
    return visit.show("contacts/list.html", **found, later=False, search=search, state=state, states=STATES)


async def new(visit: Visit) -> Response:
    return visit.show("contacts/new.html")


async def add(visit: Visit) -> Response:
    try:
        given = ContactInput(email=visit.given("email"), first_name=visit.given("first_name"), last_name=visit.given("last_name"),
                             tags=_tags(visit), unsubscribed=not visit.ticked("subscribed"))
        made = changed(visit.here, await visit.here.store.write(acts.create, given.given(), _by(visit)))
    except (RelayError, ValidationError) as error:
        return visit.show("contacts/new.html", error=visit.wrong(error))
    return visit.go(f"/dashboard/contacts/{made['id']}", f"{made['email']} is a contact now.")


async def one(visit: Visit, error: RelayError | None = None) -> Response:
    """Everything about a contact."""
    name = visit.number("contact_id")
    contact = await contacts.get_contact(visit.here, visit.who, name)
    typed = {each["name"]: each for each in (await properties.list_properties(visit.here, visit.who))["properties"]}
    rows = [(each, _written(contact["properties"].get(each)), typed.get(each, {})) for each in sorted({*typed, *contact["properties"]})]
    history = await contacts.get_history(visit.here, visit.who, name, ENTRIES)
    return visit.show(
        "contacts/one.html", error=error, contact=contact, rows=rows, kinds=KINDS, history=history["history"],
        more=history["pagination"]["total"] > ENTRIES.size,
        audiences=(await contacts.get_audiences(visit.here, visit.who, name))["audiences"],
        topics=(await contacts.get_topics(visit.here, visit.who, name))["subscriptions"])


async def save(visit: Visit) -> Response:
    """Address and names."""
    return await _change(visit, {name: visit.given(name) for name in ("email", "first_name", "last_name")}, "Saved.")


async def tag(visit: Visit) -> Response:
    return await _change(visit, {"add_tags": _tags(visit)}, "The tags are there.")


async def untag(visit: Visit) -> Response:
    return await _change(visit, {"remove_tags": [visit.given("tag")]}, "The tag is gone.")


async def state(visit: Visit) -> Response:
    """Subscribe or unsubscribe, as `unsubscribed` says."""
    gone = visit.given("unsubscribed") == "1"
    return await _change(visit, {"unsubscribed": gone}, "Unsubscribed: no more marketing mail." if gone else "Subscribed again.")


async def describe(visit: Visit) -> Response:
    """Properties: a value that is emptied goes, and `name`, `kind` and `value` add one."""
    try:
        given = await _described(visit)
    except Invalid as error:
        return await one(visit, error)
    return await _change(visit, {"properties": given}, "The properties are saved.")


async def choose(visit: Visit) -> Response:
    """Whether the contact gets a topic's mail."""
    topic = known("top", visit.given("topic_id"), "Topic")
    contact, wanted = visit.number("contact_id"), visit.given("subscribed") == "1"
    _, stopped = await visit.here.store.write(acts.subscribe, number(contact), topic, wanted, _by(visit))
    done(visit.here, stopped)
    name = (await visit.here.store.read(topics.get, visit.who.project, topic)).name
    return visit.go(f"/dashboard/contacts/{contact}", f"{'Gets' if wanted else 'No longer gets'} mail of {name}.")


async def delete(visit: Visit) -> Response:
    await contacts.delete_contact(visit.here, visit.who, visit.request, visit.number("contact_id"))
    return visit.go("/dashboard/contacts", "The contact is deleted.")


async def _change(visit: Visit, given: dict[str, Any], said: str) -> Response:
    """The contact with these fields changed; what is wrong with them is said on its page."""
    name = visit.number("contact_id")
    try:
        wanted = ContactInput(**given).given()
        changed(visit.here, await visit.here.store.write(acts.change, number(name), wanted, _by(visit)))
    except (Invalid, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    except RelayError as error:
        if error.text != acts.EXISTS:
            raise
        return await one(visit, error)
    return visit.go(f"/dashboard/contacts/{name}", said)


def _by(visit: Visit) -> By:
    return by(visit.here, visit.who, visit.request, "dashboard")


def _tags(visit: Visit) -> list[str]:
    """Tags as people write them: with commas between."""
    return [tag for tag in map(str.strip, visit.given("tags").split(",")) if tag]


async def _described(visit: Visit) -> dict[str, Any]:
    """The properties of the form that are other than before; raises Invalid."""
    old = (await contacts.get_contact(visit.here, visit.who, visit.number("contact_id")))["properties"]
    typed = {each["name"]: each["type"] for each in (await properties.list_properties(visit.here, visit.who))["properties"]}
    found: dict[str, Any] = {}
    for field in visit.form:
        name = field.removeprefix(OF_PROPERTY)
        text = visit.given(field)
        if name != field and _lines(text) != _lines(_written(old.get(name))):
            found[name] = _read(field, typed.get(name) or _kind(old.get(name)), text)
    name, text = visit.given("name"), visit.given("value")
    if text and not name:
        raise Invalid("name", "the new property needs a name")
    if name:
        found[name] = _read("value", typed.get(name) or visit.given("kind"), text)
    return found


def _kind(value: Any) -> str:
    """The kind of a property that has this value."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else "json"


def _written(value: Any) -> str:
    """A value as a person writes it into a field."""
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def _lines(text: str) -> list[str]:
    """What a browser keeps of a text in a field: the ends of lines become CRLF."""
    return text.strip().splitlines()


def _read(field: str, kind: str, text: str) -> Any:
    """The value that a person meant by this text, None for nothing; raises Invalid."""
    if not text:
        return None
    if kind not in ("number", "boolean", "json"):
        return text
    try:
        value = orjson.loads(text.lower() if kind == "boolean" else text)
    except orjson.JSONDecodeError:
        value = None
    if value is None or kind not in (_kind(value), "json"):
        raise Invalid(field, f"{field.removeprefix(OF_PROPERTY)} is {dict(KINDS)[kind] if kind != 'number' else 'a number'}, which {text[:80]!r} is not")
    return value


ROUTES = (
    get("/contacts", every), get("/contacts/new", new), post("/contacts/new", add), get("/contacts/{contact_id}", one), post("/contacts/{contact_id}", save),
    post("/contacts/{contact_id}/tags", tag), post("/contacts/{contact_id}/untag", untag), post("/contacts/{contact_id}/state", state),
    post("/contacts/{contact_id}/properties", describe), post("/contacts/{contact_id}/topics", choose), post("/contacts/{contact_id}/delete", delete),
)
