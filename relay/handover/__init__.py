"""How submission workers hand admitted mail to the main process: frames over a Unix socket, answered only after the commit.

    worker (Link)                        main (Hub)
      SUBMIT number, messages  ─────────►  commit
             ◄─────────  COMMITTED number, message id | REFUSED number, reply
      COUNT number, name ...   ─────────►  counters          (limits hold across workers)
      LARGE number, DONE       ─────────►  granted to one     (large messages are copied once at a time)
      METRICS deltas           ─────────►  absorbed          (one consistent total)
      GUARD address, failed    ◄────────►  told to the others (five failed AUTHs are five, whichever worker heard them)
             ◄─────────  CHANGED kind                        (a key was revoked: drop what you remember)
             ◄─────────  STOP                                (finish transactions, then exit)

A frame is its payload's length, its kind, a number that pairs question and answer, and the payload in MessagePack. Both ends are one installation on
one host, the socket is 0600 and the peer's uid is checked.

What is in flight is bounded on both sides: WELCOME grants a worker its credit in octets, beyond it the client hears 452. When the main process is gone a
worker closes its listeners, looks for a new one for PATIENCE seconds and asks HAVE for each message it still owes an answer: 250 if the store has
it, else 451, so that no client is told 451 for mail that will go out, nor 250 for mail that will not.
"""

from __future__ import annotations

from relay.handover.frames import pack, unpack
from relay.handover.hub import Hub
from relay.handover.link import Link

__all__ = ["Hub", "Link", "pack", "unpack"]
