"""/subscription-topics: streams of mail that people can leave one by one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import AliasChoices, Field

from relay.api.contacts import brief, by, done, number, subscription
from relay.api.core import Core, Input, Json, Owner, Paging, Relay, known, listed, resource
from relay.audience import contacts as acts
from relay.clock import iso
from relay.errors import NotFound
from relay.mail.message import Principal
from relay.store.audience import contacts, topics
from relay.store.audience.contacts import Contact
from relay.store.audience.topics import Topic

router = resource("Subscription topics")


class TopicInput(Input):
    name: str = Field(min_length=1, max_length=128)
    description: str | None = Field(None, max_length=500)


class TopicChange(Input):
    name: str | None = Field(None, min_length=1, max_length=128)
    description: str | None = Field(None, max_length=500)


class SubscriptionInput(Input):
    topic_id: str


class SubscriberInput(Input):
    contact_id: str = Field(validation_alias=AliasChoices("contact_id", "contactId"))


@router.get("/subscription-topics")
async def list_topics(here: Core, who: Owner, page: Paging) -> Any:
    """List topics, newest first."""
    return listed("topics", await here.store.read(topics.paged, who.project, page), page, shown)


@router.post("/subscription-topics", status_code=201)
async def create_topic(here: Core, who: Owner, given: TopicInput) -> Any:
    """Create a topic. Every contact is subscribed to it until they say otherwise."""
    made = Topic(here.maker.next(), who.project, given.name, given.description or "", here.clock.now())
    return shown(await here.store.write(topics.add, made))


@router.get("/subscription-topics/{topic_id}")
async def get_topic(here: Core, who: Owner, topic_id: str) -> Any:
    """A topic, how many contacts get its mail, and how many opted out."""
    found = await here.store.read(topics.get, who.project, _id(topic_id))
    able, gone = await here.store.read(topics.counts, found)
    return {**shown(found), "subscriber_count": able, "unsubscribed_count": gone}


@router.patch("/subscription-topics/{topic_id}")
async def change_topic(here: Core, who: Owner, topic_id: str, given: TopicChange) -> Any:
    """Change name or description."""
    changes = {name: getattr(given, name) or "" for name in given.model_fields_set if name == "description" or getattr(given, name)}
    return shown(await here.store.write(topics.change, who.project, _id(topic_id), changes))


@router.delete("/subscription-topics/{topic_id}")
async def delete_topic(here: Core, who: Owner, topic_id: str) -> Any:
    """Delete a topic; contacts stay."""
    await here.store.write(acts.remove_topic, who.project, _id(topic_id), here.clock.now())
    return {"deleted": True}


@router.get("/subscription-topics/{topic_id}/subscribers")
async def list_subscribers(
    here: Core, who: Owner, topic_id: str, page: Paging,
    subscribed: Annotated[bool, Query(description="false: those who opted out")] = True,
) -> Any:
    """The contacts that get a topic's mail, newest first."""
    found = await here.store.read(topics.get, who.project, _id(topic_id))
    return listed("subscribers", await here.store.read(topics.subscribers, found, page, subscribed), page, _subscriber)


@router.post("/subscription-topics/{topic_id}/subscribers")
async def add_subscriber(here: Core, who: Owner, request: Request, topic_id: str, given: SubscriberInput) -> Any:
    """The contact wants mail of the topic."""
    return await _said(here, who, request, given.contact_id, topic_id, True)


@router.delete("/subscription-topics/{topic_id}/subscribers/{contact_id}")
async def remove_subscriber(here: Core, who: Owner, request: Request, topic_id: str, contact_id: str) -> Any:
    """The contact wants no more mail of the topic."""
    return await _said(here, who, request, contact_id, topic_id, False)


@router.get("/subscription-topics/contacts/{contact_id}/subscriptions")
async def list_subscriptions(here: Core, who: Owner, contact_id: str) -> Any:
    """What a contact says of each topic."""
    contact = await here.store.read(contacts.get, who.project, number(contact_id))
    return {"subscriptions": [subscription(each) for each in await here.store.read(topics.of_contact, contact)]}


@router.post("/subscription-topics/contacts/{contact_id}/subscriptions")
async def subscribe(here: Core, who: Owner, request: Request, contact_id: str, given: SubscriptionInput) -> Any:
    """The contact wants mail of a topic."""
    return Json(await _said(here, who, request, contact_id, given.topic_id, True), 201)


@router.delete("/subscription-topics/contacts/{contact_id}/subscriptions/{topic_id}")
async def unsubscribe(here: Core, who: Owner, request: Request, contact_id: str, topic_id: str) -> Any:
    """The contact opts out of a topic; what they get otherwise does not change."""
    return await _said(here, who, request, contact_id, topic_id, False)


async def _said(here: Relay, who: Principal, request: Request, contact_id: str, topic_id: str, wanted: bool) -> dict[str, Any]:
    found, stopped = await here.store.write(acts.subscribe, number(contact_id), _id(topic_id), wanted, by(here, who, request))
    done(here, stopped)
    return subscription(found)


def _id(topic_id: str) -> int:
    if not topic_id.startswith("top_"):
        raise NotFound("Topic not found")
    return known("top", topic_id, "Topic")


def _subscriber(contact: Contact) -> dict[str, Any]:
    found = brief(contact)
    return {"contact_id": found.pop("id"), **found}


def shown(each: Topic) -> dict[str, Any]:
    return {"id": each.public_id, "name": each.name, "description": each.description, "created_at": iso(each.created_at)}
