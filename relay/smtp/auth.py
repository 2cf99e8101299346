"""AUTH: what PLAIN and LOGIN responses say, and the guard against guessing (RFC 4954, RFC 4616).

A mechanism is a row: the challenge it sends when there is no initial response, and a function that takes the responses so far and gives the credential
or the next challenge. The guard counts failures by address: the fifth in ten minutes locks the address out with 421, every failure is answered later than
the one before, a success forgets. Addresses that many apps share (trusted networks, those that may AUTH in the clear) are slowed, never locked out.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from relay.clock import Clock
from relay.errors import Refuse
from relay.mail.reply import Reply

LINE = 12_288  # octets of an AUTH command or response (RFC 4954 §4)
CREDENTIAL = 1_024  # characters of a user name or password that we pass on

FAILURES = 5  # in PERIOD lock an address out
PERIOD = 600.0  # seconds
ADDRESSES = 10_000  # kept at once; the longest quiet one is forgotten first
DELAY = 0.1  # seconds before the first refusal is answered; doubles with each further failure
DELAY_MOST = 5.0  # seconds; mail libraries wait at least 10

BAD_BASE64 = Reply(501, "5.5.2", "the response is not base64")
BAD_RESPONSE = Reply(501, "5.5.2", "the response does not fit the mechanism")


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client claims; printing it does not show the password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credential({self.username!r}, ...)"


def decoded(response: str) -> bytes:
    """The octets of a response line, "=" being the empty one; raises Refuse."""
    if response == "=":
        return b""
    try:
        return base64.b64decode(response.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise Refuse(BAD_BASE64) from None


def plain(responses: Sequence[bytes]) -> Credential | bytes:
    """authorization-id NUL user NUL password (RFC 4616); to act for somebody else is not offered, so the first must be empty or the user."""
    if not responses:
        return b""
    parts = responses[0].split(b"\0")
    if len(parts) != 3 or (parts[0] and parts[0] != parts[1]):
        raise Refuse(BAD_RESPONSE)
    return _credential(parts[1], parts[2])


def login(responses: Sequence[bytes]) -> Credential | bytes:
    """User name, then password, each after its prompt (draft-murchison-sasl-login; what Outlook and many devices speak)."""
    if not responses:
        return b"Username:"
    return b"Password:" if len(responses) == 1 else _credential(responses[0], responses[1])


MECHANISMS: dict[str, Callable[[Sequence[bytes]], Credential | bytes]] = {"PLAIN": plain, "LOGIN": login}


def challenge(text: bytes) -> bytes:
    """The 334 line that asks for the next response."""
    return b"334 " + base64.b64encode(text) + b"\r\n"


def _credential(username: bytes, password: bytes) -> Credential:
    try:
        given = Credential(username.decode("utf-8"), password.decode("utf-8"))
    except UnicodeDecodeError:
        raise Refuse(BAD_RESPONSE) from None
    if not given.password or len(given.username) > CREDENTIAL or len(given.password) > CREDENTIAL or "\0" in given.username + given.password:
        raise Refuse(BAD_RESPONSE)
    return given


class Guard:
    """Failures of AUTH by address, at most ADDRESSES of them; an IPv6 address stands for its /64.

    tell  called with the address and whether it failed, for each AUTH here; who has other guards for the same door (workers) has them `hear` it
    """

    __slots__ = ("_clock", "_failures", "tell")

    def __init__(self, clock: Clock | None = None, tell: Callable[[str, bool], None] | None = None):
        self._clock = clock or Clock()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self.tell = tell

    def locked(self, client: str) -> bool:
        """Whether the address had FAILURES within PERIOD."""
        return len(self._recent(_block(client))) >= FAILURES

    def failed(self, client: str) -> int:
        """Count one; how many there are within PERIOD (never more than twice FAILURES are kept)."""
        if self.tell is not None:
            self.tell(client, True)
        return self._count(_block(client))

    def hear(self, client: str, failed: bool) -> None:
        """What another guard of the same door has seen."""
        if failed:
            self._count(_block(client))
        else:
            self._failures.pop(_block(client), None)

    def _count(self, name: str) -> int:
        times = [*self._recent(name), self._clock.elapsed()][-2 * FAILURES:]
        self._failures[name] = times
        self._failures.move_to_end(name)
        while len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)
        return len(times)

    def succeeded(self, client: str) -> None:
        """Forget the failures of the address."""
        if self._failures.pop(_block(client), None) and self.tell is not None:
            self.tell(client, False)

    def delay(self, client: str) -> float:
        """Seconds that the next refusal is held back."""
        failures = len(self._recent(_block(client)))
        return min(DELAY * 2 ** (failures - 1), DELAY_MOST) if failures else 0.0

    def _recent(self, name: str) -> list[float]:
        times = self._failures.get(name)
        if times is None:
            return []
        since = self._clock.elapsed() - PERIOD
        return [at for at in times if at > since]


def _block(client: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one customer has."""
    if ":" not in client:
        return client
    try:
        return str(IPv6Address(int(IPv6Address(client.partition("%")[0])) >> 64 << 64))
    except ValueError:
        return client
