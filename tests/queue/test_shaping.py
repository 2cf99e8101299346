"""The shaping table: which site, which limits, which reactions."""

from __future__ import annotations

import pytest

from relay import shaping
from relay.errors import ConfigError
from relay.mail.reply import Reply
from relay.shaping import Rate

SHAPING = shaping.read()


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        pytest.param(["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com."], "google", id="gmail"),
        pytest.param(["ASPMX.L.GOOGLE.COM", "alt3.aspmx.l.google.com", "aspmx2.googlemail.com"], "google", id="workspace-with-both-suffixes"),
        pytest.param(["mta5.am0.yahoodns.net"], "yahoo", id="yahoo"),
        pytest.param(["hotmail-com.olc.protection.outlook.com"], "outlook", id="consumer"),
        pytest.param(["example-com.mail.protection.outlook.com"], "office365", id="business-is-not-consumer"),
        pytest.param(["example-com.k-v1.mx.microsoft"], "office365", id="business-with-dane"),
        pytest.param(["aspmx.l.google.com", "backup.example.net"], None, id="a-mixed-set-is-its-own-site"),
        pytest.param(["notgoogle.com"], None, id="suffixes-begin-at-a-dot"),
        pytest.param(["eu-smtp-inbound-1.mimecast.com", "eu-smtp-inbound-2.mimecast.com"], "mimecast-eu", id="whole-names"),
        pytest.param(["evil-eu-smtp-inbound-1.mimecast.com"], None, id="whole-names-are-whole"),
        pytest.param([], None, id="no-hosts"),
    ],
)
def test_provider(hosts, name):
    assert SHAPING.provider(hosts) == name


@pytest.mark.parametrize(
    ("site", "connections", "messages", "tls", "rate"),
    [
        ("mx.example.net", 10, 100, "", None),
        ("google", 5, 50, "required", None),
        ("yahoo", 10, 20, "", None),
        ("apple", 10, 5, "", None),
        ("orange", 2, 100, "required", None),
        ("yahoo-japan", 2, 20, "", Rate(10, 1.0)),
        ("route:127.0.0.1:25", 10, 100, "", None),
    ],
)
def test_limits(site, connections, messages, tls, rate):
    found = SHAPING.limits(site)
    assert (found.connections, found.messages, found.tls, found.rate, found.idle) == (connections, messages, tls, rate, 60.0)


@pytest.mark.parametrize(
    ("site", "total", "sources", "connections"),
    [
        pytest.param("mx.example.net", 500, 0, 10, id="the-kernel-chooses"),
        pytest.param("mx.example.net", 500, 3, 30, id="ten-from-each-source"),
        pytest.param("yahoo", 500, 3, 30, id="a-provider-without-a-number-of-its-own"),
        pytest.param("google", 500, 3, 5, id="a-provider-counts-them-together"),
        pytest.param("mx.example.net", 40, 3, 10, id="never-more-than-a-quarter-of-all"),
    ],
)
def test_connections_by_source(site, total, sources, connections):
    assert shaping.Shaping.load(total, sources=sources).limits(site).connections == connections


@pytest.mark.parametrize(
    ("site", "text", "category", "brings"),
    [
        pytest.param("yahoo", "[TSS04] Messages temporarily deferred", "rate", {"suspend": 7200.0, "rate": 5400.0}, id="yahoo-tss04-and-the-general-rule"),
        pytest.param("google", "an unusual rate of mail", "rate", {"rate": 1800.0}, id="google"),
        pytest.param("mx.example.net", "Server busy", "soft", {"rate": 5400.0}, id="the-general-rule-alone"),
        pytest.param("mx.example.net", "no such user", "hard", {}, id="a-recipient-of-no-account-slows-nobody"),
        pytest.param("route:127.0.0.1:25", "Server busy, temporarily deferred", "rate", {}, id="a-smarthost-has-no-reactions"),
    ],
)
def test_reactions(site, text, category, brings):
    rows = [row for row in SHAPING.reactions(site, Reply(421, "4.7.0", text), category) if row.text]
    assert {("suspend" if row.suspend else "rate"): row.seconds for row in rows} == brings


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[default]\nconections = 3', "has no key 'conections'"),
        ("[default]\nconnections = 0", "1 or more"),
        ("[default]\nper_source = 3", "true or false"),
        ('[default]\nrate = "fast"', "messages in a time"),
        ('[default]\nreactions = [{text = "x", times = 1}]', "what it brings on"),
        ('[default]\nreactions = [{text = "(", suspend = true}]', "not a regular expression"),
        ('[[site]]\nname = "a"', "needs a name"),
        ('[[site]]\nname = "a"\nmx = [".a"]\ntls = "maybe"', "tls is"),
        ('[default]\nidle = "soon"', "is a duration"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, text, says):
    (tmp_path / "shaping.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"shaping\.toml") as error:
        shaping.read(tmp_path / "shaping.toml")
    assert says in error.value.text
