"""What a project has beside its people: templates, forms, webhooks, domains, keys, workflows."""


import pytest
from poststack import types

from relay.store.inbound import reports as kept
from relay.store.inbound.reports import Kept, Source
from tests.compat.poststack import EMAIL, meta, refused


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
