"""relay bounces and relay suppress undo, on a store of their own."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.inbound.samples import FOLDER, sample

KEYS = {"address", "class", "rule", "reply"}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.eml")))
def test_every_sample_is_classified(relay, name):
    """Nobody's sample is too odd: each gives what was said of whom, or that there is nothing."""
    done = relay("bounces", "classify", str(FOLDER / f"{name}.eml"), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert all(set(each) >= KEYS for each in found)
    assert found or "there is no bounce" in done.stderr


def test_the_answer_names_address_class_rule_and_reply(relay):
    (found,) = relay.json("bounces", "classify", "-", stdin=sample("postfix").decode())
    assert {name: found[name] for name in KEYS} == {
        "address": "user@example.com", "class": "hard", "rule": "no-such-user",
        "reply": "550 5.1.1 <user@example.com>: Recipient address rejected: User unknown in local recipient table"}


def test_rules_of_ones_own_can_be_tried_out(relay, tmp_path):
    (tmp_path / "mine.toml").write_text('rules = [{name = "theirs", category = "soft", text = "user unknown"}]')
    (found,) = relay.json("bounces", "classify", "-", "--rules", str(tmp_path / "mine.toml"), stdin="550 5.1.1 user unknown\n")
    assert (found["class"], found["rule"], found["suppresses"]) == ("soft", "theirs", False)


@pytest.mark.parametrize("since", ["2h", "2026-01-01T00:00:00Z"])
def test_undo_takes_a_rule_and_a_time(relay, since):
    relay.text("suppress", "add", "a@b.example")
    assert relay.json("suppress", "undo", "--since", since, "--rule", "no-such-user") == {"removed": 0}
    assert relay.json("suppress", "undo", "--since", since, "--reason", "complaint") == {"removed": 0}
    assert relay.json("suppress", "undo", "--since", since, "--reason", "manual") == {"removed": 1}


@pytest.mark.parametrize(("wanted", "said"), [
    pytest.param(("imp_0000000000001",), "nothing of an import imp_0000000000001 is suppressed in project default", id="an import"),
    pytest.param(("--rule", "no-such-rule"), "there is no bounce rule no-such-rule", id="a rule"),
])
def test_undo_of_what_there_is_not_is_an_error(relay, wanted, said):
    relay.text("suppress", "add", "a@b.example")
    done = relay("suppress", "undo", *wanted)
    assert (done.returncode, done.stdout, said in done.stderr) == (1, "", True)
    assert [each["address"] for each in relay.json("suppress", "list")] == ["a@b.example"]


def test_undo_of_another_projects_import_is_an_error(relay):
    relay.text("project", "create", "other")
    batch = relay.json("suppress", "import", "-", "--project", "other", stdin="a@b.example\n")["batch"]
    assert relay("suppress", "undo", batch).returncode == 1
    assert relay.json("suppress", "undo", batch, "--project", "other", "--reason", "complaint") == {"removed": 0}
    assert relay.json("suppress", "undo", batch, "--project", "other") == {"removed": 1}
    assert relay("suppress", "undo", batch, "--project", "other").returncode == 1


def test_undo_of_a_time_alone_is_refused(relay):
    """It would take complaints and what people asked for themselves."""
    relay.text("suppress", "add", "a@b.example")
    done = relay("suppress", "undo", "--since", "2h")
    assert (done.returncode, "a bounce rule, or a reason" in done.stderr) == (1, True)
    assert [each["address"] for each in relay.json("suppress", "list")] == ["a@b.example"]


def test_a_time_that_is_none_is_named(relay):
    done = relay("suppress", "undo", "--since", "lately")
    assert (done.returncode, "'lately' is neither" in done.stderr) == (2, True)


def test_replay_of_nothing_reads_nothing(relay):
    assert relay.json("bounces", "replay", "--dry-run") == {"looked": 0, "lifted": [], "suppressed": [], "dry_run": True}


def test_an_entry_may_end_by_itself(relay):
    relay.text("suppress", "add", "a@b.example", "--for", "2h")
    (found,) = relay.json("suppress", "list")
    lasts = datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["created_at"])
    assert lasts.total_seconds() == 7_200
    assert "in 2h" in relay.text("suppress", "list")
    assert relay("suppress", "add", "a@b.example", "--for", "long").returncode == 2
