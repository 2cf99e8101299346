"""What is left of the sending limits, as X-RateLimit-* fields; none without a [limit], which is how a relay comes."""

from __future__ import annotations

from relay.api.core import Relay
from relay.mail.message import Principal
from relay.store import counters

RULES = (("key", "hour", 3_600.0), ("key", "day", 86_400.0), ("project", "hour", 3_600.0), ("project", "day", 86_400.0))  # as policies.limit counts


async def headers(here: Relay, who: Principal) -> dict[str, str]:
    """X-RateLimit-Limit, -Remaining and -Reset (seconds) of the limit that has least room."""
    rooms = []
    for of, span, period in RULES:
        limit = getattr(here.settings.limit, f"{of}_per_{span}")
        number = who.key_id if of == "key" else who.project
        if limit and number is not None:
            used = await here.store.read(counters.used, f"limit:{of}:{number}:{span}", period, here.clock.now())
            rooms.append((max(0, limit - used), limit, period))
    if not rooms:
        return {}
    left, limit, period = min(rooms)
    return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(int(period))}
