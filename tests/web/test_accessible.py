"""The pages behind links in mail, and signup forms, in headless Chromium: no serious fault that axe knows, light and dark, at a phone's width, by keyboard."""

from __future__ import annotations

import os

import pytest

from tests.api.test_people import token
from tests.api.test_preferences import old
from tests.dashboard.test_browser import AXE, TAGS
from tests.support import fixtures
from tests.support.served import Served, arrived

chromium = fixtures.chromium_of_module

FIELDS = [{"name": "email", "type": "email"}, {"name": "first_name"}, {"name": "plan", "type": "select", "options": ["free", "pro"], "required": True},
          {"name": "terms", "type": "checkbox", "label": "I agree", "required": True}]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    directory = tmp_path_factory.mktemp("accessible")
    with Served(directory, f"sqlite:///{directory / 'relay.db'}") as relay:
        yield relay


@pytest.fixture(scope="module")
def tenant(served):
    made = served.tenant()
    made.patch("/project", {"name": "Shop & Söhne", "postal_address": "1 Main Street\nTown"})
    for name in ("News", "Offers"):
        made.post("/subscription-topics", {"name": name, "description": f"About {name}"}, 201)
    return made


@pytest.fixture(scope="module")
def tab(chromium, served):
    """A tab as wide as a phone."""
    if not AXE.exists():
        pytest.skip("missing peer: axe-core") if "CI" not in os.environ else pytest.fail("missing peer: axe-core")
    context = chromium.new_context(base_url=served.public, viewport={"width": 360, "height": 640})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def faults(tab, name):
    """What axe finds on the page as it is shown now, in both colour schemes, and whether a phone must scroll sideways."""
    tab.evaluate(AXE.read_text())
    found = []
    for scheme, rules in (("light", TAGS), ("dark", ["color-contrast"])):
        tab.emulate_media(color_scheme=scheme)
        seen = tab.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(found => found.violations)", rules)
        found += [(name, scheme, fault["id"], fault["nodes"][0]["html"]) for fault in seen if fault["impact"] in ("serious", "critical")]
    if tab.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        found.append((name, "wider than a phone"))
    return found


@pytest.mark.parametrize("language", ["en", "de"])
def test_links_in_mail_lead_to_pages_for_everybody(served, tenant, tab, language):
    """Unsubscribing, done; preferences, saved, left and taken back by keyboard alone; a link that is too old; one that is nobody's."""
    tenant.patch("/project", {"language": language})
    message, _ = arrived(served, tenant, tenant.send(unsubscribe=True, to=[f"user@{language}.example"]))
    link = token(message)
    found = []
    for name, path, status in (("ask", f"/u/{link}", 200), ("preferences", f"/p/{link}", 200), ("old", f"/u/{old(served, link)}", 410),
                               ("nobody", "/u/" + "A" * 40, 404)):
        assert tab.goto(path).status == status
        found += faults(tab, f"{language} {name}")
    assert tab.goto(f"/p/{link}").status == 200
    assert tab.locator("html").get_attribute("lang") == language
    box = tab.get_by_role("checkbox").first
    box.focus()
    tab.keyboard.press("Space")
    tab.get_by_role("button").first.focus()
    tab.keyboard.press("Enter")
    tab.get_by_role("status").wait_for()
    assert not tab.get_by_role("checkbox").first.is_checked()
    found += faults(tab, f"{language} saved")
    tab.goto(f"/u/{link}")
    tab.get_by_role("button").first.click()
    tab.wait_for_load_state()
    found += faults(tab, f"{language} left")
    assert found == []
    assert tenant.get("/suppressions", per_page=100)["suppressions"][0]["reason"] == "unsubscribe"


def test_a_signup_form_is_for_everybody(served, tenant, tab):
    """The form, what is wrong with it said next to it, thanks, and the question of a confirmation."""
    made = tenant.post("/signup-forms", {"name": "Join us", "fields": FIELDS}, 201)
    tab.goto(made["url"])
    found = faults(tab, "form")
    for field in FIELDS:
        assert tab.locator(f"[name={field['name']}]").count() == 1
    tab.evaluate("document.querySelector('form').noValidate = true")
    tab.locator("[name=email]").fill("nobody")
    tab.locator("[name=terms]").check()
    tab.get_by_role("button").click()
    tab.get_by_role("alert").wait_for()
    found += faults(tab, "what is wrong")
    tab.locator("[name=email]").fill("visitor@form.example")
    tab.locator("[name=plan]").select_option("pro")
    tab.locator("[name=terms]").check()
    tab.get_by_role("button").click()
    tab.get_by_role("status").wait_for()
    found += faults(tab, "thanks")
    assert found == []
    assert tenant.get("/contacts/by-email/visitor@form.example")["properties"] == {"plan": "pro", "terms": True}
