"""What is sealed, with what, and who may open it."""

from __future__ import annotations

import stat

import pytest
from sqlalchemy import create_engine

from relay.errors import ConfigError, StoreError
from relay.store import secrets
from relay.store.schema import metadata

A, B = "a" * 32, "b" * 32


def test_a_seal_opens_only_under_its_name_and_use():
    vault = secrets.vault([A], "dkim")
    sealed = vault.seal("private", "s1")
    assert sealed.startswith("enc:")
    assert "private" not in sealed
    assert vault.open(sealed, "s1") == "private"
    assert vault.seal("private", "s1") != sealed
    for other, name in ((vault, "s2"), (secrets.vault([A], "tokens"), "s1"), (secrets.vault([B], "dkim"), "s1")):
        with pytest.raises(StoreError, match="secret_key"):
            other.open(sealed, name)


def test_an_old_secret_in_the_list_still_opens():
    sealed = secrets.vault([A], "dkim").seal("private", "s1")
    assert secrets.vault([B, A], "dkim").open(sealed, "s1") == "private"


def test_what_was_never_sealed_is_given_back():
    assert secrets.vault([A], "dkim").open("-----BEGIN PRIVATE KEY-----", "s1") == "-----BEGIN PRIVATE KEY-----"


def test_a_secret_is_made_once_and_readable_by_nobody_else(tmp_path):
    made = secrets.ensure(tmp_path / "data", ())
    assert len(made[0]) >= 32
    assert secrets.ensure(tmp_path / "data", ()) == made
    assert stat.S_IMODE((tmp_path / "data" / "secret_key").stat().st_mode) == 0o600
    assert secrets.ensure(tmp_path / "data", (A, B)) == (A, B)


def test_relays_that_share_a_database_need_a_configured_secret(tmp_path):
    with pytest.raises(ConfigError, match="openssl rand"):
        secrets.ensure(tmp_path, (), shared=True)


def test_a_store_refuses_a_relay_with_another_secret():
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as conn:
        secrets.agree(conn, secrets.fingerprints([A]))
        secrets.agree(conn, secrets.fingerprints([A]))
        with pytest.raises(ConfigError, match="list that holds both"):
            secrets.agree(conn, secrets.fingerprints([B]))
        secrets.agree(conn, secrets.fingerprints([B, A]))
        secrets.agree(conn, secrets.fingerprints([B]))
