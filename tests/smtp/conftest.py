"""A certificate for relay.test, and clients that trust it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from relay.smtp.tls import Certificate


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    path = tmp_path_factory.mktemp("tls") / "relay.pem"
    write_certificate(authority, path)
    return Certificate(path)


@pytest.fixture(scope="session")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def write_certificate(authority: trustme.CA, path: Path, name: str = "relay.test") -> None:
    """Key and chain in one PEM file."""
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))
