"""The certificate of the listeners, reloaded by itself when its file changes (RFC 8314, RFC 3207).

One SSLContext serves all connections for the life of the process. Before a handshake the files are looked at, at most once a second; a changed pair is
tried in a context of its own first and only then loaded into the one in use, so a half-written renewal leaves the old certificate working.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from cryptography import x509

from relay import log, metrics
from relay.clock import Clock
from relay.errors import ConfigError
from relay.metrics import SMTP_TLS_SESSIONS

LOOK = 1.0  # seconds between two looks at the files

LOG = log.get("smtp")


class Certificate:
    """A certificate chain and its key, from PEM files.

    context  for servers: TLS 1.2 or later, no client certificates, no ALPN
    expires  UTC seconds at which the first certificate of the chain ends
    """

    __slots__ = ("_cert", "_clock", "_key", "_looked", "_state", "context", "expires")

    def __init__(self, cert: str | Path, key: str | Path = "", clock: Clock | None = None):
        """Raises ConfigError for files that cannot be read or do not belong together. An empty `key` means: in the same file."""
        self._cert, self._key = str(cert), str(key or cert)
        self._clock = clock or Clock()
        self.context = _context()
        self.expires = 0.0
        try:
            self._state = self._files()
            self._load()
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError("smtp.tls_cert", f"{self._cert} with {self._key} cannot be used: {error}") from None
        self._looked = self._clock.elapsed()

    def current(self) -> ssl.SSLContext:
        """The context, with the pair that the files hold now (or the last that worked)."""
        now = self._clock.elapsed()
        if now - self._looked >= LOOK:
            self._looked = now
            self.reload()
        return self.context

    def reload(self) -> bool:
        """Look at the files at once; whether a new pair was loaded."""
        try:
            state = self._files()
            if state == self._state:
                return False
            self._state = state
            self._load()
        except (OSError, ssl.SSLError, ValueError) as error:
            LOG.error("certificate not reloaded, the old one stays", cert=self._cert, error=str(error))
            return False
        LOG.info("certificate reloaded", cert=self._cert, expires=self.expires)
        return True

    def _files(self) -> tuple[tuple[int, int, int], ...]:
        found = (os.stat(self._cert), os.stat(self._key))
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)

    def _load(self) -> None:
        _context().load_cert_chain(self._cert, self._key, password=_no_password)
        chain = x509.load_pem_x509_certificates(Path(self._cert).read_bytes())
        self.context.load_cert_chain(self._cert, self._key, password=_no_password)
        self.expires = chain[0].not_valid_after_utc.timestamp()
        metrics.certificate(self._cert, self.expires)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # mail clients resume nothing, and some mail servers of Microsoft's break on tickets that come with the 220
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give it without a passphrase")


def spoken(ssl_object: ssl.SSLObject | None) -> str:
    """What the Received field says of a connection: "TLSv1.3 cipher TLS_AES_256_GCM_SHA384", "" in the clear."""
    cipher = ssl_object.cipher() if ssl_object is not None else None
    return f"{ssl_object.version()} cipher {cipher[0]}" if ssl_object is not None and cipher else ""


FAMILIES = (("CHACHA20", "chacha20"), ("GCM", "aes-gcm"), ("CCM", "aes-ccm"), ("AES", "aes-cbc"))  # the first whose letters a cipher's name has


def family(cipher: str) -> str:
    """The family of a cipher, by the name that OpenSSL has for it: "TLS_AES_256_GCM_SHA384" and "ECDHE-RSA-AES128-GCM-SHA256" are "aes-gcm".

    OpenSSL names AES in CBC mode, which TLS 1.2 still has, without its mode (RFC 5246 A.5).
    """
    return next((name for letters, name in FAMILIES if letters in cipher), "other")


def counted(ssl_object: ssl.SSLObject | None, direction: str) -> None:
    """Count a session whose handshake has succeeded; `direction` "in" or "out"."""
    cipher = ssl_object.cipher() if ssl_object is not None else None
    if ssl_object is not None and cipher:
        SMTP_TLS_SESSIONS.labels(ssl_object.version() or "", family(cipher[0]), direction).inc()
