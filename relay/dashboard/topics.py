"""Topics: streams of mail that people leave one by one; made, renamed, and who gets their mail and who opted out."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import topics
from relay.api.core import known
from relay.api.topics import SubscriberInput, TopicChange, TopicInput
from relay.audience import values
from relay.dashboard.visit import Visit, get, post
from relay.errors import Invalid, NotFound, RelayError
from relay.store.audience import contacts
from relay.store.audience import topics as stored

PATH = "/dashboard/topics"


async def every(visit: Visit, error: RelayError | None = None) -> Response:
    return visit.show("topics/list.html", error=error, **await topics.list_topics(visit.here, visit.who, visit.page()))


async def create(visit: Visit) -> Response:
    try:
        made = await topics.create_topic(visit.here, visit.who, TopicInput(name=visit.given("name"), description=visit.given("description")))
    except (RelayError, ValidationError) as error:
        return await every(visit, visit.wrong(error))
    return visit.go(f"{PATH}/{made['id']}", "The topic is there; everybody gets its mail until they say otherwise.")


async def one(visit: Visit, error: RelayError | None = None) -> Response:
    """Who gets its mail, or with `show=out` who opted out."""
    name, out = visit.number("topic_id"), visit.asked("show") == "out"
    found = await visit.here.store.read(stored.get, visit.who.project, known("top", name, "Topic"))
    later = await visit.later()
    people = {} if later else await topics.list_subscribers(visit.here, visit.who, name, visit.page(), subscribed=not out)
    return visit.show("topics/one.html", error=error, topic=topics.shown(found), out=out, later=later, **people)


async def change(visit: Visit) -> Response:
    name = visit.number("topic_id")
    try:
        await topics.change_topic(visit.here, visit.who, name, TopicChange(name=visit.given("name"), description=visit.given("description")))
    except NotFound:
        raise
    except (RelayError, ValidationError) as error:
        return await one(visit, visit.wrong(error))
    return visit.go(f"{PATH}/{name}", "Saved.")


async def subscriber(visit: Visit) -> Response:
    """A contact, by id or address, wants mail of the topic or wants none, as `subscribed` says."""
    name, wanted = visit.number("topic_id"), visit.given("subscribed") == "1"
    try:
        contact = visit.given("contact_id") or await _contact(visit)
    except Invalid as error:
        return await one(visit, error)
    if wanted:
        await topics.add_subscriber(visit.here, visit.who, visit.request, name, SubscriberInput(contact_id=contact))
    else:
        await topics.remove_subscriber(visit.here, visit.who, visit.request, name, contact)
    return visit.go(f"{PATH}/{name}" + ("?show=out" if visit.given("show") == "out" else ""), "Gets its mail again." if wanted else "Gets its mail no more.")


async def _contact(visit: Visit) -> str:
    found = await visit.here.store.read(contacts.by_key, visit.who.project, values.key(visit.given("email")))
    if found is None:
        raise Invalid("email", f"no contact has the address {visit.given('email')[:80]}")
    return found.public_id


async def delete(visit: Visit) -> Response:
    await topics.delete_topic(visit.here, visit.who, visit.number("topic_id"))
    return visit.go(PATH, "The topic is deleted; contacts stay.")


ROUTES = (
    get("/topics", every), post("/topics", create), get("/topics/{topic_id}", one), post("/topics/{topic_id}", change),
    post("/topics/{topic_id}/subscriber", subscriber), post("/topics/{topic_id}/delete", delete),
)
