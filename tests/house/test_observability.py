"""Alert rules and the board: valid, proven by Prometheus' own tool, and about series and commands that exist."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

import policies
import relay
from relay import cli
from relay.cli.main import relay as command_line
from relay.metrics import REGISTRY, exposition

CONFIG = Path(__file__).parents[2] / "config"
RULES = CONFIG / "prometheus" / "alerts.yml"
PROOFS = CONFIG / "prometheus" / "alerts.test.yml"
BOARD = json.loads((CONFIG / "grafana" / "relay.json").read_text())

ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
COMMANDS = sorted(set(re.findall(r"^ +command: (.+)$", RULES.read_text(), re.MULTILINE)))
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]


def promtool(need, *arguments: str) -> str:
    environ = {**os.environ, "GOGC": "800"}  # it holds little and ends soon: a fifth less time
    done = subprocess.run([need("promtool"), *arguments], capture_output=True, text=True, cwd=RULES.parent, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def series() -> set[str]:
    """Every series that some room of Relay can expose, with the suffixes of histograms and counters."""
    for module in (*pkgutil.walk_packages(relay.__path__, "relay."), *pkgutil.walk_packages(policies.__path__, "policies.")):
        if not re.search(r"__main__|_config|migrations", module.name):
            importlib.import_module(module.name)
    found = set()
    for family in REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        found |= {f"{family.name}{suffix}" for suffix in suffixes}
    return found


def names(text: str) -> set[str]:
    return set(re.findall(r"\b(?:relay|process)_[a-z_]+\b", re.sub(r'"[^"]*"', "", text)))


async def test_the_exposition_satisfies_promtool(need, series):
    text = await exposition()
    assert all(f"# TYPE {name} ".encode() in text for name in ("relay_build_info", "relay_dkim_key_age_seconds", "process_resident_memory_bytes"))
    checked = subprocess.run([need("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)  # noqa: ASYNC221
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_rules_are_valid(need):
    assert f"{len(ALERTS)} rules found" in promtool(need, "check", "rules", RULES.name)


def test_the_example_for_prometheus_is_valid(need):
    assert "SUCCESS" in promtool(need, "check", "config", "prometheus.yml")


def test_each_alert_fires_on_its_trouble_alone(need):
    assert "SUCCESS" in promtool(need, "test", "rules", PROOFS.name)
    unproven = set(ALERTS) - set(re.findall(r'alertname="(\w+)"', PROOFS.read_text()))
    assert not unproven


def test_a_proof_can_fail(need, tmp_path):
    """The tool does compare: with a rule turned round the first proof fails, which holds with the rule as it is."""
    first = "  - name: ".join(PROOFS.read_text().split("  - name: ", 2)[:2])
    (tmp_path / PROOFS.name).write_text(first)
    (tmp_path / RULES.name).write_text(RULES.read_text())
    command = [need("promtool"), "test", "rules", PROOFS.name]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / RULES.name).write_text(RULES.read_text().replace("relay_store_healthy == 0", "relay_store_healthy == 1"))
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, check=False).returncode == 1


def test_each_alert_says_what_to_run():
    for alert in re.split(r"(?=- alert: )", RULES.read_text())[1:]:
        assert {"summary:", "description:", "command:"} <= set(alert.split()), alert.splitlines()[0]


def test_rules_and_board_are_about_series_that_exist(series):
    wanted = set().union(*map(names, (RULES.read_text(), PROOFS.read_text(), *EXPRESSIONS)))
    assert len(wanted) > 20
    assert wanted <= series, f"nobody exposes {sorted(wanted - series)}"


PROMISED = """
    queue_messages queue_oldest_age_seconds queue_age_seconds queue_bytes queue_due_lag_seconds queue_delayed_total destinations_active destinations_suspended
    delivery_attempts_total delivery_responses_total delivery_attempt_seconds accept_to_delivered_seconds attempts_per_message bounces_total
    connections_out_open connections_out_total deliveries_per_connection connection_reuse_total controller_concurrency_limit controller_rate_limit
    tls_out_total dns_lookups_total dns_lookup_seconds messages_received_total messages_rejected_total message_size_bytes
    smtp_auth_total smtp_commands_total smtp_connections_open smtp_connections_total smtp_connections_denied_total smtp_tls_sessions_total
    smtp_data_commit_seconds smtp_transaction_seconds store_commit_seconds store_commit_batch_size store_fsync_errors_total store_bytes store_healthy
    smtp_data_read_seconds disk_free_inodes message_load_seconds queue_inserts_total queue_removals_total scheduler_loop_seconds bind_failures_total
    rspamd_requests_total rspamd_seconds rspamd_score dkim_sign_total dkim_sign_seconds suppressed_total policy_seconds_total config_epoch config_reload_total
    disk_free_bytes load_shed_active policy_decisions_total eventloop_lag_seconds eventloop_tasks executor_queue_depth build_info tls_cert_expiry_seconds
    http_inject_requests_total store_fsync_seconds dkim_key_age_seconds suppression_entries event_backlog event_delivery_lag_seconds memory_limit_ratio contacts
    disk_free_ratio clock_steps_total
"""


@pytest.mark.parametrize("name", PROMISED.split())
def test_what_operators_were_promised_is_there(series, name):
    assert {f"relay_{name}", f"relay_{name}_bucket"} & series


def test_the_board_shows_all_that_is_counted_of_workflows(series):
    counted = {name for name in series if name.startswith("relay_workflow_")}
    assert len(counted) > 4
    assert counted <= names(" ".join(EXPRESSIONS))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("relay ")])
def test_the_commands_exist(command):
    """Each word that is a command is one, and each option is known; placeholders stand for arguments."""
    for module in pkgutil.iter_modules(cli.__path__, "relay.cli."):
        importlib.import_module(module.name)
    words = shlex.split(re.sub(r"\{\{[^}]*\}\}", "x", command))[1:]
    found: click.Command = command_line
    while isinstance(found, click.Group):
        found = found.commands[words.pop(0)]
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_board_imports_without_loss():
    identifiers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in BOARD["panels"])


def test_the_boards_expressions_parse(need, tmp_path):
    """As recording rules, so that Prometheus reads each; Grafana's variables get values that Prometheus knows."""
    plain = [e.replace("$__rate_interval", "5m").replace("$instance", ".*") for e in EXPRESSIONS]
    rules = {"groups": [{"name": "board", "rules": [{"record": f"board:{n}", "expr": e} for n, e in enumerate(plain)]}]}
    path = tmp_path / "board.yml"
    path.write_text(json.dumps(rules))  # JSON is YAML
    assert f"{len(plain)} rules found" in promtool(need, "check", "rules", str(path))
