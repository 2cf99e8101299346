"""The seed pages' sentences in Chromium with JavaScript switched off: whatever scripts do by themselves, a button or a link does."""

from __future__ import annotations

import time

import pytest

from tests.dashboard.test_browser import browser, sign_in  # noqa: F401  a fixture
from tests.dashboard.test_people_browser import laptop  # noqa: F401  a fixture
from tests.support.served import PATIENCE

PEOPLE = "Wer,Stufe\nada@example.com,pro\nbob@example.com,free\nnobody,\n"


@pytest.fixture
def tab(browser, laptop):  # noqa: F811
    """A signed-in tab that runs no scripts, and the project's key."""
    context = browser.new_context(base_url=laptop.base, java_script_enabled=False)
    context.set_default_timeout(60_000)
    page = context.new_page()
    sign_in(page, laptop.me.key)
    yield page
    context.close()


@pytest.fixture(scope="module")
def crowd(laptop):  # noqa: F811
    """Three contacts, who are on a list."""
    names = ("carl", "cora", "dora")
    for name in names:
        laptop.me.post("/contacts", {"email": f"{name}@example.com", "first_name": name.title(), "properties": {"team": "c" if name[0] == "c" else "d"}}, 201)
    made = laptop.me.post("/segments", {"name": "Crowd"}, 201)["id"]
    laptop.me.post(f"/segments/{made}/members", {"emails": [f"{name}@example.com" for name in names]})


def looked_again(tab, text):
    """The page once it says so, fetched anew as often as that takes."""
    end = time.monotonic() + PATIENCE
    while not tab.get_by_text(text).count():
        assert time.monotonic() < end, tab.inner_text("main")
        tab.reload()


def test_contacts_come_by_hand_and_from_a_file_and_change_their_state(tab, laptop):  # noqa: F811
    tab.goto("/dashboard/properties")
    tab.get_by_label("Name", exact=True).fill("tier")
    tab.get_by_role("button", name="Define").click()
    tab.get_by_text("tier is defined").wait_for()

    tab.goto("/dashboard/contacts")
    tab.get_by_role("link", name="Add a contact").click()
    tab.get_by_label("Address").fill("ann@example.com")
    tab.get_by_role("button", name="Add", exact=True).click()
    tab.get_by_text("ann@example.com is a contact now.").wait_for()
    tab.get_by_label("tier").fill("gold")
    tab.get_by_role("button", name="Save properties").click()
    tab.get_by_label("Add tags").fill("vip")
    tab.get_by_role("button", name="Add", exact=True).click()
    tab.get_by_role("button", name="Unsubscribe", exact=True).click()
    tab.get_by_text("Unsubscribed: no more marketing mail.").wait_for()
    ann = laptop.me.get("/contacts/by-email/ann@example.com")
    assert (ann["properties"], ann["tags"], ann["unsubscribed"]) == ({"tier": "gold"}, ["vip"], True)
    tab.get_by_role("button", name="Subscribe again").click()
    tab.get_by_role("button", name="Unsubscribe", exact=True).wait_for()

    tab.goto("/dashboard/contacts/import")
    tab.get_by_label("File").set_input_files({"name": "people.csv", "mimeType": "text/csv", "buffer": PEOPLE.encode()})
    tab.get_by_role("button", name="Preview").click()
    tab.get_by_label("Wer becomes").select_option("Address")
    tab.get_by_label("Stufe becomes").select_option("tier")
    tab.get_by_role("button", name="Preview with these columns").click()
    tab.get_by_role("button", name="Import 2 contacts").click()
    looked_again(tab, "completed")
    assert laptop.me.get("/contacts/by-email/ada@example.com")["properties"] == {"tier": "pro"}
    tab.get_by_role("button", name="Undo").click()
    looked_again(tab, "undone")
    assert laptop.me.get("/contacts", search="ada@example.com")["contacts"] == []

    tab.goto("/dashboard/contacts")
    tab.get_by_label("Search").fill("ann@")
    tab.get_by_role("button", name="Search").click()
    tab.get_by_label("Tick ann@example.com").check()
    tab.get_by_role("button", name="Delete").click()
    tab.get_by_role("button", name="Delete 1 contact").click()
    tab.get_by_text("1 contact is deleted now.").wait_for()
    tab.goto("/dashboard/properties")
    tab.get_by_role("link", name="Delete tier").click()
    tab.get_by_role("link", name="Count the contacts that have a value of it").wait_for()
    tab.get_by_role("button", name="Delete it with all its values").click()
    tab.get_by_text("The property is deleted, and so are its values.").wait_for()


def test_a_dynamic_segment_is_built_counted_and_edited(tab, crowd):
    tab.goto("/dashboard/segments/new")
    tab.get_by_label("Name", exact=True).fill("Team C")
    rule = tab.get_by_role("group", name="Rule 1", exact=True)
    rule.get_by_label("Field").select_option("properties.")
    rule.get_by_role("button", name="Set").click()
    rule.get_by_label("Name").fill("team")
    rule.get_by_label("Value").fill("c")
    tab.get_by_role("button", name="Count").click()
    tab.get_by_text("2 contacts are in it now: contacts whose team is c.").wait_for()
    tab.get_by_role("button", name="Save", exact=True).last.click()
    tab.get_by_role("link", name="carl@example.com").wait_for()

    tab.get_by_role("link", name="Edit").click()
    tab.get_by_role("button", name="Add a group", exact=True).click()
    inner = tab.get_by_role("group", name="Rule 2.1")
    inner.get_by_label("Field").select_option("first_name")
    inner.get_by_role("button", name="Set").click()
    inner.get_by_label("Value").fill("Cora")
    tab.get_by_role("button", name="Add a rule to group 2").click()
    tab.get_by_role("button", name="Remove rule 2.2").click()
    tab.get_by_role("button", name="Save", exact=True).last.click()
    tab.get_by_role("link", name="cora@example.com").wait_for()
    assert tab.get_by_role("link", name="carl@example.com").count() == 0
    tab.get_by_role("button", name="Tag", exact=True).click()  # everybody in it
    tab.get_by_label("Tags").fill("chosen")
    tab.get_by_role("button", name="Tag 1 contact").click()
    looked_again(tab, "1 contact is tagged now.")


def test_members_of_a_static_segment_are_searched_added_and_removed(tab, crowd):
    tab.goto("/dashboard/segments/new")
    tab.get_by_role("link", name="Static").click()
    tab.get_by_label("Name", exact=True).fill("Guests")
    tab.get_by_label("Search contacts").fill("dora")
    tab.get_by_role("button", name="Search").click()
    tab.get_by_label("dora@example.com").check()
    tab.get_by_role("button", name="Save", exact=True).last.click()
    tab.get_by_role("button", name="Remove dora@example.com").click()
    tab.get_by_label("Search contacts").fill("carl")
    tab.get_by_role("button", name="Search").first.click()
    tab.get_by_role("button", name="Add carl@example.com").click()
    tab.get_by_role("button", name="Remove carl@example.com").wait_for()
    assert tab.get_by_role("link", name="dora@example.com").count() == 0


def test_a_template_and_a_broadcast_are_written_and_sent(tab, crowd):
    tab.goto("/dashboard/templates/new")
    tab.get_by_label("Name", exact=True).fill("Sale")
    tab.get_by_label("Subject", exact=True).fill("A sale")
    tab.get_by_label("HTML", exact=True).fill("<h1>Dear {{ first_name }}</h1>")
    tab.get_by_role("button", name="Save and publish").click()
    tab.get_by_text("Published: version 1").wait_for()
    tab.goto("/dashboard/broadcasts/new")
    tab.get_by_label("From", exact=True).fill("Shop <shop@example.com>")
    tab.get_by_label("To", exact=True).select_option(label="Segment: Crowd")
    tab.get_by_label("Template", exact=True).select_option(label="Sale")
    tab.get_by_role("button", name="Save and review").click()
    tab.get_by_role("link", name="Show it").wait_for()  # the spam score
    tab.get_by_role("link", name="Count them").click()
    tab.get_by_role("button", name="Send to 3 people now").click()
    looked_again(tab, "3 of 3 are done")


def test_a_workflow_is_made_of_steps_and_tried(tab, crowd):
    tab.goto("/dashboard/workflows/new")
    tab.get_by_label("Name", exact=True).fill("Greeting")
    tab.get_by_label("Begins", exact=True).select_option("custom")
    tab.get_by_label("Event", exact=True).fill("signed_up")
    tab.get_by_role("button", name="Create").click()
    tab.get_by_role("link", name="Add the first step").click()
    tab.get_by_role("link", name="Ask").click()
    rule = tab.get_by_role("group", name="Rule 1", exact=True)
    rule.get_by_label("Field").select_option("first_name")
    rule.get_by_role("button", name="Set").click()
    rule.get_by_label("Value").fill("Cora")
    tab.get_by_role("button", name="Count").click()
    tab.get_by_text("It holds for 1 contact now: contacts whose first name is Cora. Each run asks it anew, of its own contact.").wait_for()
    tab.get_by_role("button", name="Add it").click()
    tab.get_by_label("To the contact").fill("cora@example.com")
    tab.get_by_role("button", name="Simulate").click()
    tab.get_by_role("heading", name="What would happen to cora@example.com").wait_for()


def test_settings_are_changed(tab, laptop):  # noqa: F811
    tab.goto("/dashboard/settings/domains")
    tab.get_by_label("Domain", exact=True).fill("new.example")
    tab.get_by_role("button", name="Add").click()
    tab.get_by_text("v=spf1").first.wait_for()
    tab.goto("/dashboard/settings/keys")
    tab.get_by_label("Name", exact=True).fill("web shop")
    tab.get_by_role("button", name="Make it").click()
    assert tab.locator(".said code").inner_text().startswith("sk_live_")
    tab.goto("/dashboard/settings/webhooks")
    tab.get_by_label("Address", exact=True).fill("http://127.0.0.1:9/hook")
    tab.get_by_role("button", name="Add").click()
    tab.get_by_text("The signing secret is shown this once").wait_for()
    tab.goto("/dashboard/settings/suppressions")
    tab.locator("main form.narrow").get_by_label("Address").fill("gone@example.org")
    tab.get_by_role("button", name="Suppress", exact=True).click()
    tab.get_by_role("button", name="Lift gone@example.org").click()
    tab.get_by_label("Reason").wait_for()
    assert tab.get_by_role("button", name="Lift gone@example.org").count() == 0
    tab.goto("/dashboard/settings/users")
    tab.get_by_label("Name", exact=True).fill("grace@example.com")
    tab.get_by_role("button", name="Add, and make a password").click()
    tab.get_by_text("The password of grace@example.com is shown this once").wait_for()
    tab.goto("/dashboard/settings/project")
    tab.get_by_label("Postal address").fill("2 Side Street")
    tab.get_by_role("button", name="Save").click()
    tab.get_by_role("status").wait_for()
    assert laptop.me.get("/project")["postal_address"] == "2 Side Street"
