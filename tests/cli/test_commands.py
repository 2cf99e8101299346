"""The commands on a store that nobody else has open."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

from relay.cli.main import PLACES
from tests.cli.conftest import ROOT


def test_help_is_there_at_once(relay):
    taken = []
    for _ in range(5):  # the first compiles what was never imported, and a busy machine makes one or the other slow
        began = os.times().children_user
        assert "suppress" in relay.process("--help", config=False, cold=True).stdout
        taken.append(os.times().children_user - began)
    assert min(taken) < 0.15


def test_a_key_alone_is_printed_so_that_a_script_can_keep_it(relay):
    assert re.fullmatch(r"sk_test_[0-9a-f]{40}\n", relay.text("key", "create", "--mode", "test", "--permission", "sending_access", "--name", "app"))
    [key] = relay.json("key", "list")
    assert (key["mode"], key["permission"], key["name"], key["domain"]) == ("test", "sending_access", "app", None)
    assert "key" not in key


@pytest.mark.parametrize("place", ["before", "after", "between"])
def test_the_shared_options_stand_anywhere(relay, place):
    options, command = ["--config", str(relay.config), "--json"], ["key", "list"]
    line = {"before": [*options, *command], "after": [*command, *options], "between": ["key", *options, "list"]}[place]
    assert relay.text(*line, config=False) == "[]\n"


def test_the_settings_are_found_by_environment_and_here(relay, tmp_path):
    assert relay.process("key", "list", config=False, RELAY_CONFIG=str(relay.config)).returncode == 0
    assert relay.process("key", "list", config=False, cwd=tmp_path).returncode == 0
    assert (tmp_path / "data" / "relay.db").exists()


def test_without_any_settings_no_store_is_made(relay, tmp_path):
    """Whoever runs `make run` and then a bare `relay key create` would get the key of another relay."""
    empty = tmp_path / "empty"
    empty.mkdir()
    if any(os.path.exists(place) for place in (*PLACES, "/var/lib/relay")):
        pytest.skip("a relay is installed on this machine")
    found = relay.process("key", "create", config=False, cwd=empty)
    assert (found.returncode, found.stdout) == (2, "")
    assert "--config" in found.stderr
    assert not os.path.exists("/var/lib/relay")


def test_what_a_command_makes_is_private(relay):
    assert relay.process("key", "list").returncode == 0
    modes = {path.name: path.stat().st_mode & 0o077 for path in (relay.config.parent / "data").iterdir()}
    assert "relay.db" in modes
    assert not any(modes.values()), modes


def test_a_command_waits_for_another_that_has_the_store(relay):
    relay.text("project", "create", "shop")
    together = [subprocess.Popen([sys.executable, "-m", "relay", "key", "create", "--config", str(relay.config)], cwd=ROOT, stdout=subprocess.DEVNULL)
                for _ in range(3)]
    assert [process.wait(50) for process in together] == [0, 0, 0]
    assert len(relay.json("key", "list")) == 3


def test_a_key_is_rotated_and_revoked(relay):
    first = relay.text("key", "create", "--name", "app").strip()
    second = relay.text("key", "rotate", "app").strip()
    assert second != first
    assert "is revoked" in relay.text("key", "revoke", second)
    assert relay.json("key", "list") == []
    gone = relay("key", "revoke", second)
    assert gone.returncode == 1
    assert gone.stderr == "relay: there is no such key in this project; relay key list (--project NAME) shows them\n"


def test_two_projects_see_nothing_of_each_other(relay):
    relay.text("project", "create", "shop")
    assert [p["name"] for p in relay.json("project", "list")] == ["default", "shop"]
    key = relay.json("key", "create", "--project", "shop")["id"]
    relay.text("domain", "add", "a.example", "--project", "shop")
    relay.text("suppress", "add", "ann@b.example", "--project", "shop")
    assert relay.json("key", "list") == []
    assert relay.json("domain", "list") == []
    assert relay.json("suppress", "list") == []
    for command in (("key", "revoke", key), ("domain", "verify", "a.example"), ("domain", "dkim", "a.example"), ("suppress", "remove", "ann@b.example")):
        assert relay(*command).returncode == 1
    assert len(relay.json("key", "list", "--project", "shop")) == 1


def test_a_domain_prints_records_for_a_form_and_a_zone(relay):
    text = relay.text("domain", "add", "Bücher.example", "--return-path", "")
    form, zone = text.split("For BIND:")
    value = re.search(r"Value  (v=DKIM1; k=rsa; p=\S+)", form)[1]
    line = next(line for line in zone.splitlines() if "k=rsa" in line)
    strings = re.findall(r'"([^"]*)"', line)
    assert "".join(strings) == value
    assert all(len(each) <= 255 for each in strings)
    assert re.match(r"\w+\._domainkey\.xn--bcher-kva\.example\. IN TXT \( ", line)
    [domain] = relay.json("domain", "list")
    assert (domain["name"], domain["status"]) == ("xn--bcher-kva.example", "pending")
    assert [(r["type"], r["purpose"], r["verified"]) for r in domain["dns_records"]] == [
        ("TXT", "dkim", False), ("TXT", "dkim", False), ("TXT", "spf", False), ("TXT", "dmarc", False)]
    assert domain["dns_records"][0]["value"] == value
    assert set(domain["dns_records"][0]) == {"type", "name", "value", "purpose", "verified"}
    assert "PRIVATE" not in text


def test_a_private_key_lies_sealed_in_the_store(relay, tmp_path):
    relay.text("domain", "add", "a.example")
    octets = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("relay.db*"))
    assert b"enc:" in octets
    assert b"PRIVATE KEY" not in octets


def test_an_import_reports_each_bad_line_and_can_be_taken_back(relay, tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("Email,Reason\nann@b.example,complaint\n\nnot an address,\nbob@b.example,\nann@B.example,manual\nzoe@b.example,whim\n")
    done = relay("suppress", "import", str(file), "--json")
    assert done.returncode == 1
    assert '"added": 2' in done.stdout
    assert '"known": 1' in done.stdout
    assert '"line": 4' in done.stdout
    assert '"line": 7' in done.stdout
    entries = relay.json("suppress", "list")
    assert [(e["address"], e["reason"]) for e in entries] == [("ann@b.example", "complaint"), ("bob@b.example", "manual")]
    relay.text("suppress", "add", "kept@b.example")
    assert relay.text("suppress", "undo", entries[0]["evidence"]["batch"]) == "2 entries removed\n"
    assert [e["address"] for e in relay.json("suppress", "list")] == ["kept@b.example"]
    assert relay("suppress", "undo").returncode == 1


def test_an_import_of_bare_addresses_from_standard_input(relay):
    assert relay.text("suppress", "import", "-", stdin="a@b.example\nc@b.example\n").startswith("2 added, 0 known already, 0 refused\n")


@pytest.mark.parametrize(("settings_text", "says"), [
    ('hostnam = "x"', "relay: hostnam: is not a setting; did you mean hostname?\n"),
    ('[smtp]\nmax_size = "big"', """relay: smtp.max_size: 'big' is not a size such as "25MB" or "25MiB"\n"""),
])
def test_a_wrong_setting_is_named_and_the_status_is_two(relay, says):
    done = relay("key", "list")
    assert (done.returncode, done.stderr) == (2, says)


def test_errors_are_json_when_json_is_wanted(relay):
    done = relay("suppress", "remove", "a@b.example", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == '{"error": "a@b.example is not suppressed in project default", "code": "not_found"}\n'


REPLIES = "550 5.1.1 <a@b.example>: user unknown\nnothing here\n421 4.7.0 too many connections, slow down\n"


def test_bounces_are_classified(relay):
    found = relay.json("bounces", "classify", "-", stdin=REPLIES)
    assert [(f["class"], f["suppresses"]) for f in found] == [("hard", True), ("rate", False)]
    assert all(f["rule"] for f in found)


REPORT = """From: MAILER-DAEMON@b.example
Content-Type: multipart/report; report-type=delivery-status; boundary=x

--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.b.example

Final-Recipient: rfc822; ann@b.example
Action: failed
Status: 5.2.2
Remote-MTA: dns; mx.b.example
Diagnostic-Code: smtp; 552 5.2.2 mailbox
 full

--x--
"""


def test_a_delivery_report_is_classified(relay):
    [found] = relay.json("bounces", "classify", "-", stdin=REPORT)
    assert (found["address"], found["class"], found["reply"]) == ("ann@b.example", "mailbox-full", "552 5.2.2 mailbox full")


@pytest.mark.parametrize("command", ["key list", "migrate"])
def test_a_directory_in_use_is_named_with_who_has_it(relay, tmp_path, command):
    from relay.store import lock

    with lock.hold(tmp_path / "data"):
        done = relay(*command.split(), patience=0.3)
    assert done.returncode == 1
    assert f"in use by the relay with pid {os.getpid()}" in done.stderr


@pytest.mark.parametrize("key", ["smtp.submission", "smtp.inbound", "http.listen", "http.public_listen", "capture.listen"])
def test_an_address_in_use_is_named_with_its_key(relay, tmp_path, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = relay.process("serve", **{f"RELAY_{key.upper().replace('.', '__')}": address})
    assert (done.returncode, done.stderr) == (1, f'relay: {key} = "{address}" cannot be listened on: Address already in use\n')


@pytest.mark.parametrize("command", ["key list", "serve"])
@pytest.mark.parametrize(("data_dir", "says"), [("/proc/nope", "/proc/nope: No such file"), ("/dev/null", "/dev/null: File exists")])
def test_a_place_that_cannot_be_used_is_named_with_its_key(relay, data_dir, says, command):
    relay.config.write_text(f'data_dir = "{data_dir}"\nhostname = "mail.relay.example"\n')
    done = relay.process(*command.split())
    assert done.returncode == 2
    assert done.stderr.startswith(f"relay: data_dir: {says}")
    assert "name a place that exists" in done.stderr


def test_a_policy_that_is_not_there_ends_serve_as_a_wrong_setting_does(relay):
    done = relay.process("serve", RELAY_POLICIES__SUBMIT='[{use = "policies.nope"}]')
    assert done.returncode == 2
    assert done.stderr.startswith("relay: policies.submit[0].use: there is no module or callable 'policies.nope'")


def test_a_database_that_is_none_is_named(relay, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "relay.db").write_text("not a database at all, but some other text")
    for done in (relay("key", "list"), relay.process("serve")):
        assert done.returncode == 1
        assert done.stderr == f"relay: {tmp_path}/data/relay.db cannot be opened: file is not a database\n"


def test_nothing_listens_at_the_other_end_of_a_pipe(relay):
    command = f"{sys.executable} -m relay --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_mail_to_a_domain_is_switched_on(relay):
    relay.json("domain", "add", "in.example")
    shown = relay.json("domain", "set", "in.example", "--inbound", "--no-catch-all", "--mailbox", "Help", "--mailbox", "sales")
    assert (shown["inbound_enabled"], shown["catch_all"], shown["inbound_addresses"]) == (True, False, ["help", "sales"])
    assert ("MX", "in.example", "mx") in [(each["type"], each["name"], each["purpose"]) for each in shown["dns_records"]]
    assert relay.json("domain", "set", "in.example", "--no-inbound")["inbound_enabled"] is False
