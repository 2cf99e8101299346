"""The dashboard in headless Chromium: a newcomer's first hour, no serious fault that axe knows on any page, nothing that a stranger wrote runs, and the
pictures of the README.

The pictures go to docs/ when RELAY_SCREENSHOTS is set; without it they are taken and thrown away, so that a test run changes no file.
"""

from __future__ import annotations

import os
import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.served import Served

ROOT = Path(__file__).parent.parent.parent
AXE = ROOT / ".peers" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = '<script>window.ran = 1</script><img src=x onerror="parent.ran = window.ran = 1"><a href="javascript:window.ran=1">x</a>'
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]

PAGES = (
    "/sign-in", "/captured", "/captured/1", "/mail", "/mail?q=nothing-like-it", "/mail/{email}", "/mail/{email}/insights", "/queue", "/queue/waiting",
    "/nowhere", "/settings/domains", "/settings/domains/{domain}", "/settings/keys", "/settings/webhooks", "/settings/webhooks/{webhook}",
    "/settings/suppressions", "/settings/rules", "/settings/users", "/settings/project",
)
CUT_OFF = ("htmx:sendAbort", "htmx:afterRequest")  # what htmx says of a request that a newer one cut off; of one that failed it says more
PICTURES = {"dashboard-mail": "/mail", "dashboard-message": "/mail/{email}", "dashboard-queue": "/queue", "dashboard-domain": "/settings/domains/{domain}"}


@pytest.fixture(scope="module")
def browser(chromium):
    return chromium


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """A relay that delivers to its own capture server, as config/local.toml has it, in project default."""
    directory, capture = tmp_path_factory.mktemp("browser"), f"127.0.0.1:{free_port()}"
    with Served(directory, f"sqlite:///{directory / 'relay.db'}", RELAY_CAPTURE__LISTEN=capture,
                RELAY_DELIVERY__ROUTE=f'[{{domain = "*", host = "{capture}"}}]') as relay:
        relay.me = relay.tenant(project="default")
        yield relay


@pytest.fixture
def page(browser, laptop):
    """A tab of a person who has not been here."""
    context = browser.new_context(base_url=laptop.base, viewport={"width": 1200, "height": 800}, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(60_000)
    tab = context.new_page()
    tab.faults = []
    tab.on("console", lambda line: tab.faults.append(line.text) if line.type == "error" and not line.text.startswith(CUT_OFF) else None)
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.on("dialog", lambda dialog: dialog.accept())
    yield tab
    context.close()


@pytest.fixture(scope="module")
def furnished(laptop):
    """Paths with something behind them: a delivered message, a domain, a webhook, somebody who waits, a suppression, a user."""
    me = laptop.me
    name = me.send(to=["ada@example.net"], subject="Your receipt for March", html="<h1>Thank you</h1><p>Paid in full.</p>", text="Thank you",
                   tags=["receipt"])["id"]
    me.send(to=["grace@slow.example"], subject="A reminder", scheduled_at="2027-08-01T09:00:00Z")
    me.until(f"/emails/{name}", lambda email: email["status"] == "delivered")
    me.post("/suppressions", {"email": "gone@example.org", "note": "asked by phone"}, 201)
    found = {"email": name, "domain": me.post("/domains", {"name": "shop.example"}, 201)["id"],
             "webhook": me.post("/webhooks", {"url": f"http://127.0.0.1:{free_port()}/", "events": ["email.opened"]}, 201)["id"]}
    return lambda path: f"/dashboard{path.format(**found)}"


def sign_in(page, secret, name=""):
    page.goto("/dashboard/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password or API key").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/mail")


INKED = """() => [...document.querySelectorAll(".chart canvas")].some(canvas => {
    const octets = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < octets.length; at += 4) {
        if (Math.abs(octets[at] - 0x3b) < 12 && Math.abs(octets[at + 1] - 0x7d) < 12 && Math.abs(octets[at + 2] - 0xdd) < 12) return true;
    }
    return false;
})"""  # whether a chart has its first curve, and not the axes alone


def test_mail_is_seen_arriving_and_a_person_signs_in(page, laptop):
    page.goto("/")
    page.get_by_role("heading", name="Captured mail").wait_for()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "me@example.com", "you@example.net", "first light"
    message.set_content("It works.")
    message.add_alternative("<h1>It works.</h1>", subtype="html")
    with smtplib.SMTP("127.0.0.1", laptop.smtp_port, timeout=60) as line:
        line.login("app", laptop.me.key)
        line.send_message(message)
    page.get_by_role("link", name="first light").first.click()  # it shows by itself
    assert page.frame_locator("iframe").get_by_role("heading").inner_text() == "It works."

    sign_in(page, laptop.me.key)
    page.keyboard.press("/")
    page.keyboard.type("you@example.net")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="first light").click()
    assert "delivered" in page.locator("ol.timeline").first.inner_text()
    page.locator("nav a", has_text="Queue").click()
    for title in ("Recipients a second", "Seconds from accepted to delivered"):
        page.locator(".chart", has_text=title).locator("canvas").wait_for()
    page.wait_for_function(INKED)

    page.locator("nav a", has_text="Settings").click()
    page.get_by_label("Domain").fill("new.example")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("button", name="Copy the value of spf").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "v=spf1 a:relay.test ~all"

    page.locator("nav.below a", has_text="Users").click()
    page.get_by_label("Name").fill("ada@example.com")
    page.get_by_role("button", name="Add, and make a password").click()
    password = page.locator(".said code").inner_text()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, password, "Ada@example.com")
    assert not page.faults


def test_axe_finds_no_serious_fault_in_light_or_dark(page, laptop, furnished):
    if not AXE.exists():
        pytest.skip("missing peer: axe-core") if "CI" not in os.environ else pytest.fail("missing peer: axe-core")
    found = []
    for path in PAGES:
        if path == "/mail":
            sign_in(page, laptop.me.key)
        page.emulate_media(color_scheme="light")
        page.goto(furnished(path))
        page.evaluate(AXE.read_text())
        for scheme, rules in (("light", TAGS), ("dark", ["color-contrast"])):
            page.emulate_media(color_scheme=scheme)
            faults = page.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(found => found.violations)", rules)
            found += [(path, scheme, fault["id"], fault["nodes"][0]["html"]) for fault in faults if fault["impact"] in ("serious", "critical")]
    assert not found


def test_what_strangers_write_runs_nothing_and_breaks_no_rule(page, laptop, furnished):
    me = laptop.me
    name = me.send(to=["bob@example.net"], subject=HOSTILE, html=HOSTILE, text=HOSTILE)["id"]
    me.until(f"/emails/{name}", lambda email: email["status"] == "delivered")
    me.post("/webhooks", {"url": "https://example.com/%3Cscript%3E", "events": ["*"], "description": HOSTILE}, 201)
    me.post("/api-keys", {"name": HOSTILE[:120], "permission": "sending_access"}, 201)
    me.patch("/project", {"name": HOSTILE[:100], "postal_address": HOSTILE})
    sign_in(page, me.key)
    for path in ("/mail", f"/mail/{name}", f"/mail/{name}/html", "/captured", "/settings/webhooks", "/settings/keys", "/settings/project"):
        page.goto(f"/dashboard{path}")
        assert page.evaluate("window.ran") is None, path
        assert all(frame.evaluate("window.ran") is None for frame in page.frames if frame.url.startswith("http")), path
        assert "relay_session" not in page.evaluate("(() => { try { return document.cookie } catch { return '' } })()")
    me.patch("/project", {"name": "default", "postal_address": "1 Main Street"})


def test_a_phone_needs_no_sideways_scrolling(page, laptop, furnished):
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, laptop.me.key)
    wide = []
    for path in PAGES:
        page.goto(furnished(path))
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"):
            wide.append(path)
    assert not wide


FOCUSED = "() => { const at = document.activeElement; return at.getAttribute('aria-label') || at.labels?.[0]?.innerText || at.innerText || '' }"


def reached(page, name):
    """Press Tab until what has this name has the focus."""
    seen = []
    while not seen or seen[-1] != name:
        assert len(seen) < 80, f"Tab leads to {seen}"
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED).strip())


def test_with_the_keyboard_alone_on_a_phone_a_message_is_found_and_cancelled(page, laptop):
    name = laptop.me.send(to=["night@example.net"], subject="at three in the morning", scheduled_at="2027-01-01T00:00:00Z")["id"]
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/dashboard/sign-in")
    reached(page, "Password or API key")
    page.keyboard.type(laptop.me.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/mail")
    reached(page, "Queue")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/queue")
    reached(page, "Mail")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/mail")  # its scripts are there: they know the key
    page.keyboard.press("/")
    page.keyboard.type("night@example.net")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/mail?*")
    reached(page, "at three in the morning")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="at three in the morning").wait_for()
    reached(page, "Cancel")
    page.keyboard.press("Enter")
    page.get_by_text("Cancelled: nobody").wait_for()
    assert laptop.me.get(f"/emails/{name}")["status"] == "cancelled"


def test_without_javascript_mail_is_found_and_cancelled(browser, laptop):
    name = laptop.me.send(to=["late@example.net"], subject="no script needed", scheduled_at="2027-08-01T00:00:00Z")["id"]
    context = browser.new_context(base_url=laptop.base, java_script_enabled=False)
    page = context.new_page()
    sign_in(page, laptop.me.key)
    page.get_by_label("Search").fill("no script")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="no script needed").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled: nobody").wait_for()
    assert laptop.me.get(f"/emails/{name}")["status"] == "cancelled"
    context.close()


def test_the_pictures_of_the_readme(page, laptop, furnished, tmp_path):
    pictured(page, laptop, furnished, PICTURES, tmp_path)


def pictured(page, laptop, furnished, pictures, tmp_path):
    """Take the pictures, which the README shows."""
    kept = ROOT / "docs" if os.environ.get("RELAY_SCREENSHOTS") else tmp_path
    kept.mkdir(exist_ok=True)
    page.set_viewport_size({"width": 1000, "height": 620})
    sign_in(page, laptop.me.key)
    for name, path in pictures.items():
        page.goto(furnished(path))
        page.wait_for_load_state("networkidle")
        page.screenshot(path=kept / f"{name}.png")
        assert (kept / f"{name}.png").stat().st_size < 200_000
        assert (ROOT / "docs" / f"{name}.png").exists(), "take them with RELAY_SCREENSHOTS=1 pytest tests/dashboard -k pictures"
        assert f"docs/{name}.png" in (ROOT / "README.md").read_text()
