"""Control: what an operator can do to a relay, as acts that take and give JSON.

    control.acts      the table of acts: key_create, domain_verify, queue_retry, explain, ...
    control.server    the socket in data_dir on which a running relay takes them; control.client the other end
    control.alone     acts without a running relay
    control.records   the DNS records of a domain, pure

An act is an async function of a Control and named arguments. The command line runs it in the running relay, so that caches and workers hear of it at once, or,
when none runs, in its own process with the store opened by itself; the API calls the same functions. They raise the errors of relay.errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relay.clock import Clock
from relay.mail.ids import Maker

if TYPE_CHECKING:
    from relay.audience.bulk import Bulk
    from relay.audience.imports import Imports
    from relay.bounces import Rules
    from relay.delivery.dns import Resolver
    from relay.leader import Leader
    from relay.mail.tokens import Tokens
    from relay.settings import Settings
    from relay.store.engine import Store
    from relay.store.secrets import Vault
    from relay.submission import Door


def _nobody(kind: str) -> None:
    """There is nobody to tell: no relay runs in this process."""


@dataclass(slots=True)
class Control:
    """What acts work on.

    vault     seals DKIM keys: secrets.vault(secret_keys, "dkim")
    runner    the queue runner, None when no relay runs in this process
    changed   told "keys", "domains", "projects", "suppressions" or "queue" after a change has committed, so that caches and workers drop what they remember
    status    what the running relay says of itself, for `relay queue` and the dashboard
    imports   the imports at work in this process; bulk the acts on many contacts
    tokens    make the addresses that reports about a domain are sent to
    door      gives the door of the running relay; None when none runs in this process
    rules     what refusals mean to the running relay; None reads [suppress] rules
    """

    store: Store
    settings: Settings
    vault: Vault
    resolver: Resolver
    runner: Leader | None = None
    clock: Clock = field(default_factory=Clock)
    maker: Maker = field(default_factory=Maker)
    changed: Callable[[str], None] = _nobody
    status: Callable[[], Mapping[str, Any]] = dict
    imports: Imports | None = None
    bulk: Bulk | None = None
    tokens: Tokens | None = None
    door: Callable[[], Door] | None = None
    rules: Rules | None = None

    async def act(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The JSON-able result of an act; raises Invalid for an act or argument that does not exist, and what the act raises."""
        from relay.control.acts import perform  # the acts import the whole store; who only wants the class does not wait for that

        return await perform(self, name, arguments)
