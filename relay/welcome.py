"""What a starting relay says to a person: where to send, with which key, and one line to paste that works.

Only config/local.toml (its capture server) or a terminal gets a fresh key, at the first start; a service's log never does.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from relay.control import keys

if TYPE_CHECKING:
    from relay.app import Relay

TEXT = """
Relay is ready.

  SMTP        {smtp}   any user name, the API key as password
  API key     {key}   ({command} makes another)
  Dashboard   http://{http}/dashboard

Try it:

  printf 'From: me@example.com\\nTo: you@example.net\\nSubject: hello\\n\\nIt works.\\n' | \\
    curl -s --crlf --url smtp://{smtp} --user app:{key} --mail-from me@example.com --mail-rcpt you@example.net --upload-file -

or, where swaks is installed:

  swaks --server {smtp} --auth PLAIN --auth-user app --auth-password {key} --from me@example.com --to you@example.net

Stop with Ctrl-C.
"""

LATER = "YOUR_KEY"  # after the first start only its owner knows it; `relay key create` makes another


async def greet(relay: Relay) -> None:
    """Print the welcome where a person reads it."""
    config = relay.config
    if not config.smtp.submission or not (config.capture.listen or sys.stdout.isatty()):
        return
    key = LATER if await keys.every(relay.control) else (await keys.create(relay.control, name="laptop"))["key"]
    command = "relay key create" + (f" --config {shlex.quote(relay.path)}" if relay.path else "")
    sys.stdout.write(TEXT.format(smtp=config.smtp.submission, key=key, http=config.http.listen or "(off)", command=command))
    sys.stdout.flush()
