"""Every method of the official SDK against a running relay: what it answers, the SDK's own typed models take."""

import inspect

import pytest
from poststack import PostStackError, types

from relay.api.compat.poststack.table import ROUTES
from relay.mail import ids
from relay.store.inbound import reports as kept
from relay.store.inbound.reports import Kept, Source
from tests.compat.conftest import client
from tests.compat.hostile import faults

EMAIL = {"from": "PostStack <you@yourdomain.com>", "to": ["user@example.com"], "subject": "Hello", "html": "<p>Hi</p>", "tags": ["welcome"]}
LATER = {**EMAIL, "scheduled_at": "2027-03-25T09:00:00.000Z"}
RULES = {"operator": "and", "conditions": [{"field": "properties.plan", "comparator": "equals", "value": "pro"}]}


def meta(found):
    return types.PaginationMeta.model_validate(found["meta"])


@pytest.fixture
def alice(live):
    return live.contacts.create({"email": "alice@example.com", "first_name": "Alice", "properties": {"plan": "pro"}})["contact"]


@pytest.fixture
def segment(live):
    return live.segments.create({"name": "Pros", "rules": RULES})["segment"]


@pytest.fixture
def topic(live):
    return live.subscription_topics.create({"name": "News"})["topic"]


@pytest.fixture
def template(live):
    return live.templates.create({"name": "Welcome", "subject": "Hello {{ name }}", "html": "<p>Hi {{ name }}</p>"})["template"]


@pytest.fixture
def webhook(live):
    return live.webhooks.create({"url": "https://hooks.example.com/in", "events": ["email.delivered"]})["webhook"]


# Emails.


def test_send_and_read(live):
    sent = live.emails.send(EMAIL)
    found = types.Email.model_validate(live.emails.get(sent["id"])["email"])
    assert (found.public_id, found.id) == (sent["id"], ids.internal(sent["id"]))
    assert (found.from_address, found.from_name, found.to_addresses) == ("you@yourdomain.com", "PostStack", ["user@example.com"])
    assert (found.subject, found.tags, found.test_mode) == ("Hello", ["welcome"], False)
    assert found.events
    assert found.events[0].type == "queued"


def test_batch(live):
    told = live.emails.batch({"emails": [EMAIL, {**EMAIL, "to": []}]})["data"]
    assert told[0]["id"].startswith("em_")
    assert "to" in told[1]["error"]


def test_a_replay_is_the_first_answer(live):
    first, again = (live.emails.send({**EMAIL, "idempotency_key": "order-1"}) for _ in range(2))
    assert (again["id"], again["replayed"]) == (first["id"], True)


def test_list_emails(live):
    sent = {live.emails.send(EMAIL)["id"] for _ in range(3)}
    found = live.emails.list({"per_page": 2})
    rows = [types.Email.model_validate(row) for row in found["data"]]
    assert (len(rows), meta(found).total, meta(found).total_pages) == (2, 3, 2)
    assert {row.public_id for row in rows} < sent
    assert [row["publicId"] for row in live.emails.list({"to": "user@example.com", "tag": "welcome", "per_page": 100})["data"]] == sorted(sent, reverse=True)


@pytest.mark.parametrize(("query", "found"), [
    ({"to": "USER@"}, ["Hello", "Invoice 7"]), ({"to": "user@example.com"}, ["Hello", "Invoice 7"]), ({"to": "example.org"}, ["100% off"]),
    ({"from": "billing"}, ["Invoice 7"]), ({"subject": "invoice"}, ["Invoice 7"]), ({"subject": "0%"}, ["100% off"]), ({"subject": "%"}, ["100% off"]),
    ({"from": "yourdomain", "subject": "hel"}, ["Hello"]), ({"subject": "nothing"}, []), ({"subject": "hello", "status": "bounced"}, []),
])
def test_emails_by_parts_of_texts(live, query, found):
    for change in ({}, {"subject": "Invoice 7", "from": "billing@yourdomain.com"}, {"subject": "100% off", "to": ["someone@example.org"]}):
        live.emails.send({**EMAIL, **change})
    answer = live.emails.list(query)
    assert (sorted(row["subject"] for row in answer["data"]), meta(answer).total) == (sorted(found), len(found))


@pytest.mark.parametrize("query", [{"provider": "gmail"}, {"country": "DK"}, {"device": "mobile"}, {"subject": "x", "page": 0}, {"to": "x" * 201}])
def test_filters_that_mean_nothing_are_refused(live, query):
    assert refused(live.emails.list, query).status_code == 422


@pytest.mark.parametrize("by", ["id", "publicId"])
def test_emails_of_a_domain(live, by):
    domain = live.domains.create({"name": "yourdomain.example"})["domain"]
    live.emails.send(EMAIL)
    sent = live.emails.send({**EMAIL, "from": "you@yourdomain.example"})
    assert [row["publicId"] for row in live.emails.list({"domain_id": domain[by]})["data"]] == [sent["id"]]


def test_what_the_enumerations_do_not_have_is_mapped_and_named(live):
    sent = live.emails.send(LATER)
    shown = live.emails.get(sent["id"])["email"]
    assert (shown["status"], shown["relayStatus"]) == ("queued", "scheduled")
    assert types.Email.model_validate(shown).scheduled_at == "2027-03-25T09:00:00.000Z"
    assert live.emails.reschedule(sent["id"], "2027-04-01T09:00:00Z")["success"] is True
    assert live.emails.cancel(sent["id"])["success"] is True
    shown = live.emails.get(sent["id"])["email"]
    assert (types.Email.model_validate(shown).status, shown["relayStatus"]) == ("failed", "cancelled")


def test_events_and_insights(live):
    sent = live.emails.send(EMAIL)
    events = live.emails.get_events(sent["id"])["events"]
    assert next(types.EmailEvent.model_validate(each).type for each in events) == "queued"
    assert {"eventType", "createdAt", "metadata"} <= events[0].keys()
    for warning in live.emails.get_insights(sent["id"])["warnings"]:
        assert types.EmailInsightWarning.model_validate(warning).code == warning["type"]


def test_previews(live):
    shown = live.emails.preview({**EMAIL, "to": ["user@example.com"]})
    assert (shown["rendered_subject"], shown["spam"]["skipped"]) == ("Hello", True)
    assert live.emails.spam_preview({**EMAIL, "to": ["user@example.com"]})["skipped"] is True


# Contacts.


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


# Segments, topics, suppressions.


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


# Templates, webhooks, domains, keys.


def test_templates(live, template):
    made = types.Template.model_validate(template)
    assert (made.public_id[:4], made.html_body, made.variables, made.published) == ("tpl_", "<p>Hi {{ name }}</p>", ["name"], False)
    assert live.templates.render(made.public_id, {"name": "Zoë"})["subject"] == "Hello Zoë"
    assert types.Template.model_validate(live.templates.publish(made.public_id)["template"]).published is True
    assert live.emails.send({**EMAIL, "subject": None, "html": None, "template_id": made.public_id, "variables": {"name": "Zoë"}})["id"]
    assert live.templates.update(made.public_id, {"subject": "Hi"})["template"]["version"] == 2
    assert types.Template.model_validate(live.templates.unpublish(made.public_id)["template"]).published is False
    copy = types.Template.model_validate(live.templates.duplicate(made.public_id)["template"])
    assert (copy.name, copy.public_id != made.public_id) == ("Welcome (copy)", True)
    found = live.templates.list({"search": "copy"})
    assert (meta(found).total, found["data"][0]["publicId"]) == (1, copy.public_id)
    assert live.templates.get(copy.public_id)["template"]["id"] == copy.id
    assert live.templates.delete(copy.public_id)["success"] is True


def test_signup_forms(live, stranger, tenant):
    segment, topic = live.segments.create({"name": "List"})["segment"], live.subscription_topics.create({"name": "News"})["topic"]
    fields = [{"name": "email", "type": "email", "label": "Email", "required": True},
              {"name": "plan", "type": "select", "label": "Plan", "options": ["a", "b"]}]
    given = {"name": "Join", "segment_id": segment["publicId"], "topic_id": topic["publicId"], "fields": fields, "redirect_url": "https://example.com/ok"}
    made = types.SignupForm.model_validate(live.signup_forms.create(given)["signupForm"])
    assert (made.public_id[:3], made.segment_id, made.topic_id, made.submission_count, made.active) == ("sf_", segment["id"], topic["id"], 0, True)
    told = live.signup_forms.submit(made.public_id, {"email": "visitor@example.com", "plan": "a"})
    assert (told["success"], told["redirect_url"]) == (True, "https://example.com/ok")
    assert live.contacts.get_by_email("visitor@example.com")["contact"]["properties"] == {"plan": "a"}
    got = types.SignupForm.model_validate(live.signup_forms.get(made.public_id)["signupForm"])
    assert (got.submission_count, [field.options for field in got.fields]) == (1, [[], ["a", "b"]])
    found = live.signup_forms.list({"per_page": 5})
    assert (meta(found).total, types.SignupForm.model_validate(found["data"][0]).id) == (1, made.id)
    assert meta(stranger.signup_forms.list()).total == 0
    assert refused(stranger.signup_forms.update, made.public_id, {"active": False}).status_code == 404
    assert types.SignupForm.model_validate(live.signup_forms.update(made.public_id, {"active": False})["signupForm"]).active is False
    assert refused(live.signup_forms.submit, made.public_id, {"email": "late@example.com"}).status_code == 404
    assert live.signup_forms.delete(made.public_id)["success"] is True


def test_presets(live):
    presets = [types.TemplatePreset.model_validate(each) for each in live.templates.get_presets()["data"]]
    assert "welcome" in {each.id for each in presets}
    assert types.Template.model_validate(live.templates.use_preset("welcome")["template"]).published is False


def test_webhooks(live, webhook):
    made = types.CreateWebhookResult.model_validate(live.webhooks.create({"url": "https://hooks.example.com/two", "events": ["*"]}))
    assert made.signing_secret.startswith("whsec_")
    assert "signingSecret" not in live.webhooks.get(made.webhook.id)["webhook"]
    assert {types.Webhook.model_validate(each).id for each in live.webhooks.list()["webhooks"]} == {webhook["id"], made.webhook.id}
    assert live.webhooks.update(webhook["id"], {"enabled": False})["webhook"]["active"] is False
    rotated = types.CreateWebhookResult.model_validate(live.webhooks.rotate_secret(made.webhook.id, grace_hours=0))
    assert rotated.signing_secret != made.signing_secret
    assert rotated.webhook.previous_secret_expires_at is None
    assert live.webhooks.rotate_secret(made.webhook.id)["webhook"]["previousSecretExpiresAt"]
    assert live.webhooks.batch_replay(made.webhook.id) == {"replayed": 0, "remaining": 0}
    assert live.webhooks.delete(made.webhook.id)["success"] is True


def test_webhook_deliveries(live, tenant):
    hook = live.webhooks.create({"url": f"{tenant.served.base}/nosuch", "events": ["contact.created"]})["webhook"]
    assert live.webhooks.test(hook["id"])["status_code"] == 404
    live.contacts.create({"email": "bob@example.com"})
    path = f"/poststack/webhooks/{hook['id']}/deliveries"
    found = tenant.until(path, lambda answer: answer["deliveries"] and answer["deliveries"][0]["attempts"])
    row = types.WebhookDelivery.model_validate(found["deliveries"][0])
    assert (row.webhook_id, row.event_type, row.delivered_at, row.payload["type"]) == (hook["id"], "contact.created", None, "contact.created")
    assert live.webhooks.get_deliveries(hook["id"], {"per_page": 1})["pagination"]["perPage"] == 1
    assert live.webhooks.replay(hook["id"], row.id)["success"] is True


def test_domains(live):
    made = types.Domain.model_validate(live.domains.create({"name": "example.org", "open_tracking": True, "region": "eu-west-1"})["domain"])
    assert (made.status, made.open_tracking, made.click_tracking) == ("pending", True, False)
    assert {record.purpose for record in made.dns_records} == {"dkim", "spf", "dmarc", "return_path"}
    assert [types.Domain.model_validate(each).id for each in live.domains.list()["domains"]] == [made.id]
    changed = live.domains.update(made.id, {"click_tracking": True, "tracking_domain": "track.example.org"})["domain"]
    assert types.Domain.model_validate(changed).click_tracking is True
    assert [record["purpose"] for record in changed["dnsRecords"] if record.get("relayPurpose") == "tracking"] == ["return_path"]
    looked = live.domains.verify(made.id)
    assert (looked["queued"], types.Domain.model_validate(looked["domain"]).id) == (True, made.id)
    assert live.domains.get(made.id)["domain"]["name"] == "example.org"
    assert live.domains.delete(made.id)["success"] is True


def test_dkim_rotation(live):
    domain = live.domains.create({"name": "example.org"})["domain"]
    begun = live.domains.start_dkim_rotation(domain["id"])["rotation"]
    assert (begun["state"], begun["domainId"]) == ("pending_dns", domain["id"])
    assert begun["pendingRecordName"] == f"{begun['pendingSelector']}._domainkey.example.org"
    assert begun["pendingRecordValue"].startswith("v=DKIM1; k=rsa; p=")
    assert refused(live.domains.activate_dkim_rotation, domain["id"], force=True).status_code in (409, 503)
    assert live.domains.cancel_dkim_rotation(domain["id"])["rotation"]["state"] == "idle"


@pytest.mark.parametrize(("method", "given"), [("assign_ip", (1, 2)), ("unassign_ip", (1,)), ("get_inbox_placement", (1,))])
def test_what_only_a_platform_has_is_said_to_be_absent(live, method, given):
    error = refused(getattr(live.domains, method), *given)
    assert (error.status_code, error.code) == (404, "not_supported")


def test_dmarc(live, tenant):
    domain = live.domains.create({"name": "dmarc.example"})["domain"]
    begins = 1_767_225_600.0
    report = Kept("dmarc", 7, tenant.number, domain["id"], "r1", "Mailbox Ltd", "noreply@reporter.test", "dmarc.example", begins, begins + 86_399.0,
                  {"p": "none"}, "processed", "", begins)
    tenant.served.call(tenant.served.relay.store.write(kept.add, report, [Source("192.0.2.1", 10, 8, 8, 2), Source("192.0.2.2", 2, 0, 0, 0)]))
    found = live.domains.get_dmarc_reports(domain["id"], {"per_page": 5})
    row = types.DmarcReport.model_validate(found["reports"][0])
    assert (row.domain_id, row.org_name, row.policy_published, found["pagination"]["perPage"]) == (domain["id"], "Mailbox Ltd", {"p": "none"}, 5)
    told = live.domains.get_dmarc_stats(domain["id"], 400)
    shown = types.DmarcStats.model_validate(told)
    assert (shown.total_messages, shown.failed_messages, round(shown.pass_rate, 2), told["totals"]["dkimPassed"]) == (12, 4, 0.67, 2)
    sources = [types.DmarcSource.model_validate(each) for each in live.domains.get_dmarc_sources(domain["id"], 400)["sources"]]
    assert [(each.source_ip, each.count, each.pass_count, each.fail_count) for each in sources] == [("192.0.2.1", 10, 8, 2), ("192.0.2.2", 2, 0, 2)]


def test_email_validations(live):
    found = types.EmailValidation.model_validate(live.email_validations.validate("info+x@[127.0.0.1]"))
    assert (found.result, found.syntax_valid, found.mx_valid, found.is_role, found.risk) == ("deliverable", True, True, True, "medium")
    found = live.email_validations.validate_batch(["nonsense", "jane@mailinator.com"])["results"]
    assert [types.EmailValidation.model_validate(each).is_disposable for each in found] == [False, True]
    assert found[0]["result"] == "undeliverable"
    assert refused(live.email_validations.validate_batch, ["a@example.com"] * 101).status_code == 422


def test_keys(live):
    domain = live.domains.create({"name": "example.org"})["domain"]
    made = types.ApiKey.model_validate(live.api_keys.create({"name": "app", "permission": "sending_access", "mode": "test", "domain_id": domain["id"]}))
    assert (made.mode, made.domain_id, made.key[:8]) == ("test", domain["id"], "sk_test_")
    assert refused(live.api_keys.create, {"name": "all", "permission": "full_access"}).status_code == 403
    shown = types.ApiKey.model_validate(live.api_keys.get(made.id))
    assert (shown.key, shown.key_prefix) == (None, made.key_prefix)
    assert made.id in {types.ApiKey.model_validate(each).id for each in live.api_keys.list()["keys"]}
    rotated = types.ApiKey.model_validate(live.api_keys.rotate(made.id))
    assert (rotated.name, rotated.key != made.key) == ("app", True)
    assert live.api_keys.revoke(rotated.id)["success"] is True


# Workflows.


def test_workflows(live, template, alice):
    live.templates.publish(template["publicId"])
    made = types.Workflow.model_validate(live.workflows.create({"name": "Onboarding", "trigger_type": "manual"})["workflow"])
    assert (made.status, made.trigger_type, made.trigger_config) == ("draft", "manual", None)
    assert types.Workflow.model_validate(live.workflows.update(made.public_id, {"name": "Welcome"})["workflow"]).name == "Welcome"
    nodes = [{"public_id": "wfn_1", "type": "trigger", "config": {}, "canvas_x": 0, "canvas_y": 0},
             {"public_id": "wfn_2", "type": "wait", "config": {"delay": "3d"}, "canvas_x": 0, "canvas_y": 90},
             {"public_id": "wfn_3", "type": "send_email", "config": {"template_id": template["publicId"], "from": "you@yourdomain.com"},
              "canvas_x": 0, "canvas_y": 180}]
    edges = [{"from_public_id": "wfn_1", "to_public_id": "wfn_2", "branch": None}, {"from_public_id": "wfn_2", "to_public_id": "wfn_3", "branch": None}]
    assert live.workflows.put_graph(made.public_id, {"nodes": nodes, "edges": edges})["graph"] == {"nodes": nodes, "edges": edges}
    assert live.workflows.get_graph(made.public_id)["graph"]["edges"] == edges
    assert live.workflows.validate_graph(made.public_id)["valid"] is True
    assert refused(live.workflows.trigger, made.public_id, {"contact_id": alice["publicId"]}).status_code == 422
    assert live.workflows.activate(made.public_id)["workflow"]["status"] == "active"
    run = live.workflows.trigger(made.public_id, {"contact_id": alice["publicId"]})["run"]
    assert {"id", "workflowId", "contactId", "status", "currentNodeId", "nodesVisited", "startedAt", "completedAt"} <= set(run)
    assert (run["workflowId"], run["contactId"], run["status"], run["completedAt"]) == (made.id, alice["id"], "running", None)
    assert [types.Workflow.model_validate(each).id for each in live.workflows.list()["data"]] == [made.id]
    assert live.workflows.pause(made.public_id)["workflow"]["status"] == "paused"
    assert types.Workflow.model_validate(live.workflows.get(made.public_id)["workflow"]).status == "paused"
    assert live.workflows.delete(made.public_id)["success"] is True


def test_workflow_events(live, alice):
    made = live.workflows.create({"name": "Signed up", "trigger_type": "custom", "trigger_config": {"event": "signed_up"}})["workflow"]
    nodes = [{"public_id": "t", "type": "trigger"}, {"public_id": "x", "type": "exit"}]
    live.workflows.put_graph(made["publicId"], {"nodes": nodes, "edges": [{"from_public_id": "t", "to_public_id": "x"}]})
    live.workflows.activate(made["publicId"])
    assert live.workflows.post_event({"event": "signed_up", "contact_id": alice["publicId"]}) == {"event": "signed_up", "matched": 1}
    assert live.workflows.post_event({"event": "Signed_up", "email": alice["email"]}) == {"event": "Signed_up", "matched": 0}
    assert refused(live.workflows.post_event, {"event": "email.opened", "email": alice["email"]}).status_code == 422


# The whole dialect.


@pytest.mark.parametrize(("ask", "status", "code"), [
    pytest.param(lambda live: live.emails.get("em_0000000000000"), 404, "not_found", id="no such email"),
    pytest.param(lambda live: live.domains.get(12), 404, "not_found", id="no such number"),
    pytest.param(lambda live: live.domains.get(1 << 63), 404, "not_found", id="a number too large"),
    pytest.param(lambda live: live.contacts.get("../emails"), 404, "not_found", id="a path in an id"),
    pytest.param(lambda live: live.contacts.create({"email": "nonsense"}), 422, "validation_error", id="invalid"),
    pytest.param(lambda live: live._client.get("/mailboxes"), 404, "not_found", id="no such route yet"),
    pytest.param(lambda live: live._client.delete("/emails"), 405, "method_not_allowed", id="no such method"),
])
def test_errors_are_the_sdks(live, ask, status, code):
    error = refused(ask, live)
    assert (error.status_code, error.code, bool(error.error), bool(error.request_id)) == (status, code, True, True)


def test_without_a_key(tenant):
    answer = tenant.http.get("/poststack/contacts", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["code"], answer.headers["www-authenticate"]) == (401, "invalid_api_key", "Bearer")


def test_another_project_sees_nothing(live, stranger, tenant, alice, segment, topic, template, webhook):
    sent, domain = live.emails.send(EMAIL)["id"], live.domains.create({"name": "example.org"})["domain"]
    live.suppressions.add({"email": "gone@example.com", "reason": "manual"})
    asked = [
        (stranger.emails.get, sent), (stranger.emails.cancel, sent), (stranger.contacts.get, alice["publicId"]), (stranger.contacts.delete, str(alice["id"])),
        (stranger.contacts.get_by_email, "alice@example.com"), (stranger.segments.get, segment["publicId"]), (stranger.segments.delete, segment["publicId"]),
        (stranger.subscription_topics.get, topic["publicId"]), (stranger.templates.render, template["publicId"]), (stranger.webhooks.get, webhook["id"]),
        (stranger.webhooks.delete, webhook["id"]), (stranger.domains.get, domain["id"]), (stranger.domains.delete, domain["id"]),
        (stranger.suppressions.remove, "gone@example.com"),
    ]
    assert {refused(ask, what).status_code for ask, what in asked} == {404}
    empty = [stranger.emails.list()["data"], stranger.contacts.list()["data"], stranger.segments.list()["segments"], stranger.templates.list()["data"],
             stranger.webhooks.list()["webhooks"], stranger.domains.list()["domains"], stranger.suppressions.list()["data"]]
    assert not any(empty)


def test_every_method_of_these_resources_has_a_test():
    """A method that a later SDK adds must be looked at."""
    resources = ("emails", "contacts", "contact_properties", "segments", "subscription_topics", "suppressions", "templates", "webhooks", "domains", "api_keys",
                 "email_validations")
    here = inspect.getsource(inspect.getmodule(refused))
    sdk = client(type("Tenant", (), {"key": "sk_test_x", "served": type("Served", (), {"base": "http://localhost"})}))
    methods = {f"{name}.{each}" for name in resources for each in dir(getattr(sdk, name)) if not each.startswith("_")}
    elsewhere = {"domains.assign_ip", "domains.unassign_ip", "domains.get_inbox_placement", "webhooks.verify"}
    elsewhere |= {"segments.broadcasts"}  # with broadcasts
    assert {each for each in methods - elsewhere if f"live.{each}" not in here} == set()


def test_nothing_makes_a_fault(tenant):
    if tenant.served.relay.store.dialect == "sqlite":
        pytest.skip("PostgreSQL refuses all that SQLite does, and more")
    routes = [(route.method, f"/poststack{route.path}") for routes in ROUTES.values() for route in routes]
    assert faults(tenant.http, routes) == []


def test_the_document_names_routes_and_mapped_words(tenant):
    document = tenant.get("/poststack/openapi.json")
    assert set(document["paths"]) == {route.path for routes in ROUTES.values() for route in routes}
    assert document["servers"][0]["url"] == "/poststack"
    for word in ("`scheduled` as `queued`", "`dkim_rotation` as `dkim`", "not_supported"):
        assert word in document["info"]["description"]
    assert tenant.http.get("/poststack/docs").status_code == 200


def refused(ask, *given, **named):
    with pytest.raises(PostStackError) as error:
        ask(*given, **named)
    return error.value
