"""A newcomer's first hour in one walk: `relay serve --config config/local.toml`, as `make run` calls it, and then only what it prints and what a browser
shows. The configuration is a copy with free ports, and a nameserver stands for the internet's."""

from __future__ import annotations

import re
import subprocess
import threading
import time

import pytest

from tests.dashboard.test_people_browser import renewed
from tests.support.dns import DnsServer
from tests.support.ports import free_port
from tests.support.running import ROOT, Running

ZONES = {"example.com": {"MX": "10 mx.example.com."}, "mx.example.com": {"A": "192.0.2.1"}}
PEOPLE = "Email,First name,plan\nada@example.com,Ada,gold\njoe@example.com,Joe,gold\neve@example.com,Eve,free\n"
MINUTE = 60.0  # seconds to the first mail on the page


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    directory, text = tmp_path_factory.mktemp("first-hour"), (ROOT / "config" / "local.toml").read_text()
    for port in ("2525", "2500", "8025", "2526"):
        assert f"127.0.0.1:{port}" in text
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    (directory / "local.toml").write_text(text)
    with DnsServer(ZONES) as dns:
        relay = Running(directory, {"RELAY_CONFIG": str(directory / "local.toml"), "RELAY_DNS__NAMESERVERS": dns.address})
        for name in ("SMTP__SUBMISSION", "HTTP__LISTEN", "HOSTNAME"):
            del relay.settings[f"RELAY_{name}"]
        relay.smtp, relay.http = (int(re.search(rf'{name} = "127.0.0.1:(\d+)"', text)[1]) for name in ("submission", "listen"))
        with relay:
            yield relay


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(60_000)
    tab = context.new_page()
    tab.faults = []
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.on("dialog", lambda dialog: dialog.accept())
    yield tab
    context.close()


def welcome(laptop):
    """What it printed for people."""
    until = time.monotonic() + MINUTE
    while "Stop with Ctrl-C" not in laptop.log:
        assert time.monotonic() < until, laptop.log
        threading.Event().wait(0.02)
    return laptop.log


@pytest.mark.limit(600)
def test_a_newcomers_first_hour(need, laptop, page):
    need("curl")
    printed = welcome(laptop)
    place, key = re.search(r"Dashboard +(\S+)", printed)[1], re.search(r"API key +(sk_live_\S+)", printed)[1]
    page.goto(place)
    page.get_by_text("Nothing yet.").wait_for()

    # The first mail, by the printed line.
    (line,) = [part for part in printed.replace("\\\n", "").split("\n\n") if part.lstrip().startswith("printf")]
    began = time.monotonic()
    subprocess.run(["sh", "-c", line], check=True, timeout=MINUTE)
    page.get_by_role("link", name="hello").wait_for()  # by itself
    assert time.monotonic() - began < MINUTE
    page.get_by_role("link", name="Sign in").last.click()
    page.get_by_label("Password or API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="hello").click()
    assert "delivered" in page.locator("ol.timeline").first.inner_text()
    page.get_by_role("link", name="Source").click()
    page.get_by_text("It works.").wait_for()
    page.go_back()

    # People: one by hand, three from a file.
    page.locator("header nav a", has_text="Contacts").click()
    page.get_by_role("link", name="Add a contact").click()
    page.get_by_label("Address").fill("you@example.net")
    page.get_by_label("First name").fill("You")
    page.get_by_role("button", name="Add").click()
    page.get_by_text("you@example.net is a contact now.").wait_for()
    page.locator("nav.below a", has_text="Imports").click()
    page.get_by_role("link", name="Import a file").click()
    page.get_by_label("File").set_input_files({"name": "people.csv", "mimeType": "text/csv", "buffer": PEOPLE.encode()})
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Import 3 contacts").click()
    page.get_by_text("completed").wait_for()

    # A segment of those on the gold plan.
    page.locator("header nav a", has_text="Segments").click()
    page.get_by_role("link", name="Create a segment").click()
    page.get_by_label("Name", exact=True).fill("Gold")
    row = page.get_by_role("group", name="Rule 1", exact=True)
    renewed(page, row.get_by_label("Field"), "properties.")
    page.locator("datalist#names-properties option[value=plan]").wait_for(state="attached")  # offered
    row.get_by_label("Name").fill("plan")
    row.get_by_label("Value").fill("gold")
    page.get_by_text("2 contacts are in it now: contacts whose plan is gold.").wait_for()
    page.get_by_role("button", name="Save").last.click()
    page.get_by_role("link", name="joe@example.com").wait_for()

    # A template, a broadcast of it to the segment, and what came of it.
    page.locator("header nav a", has_text="Templates").click()
    page.get_by_role("link", name="Write a template").click()
    page.get_by_label("Name").fill("Sale")
    page.get_by_label("Subject").fill("A sale, {{ first_name }}")
    page.get_by_label("HTML").fill("<h1>Dear {{ first_name }}</h1><p>Gold is cheap.</p>")
    page.get_by_role("button", name="Save and publish").click()
    page.get_by_text("Published: version 1").wait_for()
    page.locator("header nav a", has_text="Broadcasts").click()
    page.get_by_role("link", name="Write a broadcast").click()
    page.get_by_label("From").fill("Shop <shop@example.com>")
    page.get_by_label("To", exact=True).select_option(label="Segment: Gold")
    page.get_by_label("Template").select_option(label="Sale")
    page.get_by_role("button", name="Save and review").click()
    page.get_by_role("button", name="Send to 2 people now").click()
    page.get_by_text("2 of 2 are done").wait_for()
    page.get_by_role("link", name="Who got it").click()
    page.get_by_role("link", name="ada@example.com").wait_for()
    page.locator("header nav a", has_text="Captured").click()
    page.get_by_role("link", name="A sale, Ada").click()
    assert page.frame_locator("iframe").get_by_role("heading").inner_text() == "Dear Ada"

    # A workflow, drawn step by step and tried on a contact.
    page.locator("header nav a", has_text="Workflows").click()
    page.get_by_role("link", name="Create a workflow").click()
    page.get_by_label("Name", exact=True).fill("Greeting")
    page.get_by_label("Begins", exact=True).select_option("custom")
    page.get_by_label("Event", exact=True).fill("signed_up")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("link", name="Add the first step").click()
    page.get_by_role("link", name="Wait").click()
    page.get_by_label("How long").fill("3d")
    page.get_by_role("button", name="Add it").click()
    page.get_by_role("link", name="Add a step after wait").click()
    page.get_by_role("link", name="Change the contact").click()
    page.get_by_label("Properties").fill("plan = silver")
    page.get_by_role("button", name="Add it").click()
    page.get_by_text("Nothing is in its way.").wait_for()
    page.get_by_label("To the contact").fill("eve@example.com")
    page.get_by_role("button", name="Simulate").click()
    page.get_by_role("heading", name="What would happen to eve@example.com").wait_for()
    assert page.locator("svg .box.visited").count() == 3

    # A domain with its records, and a key of an app's own.
    page.locator("header nav a", has_text="Settings").click()
    page.get_by_label("Domain").fill("new.example")
    page.get_by_role("button", name="Add").click()
    page.get_by_text("v=spf1").first.wait_for()
    page.locator("nav.below a", has_text="Keys").click()
    page.get_by_label("Name").fill("web shop")
    page.get_by_role("button", name="Make it").click()
    made = page.locator(".said code").inner_text()
    assert made.startswith("sk_live_")
    assert made != key
    assert not page.faults
