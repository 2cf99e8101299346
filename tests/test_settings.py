"""The settings: what a file and the environment give, and what is said about a mistake."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path

import pytest

from relay import policy, settings
from relay.errors import ConfigError
from relay.kinds import annotated

CONFIG = Path(__file__).parent.parent / "config"


def from_text(tmp_path: Path, text: str, **environ: str) -> settings.Settings:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    return settings.load(file, environ)


@pytest.mark.parametrize(("text", "name", "value"), [
    pytest.param('shutdown_timeout = "1h30m"', "shutdown_timeout", 5400.0, id="duration"),
    pytest.param("shutdown_timeout = 3", "shutdown_timeout", 3.0, id="duration-seconds"),
    pytest.param('[rspamd]\ntimeout = "250ms"', "rspamd.timeout", 0.25, id="duration-ms"),
    pytest.param('[smtp]\nmax_size = "25MB"', "smtp.max_size", 25_000_000, id="size-decimal"),
    pytest.param('[smtp]\nmax_size = "25MiB"', "smtp.max_size", 26_214_400, id="size-binary"),
    pytest.param("[smtp]\nmax_size = 1000", "smtp.max_size", 1000, id="size-bytes"),
    pytest.param('[smtp]\nsubmission = "[::1]:587"', "smtp.submission", "[::1]:587", id="address-ipv6"),
    pytest.param('[smtp]\ntrusted_networks = ["10.1.0.0/16"]', "smtp.trusted_networks", (ipaddress.ip_network("10.1.0.0/16"),), id="networks"),
    pytest.param('[http]\npublic_url = "https://m.example/"', "http.public_url", "https://m.example", id="url-without-slash"),
    pytest.param('[http]\nlisten = "127.0.0.1:8025"', "http.public_url", "http://127.0.0.1:8025", id="url-from-listen"),
    pytest.param('data_dir = "/srv/r"', "store.url", "sqlite:////srv/r/relay.db", id="store-in-data-dir"),
    pytest.param('[policies]\nsubmit = ["policies.headers"]', "policies.submit", ({"use": "policies.headers"},), id="chain-of-names"),
    pytest.param('[[policies.attempt]]\nuse = "acme.sign"\nlevel = 3', "policies.attempt", ({"use": "acme.sign", "level": 3},), id="chain-with-options"),
    pytest.param(f'secret_key = ["{"a" * 32}", "{"b" * 32}"]', "secret_key", ("a" * 32, "b" * 32), id="secret-list"),
])
def test_a_file_says(tmp_path, text, name, value):
    found = from_text(tmp_path, text)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(("environ", "name", "value"), [
    pytest.param({"RELAY_SMTP__SUBMISSION": "127.0.0.1:25"}, "smtp.submission", "127.0.0.1:25", id="section"),
    pytest.param({"RELAY_HOSTNAME": "Mail.Example.com"}, "hostname", "mail.example.com", id="top-level-folded"),
    pytest.param({"RELAY_DOMAINS__REQUIRE_VERIFIED": "false"}, "domains.require_verified", False, id="switch"),
    pytest.param({"RELAY_DELIVERY__PORT": "2525"}, "delivery.port", 2525, id="number"),
    pytest.param({"RELAY_SHUTDOWN_TIMEOUT": "5m"}, "shutdown_timeout", 300.0, id="duration"),
    pytest.param({"RELAY_DNS__NAMESERVERS": "127.0.0.1:53, 127.0.0.2:53"}, "dns.nameservers", ("127.0.0.1:53", "127.0.0.2:53"), id="list-by-comma"),
    pytest.param({"RELAY_DNS__NAMESERVERS": '["127.0.0.1:53"]'}, "dns.nameservers", ("127.0.0.1:53",), id="list-as-toml"),
    pytest.param({"RELAY_POLICIES__COPY": "[]"}, "policies.copy", (), id="empty-chain"),
    pytest.param({"RELAY_POLICIES__SUBMIT": '[{use = "policies.limit", hour = 3}]'}, "policies.submit", ({"use": "policies.limit", "hour": 3},), id="tables"),
    pytest.param({"RELAY_CONFIG": "/x", "RELAY_PORT": "tcp://10.0.0.1:587", "RELAY_SERVICE_HOST": "10.0.0.1", "PATH": "/bin"},
                 "delivery.port", 25, id="others-are-left-alone"),
])
def test_the_environment_wins(tmp_path, environ, name, value):
    found = from_text(tmp_path, '[smtp]\nsubmission = "127.0.0.1:1"', **environ)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(("text", "says"), [
    pytest.param('hostnam = "a"', "hostnam: is not a setting; did you mean hostname?", id="top-level"),
    pytest.param('[smtp]\nsubmision = "a"', "smtp.submision: is not a setting; did you mean smtp.submission?", id="in-section"),
    pytest.param('submission = "a"', "submission: is not a setting; did you mean smtp.submission?", id="wrong-section"),
    pytest.param('[smpt]\nsubmission = "a"', "smpt: is not a setting", id="section"),
    pytest.param('[[delivery.route]]\nhost = "a:1"\ndomian = "b"', "delivery.route[0].domian: is not a setting; did you mean delivery.route.domain?",
                 id="in-table"),
    pytest.param('[smtp]\nsubmission = "2525"', """smtp.submission: '2525' is not an address such as "127.0.0.1:2525\"""", id="address"),
    pytest.param('[smtp]\nsubmission = "a:99999"', "smtp.submission: 'a:99999' is not an address", id="port-range"),
    pytest.param('[smtp]\nmax_size = "25 lots"', "smtp.max_size: '25 lots' is not a size such as", id="size"),
    pytest.param('shutdown_timeout = "5 minutes"', "shutdown_timeout: '5 minutes' is not a duration such as", id="duration"),
    pytest.param("shutdown_timeout = -1", "shutdown_timeout: -1 is not a duration", id="negative"),
    pytest.param("[domains]\nrequire_verified = 1", "domains.require_verified: 1 is not true or false", id="switch"),
    pytest.param('[smtp]\nplaintext_auth = ["10.0.0.1/8"]', "10.0.0.1/8 has host bits set", id="network-with-host-bits"),
    pytest.param('[smtp]\ntrusted_networks = ["0.0.0.0/0"]', "smtp.trusted_networks: 0.0.0.0/0 or ::/0 would make an open relay", id="open-relay"),
    pytest.param('[smtp]\ntls_cert = "a.pem"', "smtp.tls_key: is missing", id="cert-without-key"),
    pytest.param('[smtp]\nsubmissions = "a:465"', "smtp.submissions: needs smtp.tls_cert", id="implicit-tls-without-cert"),
    pytest.param('[suppress]\nsmtp = "drop"', """suppress.smtp: 'drop' is not one of "reject", "accept\"""", id="one-of"),
    pytest.param('[store]\nurl = "mysql://a/b"', 'store.url: is not "sqlite:///path"', id="store-url"),
    pytest.param('[store]\nreserve = "1GB"', "store.reserve: is above store.min_free", id="reserve"),
    pytest.param('[[delivery.route]]\ndomain = "b"', "delivery.route[0].host: is missing", id="route-without-host"),
    pytest.param('[delivery]\nroute = "b"', "delivery.route: is a list of tables; write [[delivery.route]]", id="not-a-table"),
    pytest.param("smtp = 3", "smtp: is a table; write [smtp]", id="not-a-section"),
    pytest.param('secret_key = "short and secret"', "secret_key: that is not a text of 32 characters or more", id="secret-is-not-shown"),
    pytest.param('secret_key_file = "/nonexistent"', "secret_key_file: cannot be read", id="secret-file-missing"),
    pytest.param('data_dir_file = "/x"', "data_dir_file: is not a setting; did you mean data_dir?", id="file-of-no-secret"),
    pytest.param("[policies]\nsubmit = [{name = 'a'}]", 'each entry needs use = "policies.name"', id="chain-without-use"),
    pytest.param("a = ", "is not TOML", id="syntax"),
])
def test_a_mistake_is_named_with_the_way_out(tmp_path, text, says):
    with pytest.raises(ConfigError) as error:
        from_text(tmp_path, text)
    assert says in error.value.text
    assert "short and secret" not in error.value.text


@pytest.mark.parametrize(("name", "says"), [
    ("RELAY_SMTP__SUBMISION", "did you mean RELAY_SMTP__SUBMISSION?"),
    ("RELAY_SUBMISSION", "did you mean RELAY_SMTP__SUBMISSION?"),
    ("RELAY_HOSTNAME__X", "is not a setting"),
])
def test_a_mistaken_variable_is_named(name, says):
    with pytest.raises(ConfigError, match=re.escape(says)) as error:
        settings.load(None, {name: "127.0.0.1:1"})
    assert error.value.key == name


def test_a_missing_file_names_the_ways_to_give_one(tmp_path):
    with pytest.raises(ConfigError, match="--config FILE"):
        settings.load(tmp_path / "none.toml", {})


def test_a_secret_from_a_file_and_never_in_a_repr(tmp_path):
    (tmp_path / "secret").write_text("s" * 40 + "\n")
    found = from_text(tmp_path, f'secret_key_file = "{tmp_path}/secret"\n[[delivery.route]]\nhost = "a:1"\nusername = "u"\npassword_file = "{tmp_path}/secret"')
    assert found.secret_key == ("s" * 40,)
    assert found.delivery.route[0].password == "s" * 40
    assert "sssss" not in repr(found)


def test_both_a_secret_and_its_file_is_a_mistake(tmp_path):
    (tmp_path / "secret").write_text("s" * 40)
    with pytest.raises(ConfigError, match="keep one of the two"):
        from_text(tmp_path, f'secret_key = "{"a" * 40}"\nsecret_key_file = "{tmp_path}/secret"')


@pytest.mark.parametrize(("route", "tls"), [
    ('host = "smtp.example.com:587"\nusername = "u"', "required"),
    ('host = "127.0.0.1:587"\nusername = "u"', "opportunistic"),
    ('host = "smtp.example.com"', "opportunistic"),
    ('host = "smtp.example.com:465"\ntls = "implicit"', "implicit"),
])
def test_a_password_crosses_a_network_only_under_tls(tmp_path, route, tls):
    assert from_text(tmp_path, f"[[delivery.route]]\n{route}").delivery.route[0].tls == tls


@pytest.mark.parametrize(("host", "means"), [
    ("mx.example.com", "mx.example.com:25"), ("192.0.2.1", "192.0.2.1:25"), ("::1", "[::1]:25"), ("[::1]:26", "[::1]:26")])
def test_a_route_has_a_port(tmp_path, host, means):
    assert from_text(tmp_path, f'[[delivery.route]]\nhost = "{host}"').delivery.route[0].host == means


def test_the_annotated_file_is_the_schema():
    text = (CONFIG / "relay.toml").read_text()
    assert text == annotated(settings.Settings), "run: python -m relay.settings > config/relay.toml"
    assert settings.load(CONFIG / "relay.toml") == settings.load(None)
    written = tomllib.loads(re.sub(r"^#(\[\[|\w+ = )", r"\1", text, flags=re.M))
    assert set(_names(written)) == {name.replace("[]", "") for name, _ in settings.rows(settings.Settings)}


def _names(tree: object, at: str = ""):
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _names(value, f"{at}.{name}" if at else name)
    elif at.startswith("policies.") or not (isinstance(tree, list) and tree and isinstance(tree[0], dict)):
        yield at
    else:
        yield from _names(tree[0], at)


def test_the_laptop_keeps_everything_on_the_machine():
    local = settings.load(CONFIG / "local.toml")
    assert (local.smtp.submission, local.smtp.inbound, local.http.listen) == ("127.0.0.1:2525", "127.0.0.1:2500", "127.0.0.1:8025")
    assert local.delivery.route[0].domain == "*"
    assert local.delivery.route[0].host == local.capture.listen
    assert not local.domains.require_verified


def test_the_default_chains_are_those_of_the_policies():
    chains = settings.Settings().policies
    assert [tuple(e["use"] for e in chain) for chain in (chains.submit, chains.copy, chains.attempt)] == [policy.ADMIT, policy.COPY, policy.DEPART]


def test_a_reload_says_what_it_cannot_change(tmp_path):
    old = from_text(tmp_path, '[http]\npublic_url = "https://m.example"')
    new = from_text(tmp_path, 'hostname = "other.example"\n[rspamd]\nwarn = 4\n[[delivery.route]]\nhost = "a:1"\n[http]\npublic_url = "https://m.example"')
    assert settings.changed(old, new) == (("delivery.route", "rspamd.warn"), ("hostname",))
    applied = settings.applied(old, new)
    assert (applied.hostname, applied.rspamd.warn, applied.delivery.route) == (old.hostname, 4.0, new.delivery.route)
    assert settings.changed(applied, new) == ((), ("hostname",))
