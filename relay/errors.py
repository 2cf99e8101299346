"""The errors of Relay, each carrying the SMTP reply that it means.

    RelayError                  base of all; never raised itself
    ├── Refuse(reply)           permanent: 5yz over SMTP, 4xx over HTTP
    ├── Defer(reply)            temporary: 4yz over SMTP, 429 or 503 over HTTP; faults and overload are always this
    ├── Malformed(text)         400: a request that cannot be read at all
    ├── Invalid(field, text)    input that cannot be understood: 501/550 over SMTP, 422 over HTTP, names the field at fault
    ├── NotFound(what)          404; never says whether another project has it
    ├── Expired(text)           410: it was ours and its time has passed
    ├── Conflict(text)          409: it exists, or its state forbids the act
    ├── Unauthorized(text)      401: no credential, or one that proves nobody
    ├── Forbidden(text)         403: the credential may not do this
    ├── ConfigError(key, text)  a setting is wrong: names the key and the way out
    ├── NoRoute(reply)          there is no host for this domain: permanent (NXDOMAIN, null MX, loop) or for now (DNS fails), as the reply says
    ├── ConnectFailed(reply)    no host of a route took the connection; carries phase, mx, address, tls of the last one tried
    └── StoreError(text)        the store could not commit or read; the caller answers 4yz
        └── InUse(text)         another process has the data directory

HTTP status is mapped once, in relay/api/errors.py; the SMTP reply is `error.reply`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.mail.reply import Reply


class RelayError(Exception):
    """Base of every error that Relay raises on purpose; `reply` is what an SMTP client hears."""

    code = "internal_error"  # the stable code of an HTTP answer

    def __init__(self, text: str, reply: Reply | None = None):
        super().__init__(text)
        self.text = text
        self.reply = reply or Reply(451, "4.3.0", text)


class Refuse(RelayError):
    """A permanent no for the whole message."""

    code = "refused"

    def __init__(self, reply: Reply, code: str = "refused"):
        super().__init__(reply.text, reply)
        self.code = code


class Defer(RelayError):
    """Not now: the client keeps the message and comes back."""

    code = "try_again_later"

    def __init__(self, reply: Reply, retry_after: float = 30.0, code: str = "try_again_later"):
        super().__init__(reply.text, reply)
        self.retry_after = retry_after  # seconds
        self.code = code


class Malformed(RelayError):
    """A request that cannot be read at all, such as a body that is no JSON."""

    code = "invalid_json"

    def __init__(self, text: str = "the body is not JSON"):
        super().__init__(text, Reply(501, "5.5.2", text))


class Invalid(RelayError):
    """Input that does not mean anything; `field` is the name that the sender used; `faults`, where more than one thing is wrong, all of them."""

    code = "validation_error"
    faults: Sequence[Any] = ()

    def __init__(self, field: str, text: str, reply: Reply | None = None):
        super().__init__(text, reply or Reply(550, "5.6.0", text))
        self.field = field


class NotFound(RelayError):
    """There is no such thing in this project."""

    code = "not_found"

    def __init__(self, text: str):
        super().__init__(text, Reply(550, "5.1.1", text))


class Expired(RelayError):
    """A signed token or link of ours whose time has passed."""

    code = "expired"

    def __init__(self, text: str):
        super().__init__(text, Reply(550, "5.7.0", text))


class Conflict(RelayError):
    """It exists already, or its present state forbids the act."""

    code = "conflict"

    def __init__(self, text: str, code: str = "conflict"):
        super().__init__(text, Reply(550, "5.7.0", text))
        self.code = code


class Unauthorized(RelayError):
    """There is no credential, or it proves nobody."""

    code = "invalid_api_key"

    def __init__(self, text: str = "Invalid API key"):
        super().__init__(text, Reply(535, "5.7.8", text))


class Forbidden(RelayError):
    """The credential is valid and may not do this."""

    code = "forbidden"

    def __init__(self, text: str):
        super().__init__(text, Reply(550, "5.7.1", text))


class ConfigError(RelayError):
    """A setting is wrong; `key` is its dotted name as written in relay.toml."""

    code = "config_error"

    def __init__(self, key: str, text: str):
        super().__init__(f"{key}: {text}" if key else text)
        self.key = key


class StoreError(RelayError):
    """The store could not do it; nothing was changed."""

    code = "store_unavailable"

    def __init__(self, text: str = "the message store is not available, try again later"):
        super().__init__(text, Reply(451, "4.3.0", text))


class InUse(StoreError):
    """Another process has the data directory; this one has done nothing."""


class NoRoute(RelayError):
    """Mail for this domain has nowhere to go, for ever or for now, as the reply says."""

    code = "no_route"

    def __init__(self, reply: Reply):
        super().__init__(reply.text, reply)


class ConnectFailed(RelayError):
    """No host of the route is ready for mail; a permanent reply ends the recipients, any other leaves them to the next attempt.

    phase    "dns" | "connect" | "banner" | "ehlo" | "tls" | "auth" of the last host tried
    mx       its name, "" if none was reached
    address  its IP address
    source   our address, "" if the kernel chose
    tls      version and cipher if it came that far
    seconds  since the first try
    """

    code = "connect_failed"

    def __init__(self, reply: Reply, phase: str, mx: str = "", address: str = "", source: str = "", tls: str = "", seconds: float = 0.0):
        super().__init__(reply.text, reply)
        self.phase, self.mx, self.address, self.source, self.tls, self.seconds = phase, mx, address, source, tls, seconds
