"""Letters in headless Chromium: written with a live preview that runs nothing, sent to a segment, followed to their results; axe on each page."""

from __future__ import annotations

import os
import time

import pytest

from tests.dashboard.test_browser import AXE, HOSTILE, TAGS, browser, page, pictured, sign_in  # noqa: F401  fixtures
from tests.support.ports import free_port
from tests.support.served import Served
from tests.workflows.flowing import letter, line, node

PAGES = ("/templates", "/templates/new", "/templates/{template}", "/templates/{template}/versions?version=1", "/broadcasts", "/broadcasts/new",
         "/broadcasts/{draft}", "/broadcasts/{draft}/review", "/broadcasts/{sent}", "/broadcasts/{sent}/people",
         "/workflows", "/workflows/new", "/workflows/{workflow}", "/workflows/{workflow}/runs/{run}", "/workflows/{workflow}/add?after=ask&branch=match",
         "/workflows/{workflow}/steps/begin", "/workflows/{workflow}/steps/ask", "/workflows/{workflow}/steps/thank", "/workflows/{workflow}/steps/rest")
PICTURES = {"dashboard-broadcast": "/broadcasts/{sent}", "dashboard-template": "/templates/{template}", "dashboard-workflow": "/workflows/{workflow}"}


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """A relay that delivers to its own capture server, as config/local.toml has it."""
    directory, capture = tmp_path_factory.mktemp("letters"), f"127.0.0.1:{free_port()}"
    with Served(directory, f"sqlite:///{directory / 'relay.db'}", RELAY_CAPTURE__LISTEN=capture,
                RELAY_DELIVERY__ROUTE=f'[{{domain = "*", host = "{capture}"}}]') as relay:
        relay.me = relay.tenant(project="default")
        yield relay


@pytest.fixture(scope="module")
def furnished(laptop):
    me = laptop.me
    for name in ("joan", "mary", "rose", "ruth", "ann"):
        me.post("/contacts", {"email": f"{name}@example.com", "first_name": name.title()}, 201)
    template = me.post("/templates", {"name": "Welcome", "subject": "Hello {{ first_name }}", "html": "<h1>Hello</h1>\n<p>one</p>"}, 201)["id"]
    me.post(f"/templates/{template}/publish")
    me.patch(f"/templates/{template}", {"html": "<h1>Hello</h1>\n<p>two</p>"})
    said = {"from": "News <news@shop.example>", "subject": "Hello", "html": '<a href="https://shop.example/">shop</a>', "all_contacts": True}
    wordings = [{"name": name, "subject": f"Hello {name}", "text": "Hello", "weight": 50} for name in "AB"]
    draft = me.post("/broadcasts", {**said, "ab_test": {"variants": wordings}}, 201)["id"]
    sent = me.post("/broadcasts", {**said, "name": "Spring"}, 201)["id"]
    me.post(f"/broadcasts/{sent}/send")
    me.until(f"/broadcasts/{sent}", lambda told: told["status"] == "sent" and told["delivered"] == 5)
    gold = [{"field": "plan", "operator": "equals", "value": "gold"}]
    graph = [node("begin", "trigger"), node("ask", "condition", rules=gold), letter("thank", "Thank you, {{ first_name }}", said["from"]),
             node("rest", "wait", delay="3d"), letter("offer", "Have you seen gold?", said["from"]), node("end", "exit", reason="done")]
    ways = [*line("begin", "ask"), *line("ask:match", "thank", "end"), *line("ask:no_match", "rest", "offer", "end")]
    workflow = me.post("/workflows", {"name": "Care", "trigger_type": "manual", "nodes": graph, "edges": ways}, 201)["id"]
    me.post(f"/workflows/{workflow}/activate")
    run = me.post(f"/workflows/{workflow}/trigger", {"email": "ann@example.com"}, 201)["id"]
    me.until(f"/workflows/{workflow}/runs/{run}", lambda told: told["waiting"] is not None)
    me.post(f"/workflows/{workflow}/pause")
    found = {"template": template, "draft": draft, "sent": sent, "workflow": workflow, "run": run}
    return lambda path: f"/dashboard{path.format(**found)}"


def test_a_template_is_written_with_a_preview_that_follows_and_runs_nothing(page, laptop, furnished):  # noqa: F811
    laptop.me.post("/contacts", {"email": "eve@example.com", "first_name": HOSTILE}, 201)
    sign_in(page, laptop.me.key)
    page.locator("nav a", has_text="Templates").click()
    page.get_by_role("link", name="Write a template").click()
    steps = page.evaluate("history.length")
    page.get_by_label("Name").fill("Greeting")
    page.get_by_label("Subject").fill("For {{ first_name }}")
    page.get_by_label("Preview as").fill("ann@example.com")
    page.get_by_label("HTML").fill("<h1>Dear {{ first_name }}</h1>")
    frame = page.frame_locator("iframe[name=preview]")
    frame.get_by_role("heading", name="Dear Ann").wait_for()
    page.locator("#words", has_text="For Ann").wait_for()
    assert not page.faults  # what comes below is loud: Chromium tells of each script that it did not run
    page.get_by_label("HTML").fill("<h1>Best {{ first_name }}</h1>" + HOSTILE)
    page.get_by_label("Preview as").fill("eve@example.com")
    frame.get_by_role("heading", name="Best <script>").wait_for()
    assert page.evaluate("window.ran") is None
    assert not any(each.evaluate("window.ran") for each in page.frames if each.url.startswith("http"))
    assert page.evaluate("history.length") == steps  # Back leads back, however much was typed
    page.get_by_role("button", name="Save and publish").click()
    page.get_by_text("Published: version 1").wait_for()
    page.get_by_role("link", name="Versions").click()
    page.get_by_role("link", name="Compare").click()
    page.get_by_text("They say the same.").wait_for()


def test_a_broadcast_to_a_segment_from_the_first_word_to_its_results(page, laptop, furnished):  # noqa: F811
    me = laptop.me
    for name in ("ada", "joe"):
        me.post("/contacts", {"email": f"{name}@example.com", "first_name": name.title(), "properties": {"plan": "gold"}}, 201)
    segment = me.post("/segments", {"name": "Gold", "rules": [{"field": "plan", "operator": "equals", "value": "gold"}]}, 201)["id"]
    asked = []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    sign_in(page, me.key)
    page.locator("nav a", has_text="Broadcasts").click()
    page.get_by_role("link", name="Write a broadcast").click()
    page.get_by_label("From").fill("News <news@shop.example>")
    page.get_by_label("To", exact=True).select_option(label="Segment: Gold")
    page.get_by_label("Subject").fill("A sale, {{ first_name }}")
    page.get_by_label("HTML").fill('<h1>Dear {{ first_name }}</h1><p><a href="https://shop.example/sale">sale</a></p>')
    page.get_by_label("Preview as").fill("ada@example.com")
    page.frame_locator("iframe[name=preview]").get_by_role("heading", name="Dear Ada").wait_for()
    page.get_by_role("button", name="Save and review").click()
    page.get_by_text("Spam score").wait_for()
    page.get_by_role("button", name="Send to 2 people now").click()
    page.get_by_text("2 of 2 are done").wait_for()  # by itself
    page.get_by_role("button", name="Make a draft").wait_for()  # as soon as the broadcast is over, which is told a moment later
    assert asked == ["Send it to 2 people now?"]
    assert segment == me.get("/broadcasts")["broadcasts"][0]["segment_id"]
    page.get_by_role("link", name="Who got it").click()
    page.get_by_role("link", name="joe@example.com").wait_for()
    page.go_back()
    page.get_by_role("button", name="Make a draft").click()
    page.get_by_text("A draft for 2 people").wait_for()
    assert not [fault for fault in page.faults if not fault.startswith("htmx:")]  # a suggestion that the next page cut off is none


def test_a_workflow_is_seen_and_tried(page, laptop, furnished):  # noqa: F811
    sign_in(page, laptop.me.key)
    page.locator("nav a", has_text="Workflows").click()
    page.get_by_role("link", name="Care").click()
    page.locator("#findings .said, #findings .problem, #findings .note").first.wait_for()  # by itself
    page.get_by_label("To the contact").fill("ann@example.com")
    page.get_by_role("button", name="Simulate").click()
    page.get_by_role("heading", name="What would happen to ann@example.com").wait_for()
    page.locator("svg .box.visited", has_text="Ask").wait_for()
    assert not page.faults
    assert not faults(page, "a simulation's answer")


def test_a_step_is_added_and_changed_by_the_keyboard(page, laptop, furnished):  # noqa: F811
    me = laptop.me
    flow = me.post("/workflows", {"name": "Keys", "trigger_type": "manual", "nodes": [node("begin", "trigger"), node("end", "exit")],
                                  "edges": line("begin", "end")}, 201)["id"]
    sign_in(page, me.key)
    page.goto(f"/dashboard/workflows/{flow}")
    page.get_by_role("link", name="Add a step after begin").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Wait").focus()
    page.keyboard.press("Enter")
    page.get_by_label("How long").wait_for()
    assert not page.get_by_label("At most").is_visible()  # what belongs to the other ways of waiting
    page.get_by_label("Wait", exact=True).focus()
    page.keyboard.type("for an event")
    page.get_by_label("Event", exact=True).fill("bought")
    page.get_by_label("At most").fill("7d")
    page.keyboard.press("Enter")
    page.get_by_text("The step is there.").wait_for()
    assert {each["public_id"]: each["config"] for each in me.get(f"/workflows/{flow}/graph")["nodes"]}["wait"] == {"event": "bought", "timeout": "7d"}
    page.get_by_role("link", name="Add a step after wait, no_match").wait_for()
    assert not page.faults


def test_what_strangers_write_runs_nothing(page, laptop, furnished):  # noqa: F811
    me, said = laptop.me, {"from": "a@shop.example", "subject": HOSTILE, "html": HOSTILE, "all_contacts": True, "name": HOSTILE[:190]}
    template = me.post("/templates", {"name": HOSTILE[:120], "subject": HOSTILE, "html": HOSTILE}, 201)["id"]
    draft, sent = (me.post("/broadcasts", said, 201)["id"] for _ in range(2))
    me.post(f"/broadcasts/{sent}/schedule", {"scheduled_at": f"{time.gmtime().tm_year + 1}-01-01T00:00:00Z"})
    flow = me.post("/workflows", {"name": HOSTILE, "trigger_type": "manual", "nodes": [node("begin", "trigger"), node("end", "exit", reason=HOSTILE)],
                                  "edges": line("begin", "end")}, 201)["id"]
    sign_in(page, me.key)
    for path in ("/templates", f"/templates/{template}", "/broadcasts", f"/broadcasts/{draft}", f"/broadcasts/{draft}/review", f"/broadcasts/{sent}",
                 f"/workflows/{flow}", f"/workflows/{flow}/steps/end", f"/workflows/{flow}/add"):
        page.goto(f"/dashboard{path}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.ran") is None, path
        assert "relay_session" not in page.evaluate("document.cookie")


def test_the_pictures_of_the_readme(page, laptop, furnished, tmp_path):  # noqa: F811
    pictured(page, laptop, furnished, PICTURES, tmp_path)


def faults(tab, path):
    """What axe finds on the page as it is, in light and in dark."""
    if not AXE.exists():
        pytest.skip("missing peer: axe-core") if "CI" not in os.environ else pytest.fail("missing peer: axe-core")
    tab.evaluate(AXE.read_text())
    found = []
    for scheme, rules in (("light", TAGS), ("dark", ["color-contrast"])):
        tab.emulate_media(color_scheme=scheme)
        seen = tab.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(found => found.violations)", rules)
        found += [(path, scheme, fault["id"], fault["nodes"][0]["html"]) for fault in seen if fault["impact"] in ("serious", "critical")]
    return found


@pytest.mark.parametrize("pages", [PAGES[::2], PAGES[1::2]], ids=["some", "others"])
def test_axe_finds_no_serious_fault_and_a_phone_needs_no_sideways_scrolling(page, laptop, furnished, pages):  # noqa: F811
    found = []
    sign_in(page, laptop.me.key)
    page.set_viewport_size({"width": 360, "height": 740})
    for path in pages:
        page.emulate_media(color_scheme="light")
        page.goto(furnished(path))
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"):
            found.append((path, "wide"))
        found += faults(page, path)
    assert not found
