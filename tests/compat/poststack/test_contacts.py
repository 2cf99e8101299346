"""Contacts and what they belong to, segments, topics and suppressions, as the SDK has them."""


from poststack import types

from tests.compat.poststack import EMAIL, RULES, meta, refused


def test_contacts(live, alice):
    made = types.Contact.model_validate(alice)
    assert made.public_id.startswith("con_")
    assert (made.first_name, made.properties, made.unsubscribed) == ("Alice", {"plan": "pro"}, False)
    for found in (live.contacts.get(made.public_id), live.contacts.get_by_email("Alice@Example.com"), live.contacts.get(str(made.id))):
        assert found["contact"] == alice
    changed = live.contacts.update(made.public_id, {"last_name": "Smith", "properties": {"city": "Bern"}})["contact"]
    assert types.Contact.model_validate(changed).properties == {"plan": "pro", "city": "Bern"}
    left = live.contacts.unsubscribe(made.public_id)["contact"]
    assert types.Contact.model_validate(left).unsubscribed is True
    found = live.contacts.list({"search": "alice", "unsubscribed": True})
    assert (meta(found).total, types.Contact.model_validate(found["data"][0]).public_id) == (1, made.public_id)
    assert live.contacts.delete(made.public_id)["success"] is True
    assert refused(live.contacts.get, made.public_id).status_code == 404


def test_a_second_contact_of_an_address_is_a_conflict(live, alice):
    error = refused(live.contacts.create, {"email": "ALICE@example.com"})
    assert (error.status_code, error.error) == (409, "Contact already exists")


def test_import_and_export(live, segment):
    carol = live.contacts.create({"email": "carol@[127.0.0.1]", "first_name": "Carol", "properties": {"plan": "pro"}})["contact"]
    told = types.ImportContactsResult.model_validate(live.contacts.import_(
        {"contacts": [{"email": "bob@[127.0.0.1]"}, {"email": "carol@[127.0.0.1]", "first_name": "Eve"}, {"email": "nonsense"}]}))
    assert (told.imported, told.skipped, len(told.errors)) == (1, 1, 1)
    assert told.errors[0].startswith("nonsense: ")
    assert live.contacts.get(carol["publicId"])["contact"]["firstName"] == "Carol"
    everybody, some = live.contacts.export_csv(), live.contacts.export_csv(segment_id=segment["publicId"])
    assert everybody.startswith("email,first_name")
    assert (len(everybody.splitlines()), len(some.splitlines())) == (3, 2)
    assert refused(live.contacts.export_csv, segment_id="seg_0000000000000").status_code == 404


def test_properties(live, alice):
    made = live.contact_properties.create({"name": "plan", "label": "Plan", "type": "select", "options": ["pro", "free"]})["property"]
    assert types.ContactProperty.model_validate(made).options == ["pro", "free"]
    assert live.contact_properties.update(made["id"], {"label": "Tariff"})["property"]["label"] == "Tariff"
    assert [types.ContactProperty.model_validate(each).id for each in live.contact_properties.list()["properties"]] == [made["id"]]
    assert live.contact_properties.option_usage(made["id"])["usage"] == {"pro": 1, "free": 0}
    assert live.contact_properties.delete(made["id"])["success"] is True


def test_dynamic_segments(live, alice, segment):
    made = types.Segment.model_validate(segment)
    assert (made.public_id[:4], made.contact_count, segment["rules"]) == ("seg_", 1, RULES)
    assert types.SegmentPreviewResult.model_validate(live.segments.preview_rules({"rules": RULES})).count == 1
    shown = live.segments.get(made.public_id)["segment"]
    assert [types.Contact.model_validate(each | {"properties": None}).public_id for each in shown["contacts"]] == [alice["publicId"]]
    members = live.segments.members(made.public_id)
    assert (members["data"][0]["publicId"], meta(members).per_page) == (alice["publicId"], 50)
    assert live.segments.update(made.public_id, {"name": "Professionals"})["segment"]["name"] == "Professionals"
    assert [types.Segment.model_validate(each).name for each in live.segments.list()["segments"]] == ["Professionals"]
    assert live.segments.delete(made.public_id)["success"] is True


def test_manual_segments(live, alice):
    made = live.segments.create({"name": "Testers"})["segment"]
    assert made["rules"] is None
    assert live.segments.add_contacts(made["publicId"], {"contact_ids": [alice["publicId"]]}) == {"added": 1}
    assert live.segments.add_contacts(made["publicId"], {"contact_ids": ["con_0000000000000", "con_x", alice["publicId"]]}) == {"added": 0}
    assert refused(live.segments.add_contacts, made["publicId"], {"contact_ids": ["con_0000000000000"]}).status_code == 400
    assert live.segments.growth(made["publicId"], 7)["daily"][-1]["members"] == 1
    assert live.segments.remove_contact(made["publicId"], alice["publicId"])["success"] is True


def test_a_list_that_is_never_paged_has_all_its_rows(live):
    for number in range(101):
        live.segments.create({"name": f"Segment {number}"})
    assert len(live.segments.list()["segments"]) == 101


def test_topics(live, alice, topic):
    made = types.SubscriptionTopic.model_validate(topic)
    assert [types.SubscriptionTopic.model_validate(each).id for each in live.subscription_topics.list()["topics"]] == [made.id]
    assert live.subscription_topics.update(topic["publicId"], {"description": "Monthly"})["topic"]["description"] == "Monthly"
    assert live.subscription_topics.get_contact_subscriptions(alice["publicId"]) == {"subscriptions": []}
    told = live.subscription_topics.unsubscribe(alice["publicId"], topic["publicId"])["subscription"]
    assert (types.ContactSubscription.model_validate(told).topic_id, told["subscribed"]) == (made.id, False)
    found = live.subscription_topics.get(topic["publicId"])
    assert (found["topic"]["name"], found["subscriberCount"], found["unsubscribedCount"]) == ("News", 0, 1)
    gone = live.subscription_topics.list_subscribers(topic["publicId"], {"subscribed": "false"})
    assert (gone["data"][0]["contactPublicId"], gone["data"][0]["contactId"], meta(gone).per_page) == (alice["publicId"], alice["id"], 50)
    told = live.subscription_topics.subscribe(alice["publicId"], topic["publicId"])["subscription"]
    assert types.ContactSubscription.model_validate(told).contact_id == alice["id"]
    assert live.subscription_topics.get_contact_subscriptions(alice["publicId"])["subscriptions"][0]["subscribed"] is True
    assert live.subscription_topics.delete(topic["publicId"])["success"] is True


def test_suppressions(live):
    assert live.suppressions.add({"email": "gone@example.com", "reason": "hard_bounce"}) == {"success": True}
    found = live.suppressions.list()
    row = types.Suppression.model_validate(found["data"][0])
    assert (row.email, row.reason, meta(found).total) == ("gone@example.com", "hard_bounce", 1)
    assert refused(live.emails.send, {**EMAIL, "to": ["gone@example.com"]}).status_code == 422
    assert live.suppressions.remove("gone@example.com")["success"] is True
    assert live.suppressions.list()["data"] == []
