"""Times as an operator writes them: how long ago, or when."""

from __future__ import annotations

import time
from datetime import datetime

import click

from relay.kinds import DURATION, duration


def since(text: str) -> float:
    """UTC seconds of "2h" (ago), or of "2026-11-21T10:00:00Z"; raises click.BadParameter for --since."""
    try:
        return datetime.fromisoformat(text).timestamp() if "-" in text else time.time() - duration(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither {DURATION.form} nor a time such as 2026-11-21T10:00:00Z", param_hint="--since") from None


def lasting(text: str) -> float:
    """Seconds of "30d"; raises click.BadParameter for --for."""
    try:
        return duration(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {DURATION.form}", param_hint="--for") from None
