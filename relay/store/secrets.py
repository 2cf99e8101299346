"""What is sealed in the store, and the secret that seals it.

One `secret_key` serves every use: HKDF-SHA256 (RFC 5869) derives a key per use, so that a token key never opens a DKIM key. It may be a list: the first
seals, all open, so that a key can be replaced while old seals and links live on. Sealed text is "enc:" and base64 of nonce and AES-256-GCM; the name of
what is sealed is authenticated with it, so that one row's seal means nothing in another row.

Without a configured key one is made at the first start in data_dir/secret_key (mode 0600). Relays that share a PostgreSQL must all have the same one,
hence a configured one; `agree` compares a hash in the store and refuses a relay that would seal what others cannot open.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection, select

from relay.errors import ConfigError, StoreError
from relay.store.schema import meta
from relay.store.upsert import insert

PREFIX = "enc:"
NONCE = 12  # octets, as AES-GCM wants them (NIST SP 800-38D §8.2)


def derive(secret: str, use: str) -> bytes:
    """32 octets for one use ("dkim", "tokens", "session", ...) of a secret."""
    return HKDF(SHA256(), 32, None, f"relay {use}".encode()).derive(secret.encode())


@dataclass(frozen=True, slots=True, repr=False)
class Vault:
    """Seals and opens texts for one use. Made from the secrets by `vault`."""

    keys: tuple[AESGCM, ...]

    def seal(self, text: str, name: str) -> str:
        """The text sealed under the first key, bound to `name`."""
        nonce = os.urandom(NONCE)
        return PREFIX + b64encode(nonce + self.keys[0].encrypt(nonce, text.encode(), name.encode())).decode()

    def open(self, sealed: str, name: str) -> str:
        """The text; one that was never sealed is given back as it is. Raises StoreError when no key opens it."""
        if not sealed.startswith(PREFIX):
            return sealed
        octets = b64decode(sealed[len(PREFIX):])
        for key in self.keys:
            try:
                return key.decrypt(octets[:NONCE], octets[NONCE:], name.encode()).decode()
            except InvalidTag:
                continue
        raise StoreError(f"{name} cannot be opened: it was sealed with another secret_key; add that one to the list secret_key")


def vault(secret_keys: Sequence[str], use: str) -> Vault:
    return Vault(tuple(AESGCM(derive(secret, use)) for secret in secret_keys))


def ensure(data_dir: Path, configured: Sequence[str], shared: bool = False) -> tuple[str, ...]:
    """The secrets to use: the configured ones, else the one in data_dir/secret_key, made now if it is not there.

    shared  the store is one that other relays use too; then a made key would differ from theirs, and ConfigError says so
    """
    if configured:
        return tuple(configured)
    if shared:
        raise ConfigError("secret_key", "must be set with PostgreSQL, the same on every relay; make one with: openssl rand -base64 33")
    path = data_dir / "secret_key"
    try:
        return (path.read_text("ascii").strip(),)
    except FileNotFoundError:
        return (_make(path),)


def _make(path: Path) -> str:
    """Write a new secret so that it is on disk, whole, or not there at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text, temporary = secrets.token_urlsafe(33), path.with_name(f".secret_key.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return text


def fingerprints(secret_keys: Sequence[str]) -> list[str]:
    return [hashlib.sha256(derive(secret, "fingerprint")).hexdigest()[:32] for secret in secret_keys]


def agree(conn: Connection, prints: Sequence[str]) -> None:
    """Remember the first secret's fingerprint; raises ConfigError when none of ours is the one that the store was used with."""
    known = conn.scalar(select(meta.c.value).where(meta.c.key == "secret_key"))
    if known is not None and known not in prints:
        raise ConfigError("secret_key", "is not the one this store was used with; links, tokens and DKIM keys made with that one would die. "
                          "Set secret_key to a list that holds both")
    if known != prints[0]:
        statement = insert(conn, meta).values(key="secret_key", value=prints[0])
        conn.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": prints[0]}))
