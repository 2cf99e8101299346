"""Unsubscribe by mail: whoever writes to unsub+TOKEN@ wants out, whatever the mail says and whoever it is from (RFC 2369 §3.2).

The token is the proof, as it is behind the link; both are the same act of relay.consent. Nothing is answered.
"""

from __future__ import annotations

from relay import consent
from relay.consent import Act, Done
from relay.mail.ids import Maker
from relay.metrics import LEFT
from relay.store.engine import Store

SOURCE = "mailto"


async def leave(store: Store, number: int, native: str, act: Act, maker: Maker) -> Done:
    """The recipient of this id is out when this returns; a second time changes nothing. Raises NotFound, StoreError.

    native  settings.suppress.unsubscribe
    act     what is known of the mail, of source SOURCE
    """
    done: Done = await store.write(consent.unsubscribe, number, native, act, maker)
    if done.new:
        LEFT.labels(act.source).inc()
    return done
