"""Certificates of an authority that only the tests trust."""

from __future__ import annotations

import ssl
from functools import cache

import trustme


@cache
def authority() -> trustme.CA:
    """The certificate authority of the tests."""
    return trustme.CA()


@cache
def certificate(*names: str) -> ssl.SSLContext:
    """A server context with a certificate of the tests' authority for these names or addresses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)
    return context
